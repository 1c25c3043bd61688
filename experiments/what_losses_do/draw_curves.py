"""Draw the values of losses without a target image as curves and maps.

    python experiments/what_losses_do/draw_curves.py

Writes docs/images/losses/NAME.png for contrastive, diversity, attention, adversarial, vae and diffusion within seconds.
All values are computed by the losses.
"""

from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lossmith import Adversarial, InfoNCE
from lossmith.losses import KL, AttentionMask, ModeSeeking, PairwiseDiversity
from lossmith.losses.diffusion import denoising_weight
from lossmith.losses.discriminators import Discriminator

matplotlib.use("Agg")
FIGURES = Path(__file__).parents[2] / "docs" / "images" / "losses"
WEIGHTINGS = ("eps", "edm", "flow", "v", "soft-min-snr", "min-snr", "x0")


def draw_contrastive(axes: Axes) -> None:
    """Draw InfoNCE of one image among 64 over the cosine to its own target; the other cosines are 0."""
    cosine = torch.linspace(-1, 1, 201)
    for temperature in (0.07, 0.1, 0.5):
        loss = InfoNCE(temperature, directions="pred").on(negatives="others")
        pred = torch.eye(64)[:1].expand(201, -1)
        target = cosine[:, None] * pred + (1 - cosine.square()).clamp_min(0).sqrt()[:, None] * torch.eye(64)[1]
        own = torch.arange(201) * 0  # one group, so that only the given negatives count, not the other rows
        values = loss.on(groups="own").evaluate(
            {"pred": pred, "target": target, "others": torch.eye(64)[1:], "own": own}
        )
        axes.plot(cosine, values["InfoNCE"], label=f"temperature {temperature}")
    axes.set(xlabel="cosine with its own target (63 others at 0)", ylabel="InfoNCE, nats")
    axes.legend(frameon=False)


def draw_diversity(left: Axes, right: Axes) -> None:
    """Draw both forms of mode seeking over the ratio, and pairwise diversity of two images over their distance."""
    ratio = torch.linspace(0.02, 2, 200)
    zeros, ones = torch.zeros(200, 3, 1, 1), torch.ones(200, 3, 1, 1)
    inputs = {"pred": zeros, "other": ratio.view(-1, 1, 1, 1) * ones, "z": zeros[:, 0], "z_other": ones[:, 0]}
    for loss in (ModeSeeking(), ModeSeeking(1.0)):
        left.plot(ratio, loss.evaluate(inputs)["ModeSeeking"], label=repr(loss))
    left.set(xlabel="distance of samples / distance of their noise", ylim=(0, 8))
    distances = torch.linspace(0, 0.2, 100)
    pairs = [torch.stack([zeros[0], distance * ones[0]]) for distance in distances]
    for margin in (0.1, 0.05):
        right.plot(distances, [PairwiseDiversity(margin)(pair) for pair in pairs], label=f"PairwiseDiversity({margin})")
    right.set(xlabel="mean absolute difference of two images")
    for axes in (left, right):
        axes.legend(frameon=False)


def draw_attention(all_axes: list[Axes]) -> None:
    """Draw an attention map, a region, and the map after optimisation under each kind of AttentionMask."""
    coordinates = torch.linspace(-1, 1, 16)
    region = ((coordinates[:, None] + 0.3).square() + (coordinates - 0.2).square() < 0.2).float()[None]
    start = 0.5 * torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    maps = {"start": start, "region": region}
    for kind in ("outside", "squared", "kl"):
        logits = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=0.1)
        for _ in range(100):
            optimizer.zero_grad()
            AttentionMask(kind)(attention=spatial_softmax(logits), region=region).backward()
            optimizer.step()
        maps[f'"{kind}"'] = logits.detach()
    for axes, (title, values) in zip(all_axes, maps.items(), strict=True):
        axes.imshow((values if title == "region" else spatial_softmax(values))[0], cmap="gray", vmin=0)
        axes.set(title=title, xticks=[], yticks=[])


def spatial_softmax(logits: Tensor) -> Tensor:
    """Return logits (N, H, W) as attention over all positions."""
    return logits.flatten(1).softmax(dim=1).view_as(logits)


class FirstChannelDiscriminator(Discriminator):
    """A discriminator whose logits are the first channel of the image."""

    min_size = 1

    def __init__(self) -> None:
        super().__init__(3, 1, spectral_norm=False)

    def feature_maps(self, image: Tensor) -> list[Tensor]:
        """Return the logit of each pixel."""
        return [image[:, :1]]


def draw_adversarial(axes: Axes) -> None:
    """Draw the generator's loss of each kind over the discriminator's logit."""
    logits = torch.linspace(-4, 4, 161)
    for kind in ("vanilla", "lsgan", "hinge", "relativistic"):
        loss = Adversarial("patch", kind, width=1)
        loss.discriminator_trainer.discriminator = FirstChannelDiscriminator()
        values = [loss(torch.full((1, 3, 1, 1), each.item()), torch.zeros(1, 3, 1, 1)).detach() for each in logits]
        names = {"hinge": "hinge, wasserstein", "relativistic": "relativistic, real logit 0"}
        axes.plot(logits, values, label=names.get(kind, kind))
    axes.set(xlabel="logit of the discriminator: right is real", ylabel="loss of the network", ylim=(-4.2, 9))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def draw_vae(left: Axes, right: Axes) -> None:
    """Draw the KL divergence of one latent over its mean and over its log-variance, without and with free bits."""
    values, zero = torch.linspace(-3, 3, 121), torch.zeros(1, 1)
    for loss in (KL(), KL(free_bits=0.5)):
        left.plot(values, [loss(mu=each.view(1, 1), logvar=zero) for each in values], label=repr(loss))
        right.plot(values, [loss(mu=zero, logvar=each.view(1, 1)) for each in values], label=repr(loss))
    left.set(xlabel="mean, at variance 1", ylabel="nats")
    right.set(xlabel="log-variance, at mean 0")
    left.legend(frameon=False)


def draw_diffusion(axes: Axes) -> None:
    """Draw the weight of the squared error of x over the noise level."""
    logsnr = torch.linspace(-10, 10, 201)
    for weighting in WEIGHTINGS:
        linestyle = "--" if "snr" in weighting else "-"
        axes.semilogy(logsnr, denoising_weight(weighting, logsnr), label=weighting, ls=linestyle)
    axes.set(xlabel="log SNR: left is noise, right is image", ylabel="weight of x's squared error")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def main() -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    panels = {"attention": 5, "diversity": 2, "vae": 2}
    for draw in (draw_contrastive, draw_diversity, draw_attention, draw_adversarial, draw_vae, draw_diffusion):
        name = draw.__name__.removeprefix("draw_")
        count = panels.get(name, 1)
        figure = Figure(
            figsize=(9, 2.2) if count == 5 else (4.4 * count + (2.2 if count == 1 else 0), 3.2), layout="constrained"
        )
        axes = list(figure.subplots(1, count, squeeze=False)[0])
        draw(axes) if count == 5 else draw(*axes)
        figure.savefig(FIGURES / f"{name}.png", dpi=90)


if __name__ == "__main__":
    main()
