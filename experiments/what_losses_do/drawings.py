"""What losses without a target picture ask for, as curves and maps; the losses themselves are asked for every value.

    python experiments/what_losses_do/drawings.py

Writes docs/images/losses/NAME.png for contrastive, diversity, attention, adversarial, vae and diffusion; some seconds.
"""

from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from lossmith import KL, Adversarial, AttentionMask, InfoNCE, ModeSeeking, PairwiseDiversity
from lossmith.losses.diffusion import denoising_weight

matplotlib.use("Agg")
PICTURES = Path(__file__).parents[2] / "docs" / "images" / "losses"
WEIGHTINGS = ("eps", "edm", "flow", "v", "soft-min-snr", "min-snr", "x0")


def contrastive(axis: Axes) -> None:
    """InfoNCE of one image among 64 over the cosine with its own target; with the other targets it is 0."""
    cosine = torch.linspace(-1, 1, 201)
    for temperature in (0.07, 0.1, 0.5):
        loss = InfoNCE(temperature, directions="pred").on(negatives="others")
        pred = torch.eye(64)[:1].expand(201, -1)
        target = cosine[:, None] * pred + (1 - cosine.square()).clamp_min(0).sqrt()[:, None] * torch.eye(64)[1]
        own = torch.arange(201) * 0  # of one group: the other rows are no negatives, the given ones are
        values = loss.on(groups="own").evaluate(
            {"pred": pred, "target": target, "others": torch.eye(64)[1:], "own": own}
        )
        axis.plot(cosine, values["InfoNCE"], label=f"temperature {temperature}")
    axis.set(xlabel="cosine with its own target (63 others at 0)", ylabel="InfoNCE, nats")
    axis.legend(frameon=False)


def diversity(axis: Axes, beside: Axes) -> None:
    """Both forms of mode seeking over the ratio, and a batch of two over its distance."""
    ratio = torch.linspace(0.02, 2, 200)
    zeros, ones = torch.zeros(200, 3, 1, 1), torch.ones(200, 3, 1, 1)
    views = {"pred": zeros, "other": ratio.view(-1, 1, 1, 1) * ones, "z": zeros[:, 0], "z_other": ones[:, 0]}
    for loss in (ModeSeeking(), ModeSeeking(1.0)):
        axis.plot(ratio, loss.evaluate(views)["ModeSeeking"], label=repr(loss))
    axis.set(xlabel="distance of samples / distance of their noise", ylim=(0, 8))
    apart = torch.linspace(0, 0.2, 100)
    pairs = [torch.stack([zeros[0], distance * ones[0]]) for distance in apart]
    for margin in (0.1, 0.05):
        beside.plot(apart, [PairwiseDiversity(margin)(pair) for pair in pairs], label=f"PairwiseDiversity({margin})")
    beside.set(xlabel="mean absolute difference of two pictures")
    for each in (axis, beside):
        each.legend(frameon=False)


def attention(axes: list[Axes]) -> None:
    """Where attention goes under each kind, from one map of noise."""
    place = torch.linspace(-1, 1, 16)
    region = ((place[:, None] + 0.3).square() + (place - 0.2).square() < 0.2).float()[None]
    begun = 0.5 * torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    maps = {"begun": begun, "region": region}
    for kind in ("outside", "squared", "kl"):
        logits = begun.clone().requires_grad_()
        adam = torch.optim.Adam([logits], lr=0.1)
        for _ in range(100):
            adam.zero_grad()
            AttentionMask(kind)(attention=softmax(logits), region=region).backward()
            adam.step()
        maps[f'"{kind}"'] = logits.detach()
    for axis, (title, shown) in zip(axes, maps.items(), strict=True):
        axis.imshow((shown if title == "region" else softmax(shown))[0], cmap="gray", vmin=0)
        axis.set(title=title, xticks=[], yticks=[])


def softmax(logits: Tensor) -> Tensor:
    """Logits (N, H, W) as attention over all places."""
    return logits.flatten(1).softmax(dim=1).view_as(logits)


class Verdict(nn.Module):
    """A critic whose verdict on a picture is its value."""

    channels, smallest = 3, 1

    def forward(self, image: Tensor) -> Tensor:
        """The verdict on each pixel."""
        return image[:, :1]


def adversarial(axis: Axes) -> None:
    """What each kind charges the network, over the critic's verdict on its picture."""
    verdict = torch.linspace(-4, 4, 161)
    for kind in ("vanilla", "lsgan", "hinge", "relativistic"):
        loss = Adversarial("patch", kind, width=1)
        loss.learner.critic = Verdict()
        values = [loss(torch.full((1, 3, 1, 1), each.item()), torch.zeros(1, 3, 1, 1)).detach() for each in verdict]
        names = {"hinge": "hinge, wasserstein", "relativistic": "relativistic, where real has 0"}
        axis.plot(verdict, values, label=names.get(kind, kind))
    axis.set(xlabel="the critic's verdict: right is real", ylabel="what the network lowers", ylim=(-4.2, 9))
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def vae(axis: Axes, beside: Axes) -> None:
    """The divergence of one latent over its mean, and over its log-variance; with free bits it rests."""
    at, zero = torch.linspace(-3, 3, 121), torch.zeros(1, 1)
    for loss in (KL(), KL(free_bits=0.5)):
        axis.plot(at, [loss(mu=each.view(1, 1), logvar=zero) for each in at], label=repr(loss))
        beside.plot(at, [loss(mu=zero, logvar=each.view(1, 1)) for each in at], label=repr(loss))
    axis.set(xlabel="mean, where the variance is 1", ylabel="nats")
    beside.set(xlabel="log-variance, where the mean is 0")
    axis.legend(frameon=False)


def diffusion(axis: Axes) -> None:
    """What an error of the picture weighs at each level of noise."""
    level = torch.linspace(-10, 10, 201)
    for weighting in WEIGHTINGS:
        axis.semilogy(level, denoising_weight(weighting, level), label=weighting, ls="--" if "snr" in weighting else "-")
    axis.set(xlabel="log SNR: left is noise, right is picture", ylabel="weight of x's squared error")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    wide = {"attention": 5, "diversity": 2, "vae": 2}
    for draw in (contrastive, diversity, attention, adversarial, vae, diffusion):
        count = wide.get(draw.__name__, 1)
        figure = Figure(
            figsize=(9, 2.2) if count == 5 else (4.4 * count + (2.2 if count == 1 else 0), 3.2), layout="constrained"
        )
        axes = list(figure.subplots(1, count, squeeze=False)[0])
        draw(axes) if count == 5 else draw(*axes)
        figure.savefig(PICTURES / f"{draw.__name__}.png", dpi=90)


if __name__ == "__main__":
    main()
