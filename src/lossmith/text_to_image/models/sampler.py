"""Sampling: from noise and a text to a picture, in steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final, get_args

import torch
from torch import Tensor

from lossmith.noise_levels import Levels, x0_from
from lossmith.text_to_image.models.conditioning import Text
from lossmith.text_to_image.models.denoiser import Denoiser

__all__ = ["Sampler", "noise_of", "sample", "thresholded"]

Solver = Literal["euler", "heun", "ddim", "dpm++"]


@final
@dataclass(frozen=True, kw_only=True)
class Sampler:
    r"""How a picture is sampled.

    Guidance takes :math:`\hat x = \hat x_\emptyset + w (\hat x_c - \hat x_\emptyset)`, from what the network sees with
    the text and without. Dynamic thresholding brings the predicted picture, whatever the network predicts, back to
    [-1, 1] where its larger values leave it.

    References:
        | Classifier-Free Diffusion Guidance (Ho and Salimans, 2022), https://arxiv.org/abs/2207.12598
        | Applying Guidance in a Limited Interval (Kynkäänniemi et al., 2024), https://arxiv.org/abs/2404.07724
        | Photorealistic Text-to-Image Diffusion Models (Saharia et al., 2022), for the thresholding
        | https://arxiv.org/abs/2205.11487

    Args:
        solver: "euler" or "heun" (twice the passes), of our own, for every schedule; "ddim" or "dpm++", of diffusers.
        steps: How many.
        guidance: The weight :math:`w`; 1 for none, 0 to leave the text out.
        interval: The noise levels between which guidance acts, as times of a flow, 0 (picture) to 1 (noise).
        threshold: The part of a picture's values that shall stay within [-1, 1]; 1 leaves all as they are.
        cap: How far the largest values are followed before they are simply cut.

    Raises:
        ValueError: An argument that cannot be.
    """

    solver: Solver = "euler"
    steps: int = 25
    guidance: float = 2.0
    interval: tuple[float, float] = (0.0, 1.0)
    threshold: float = 0.995
    cap: float = 2.0

    def __post_init__(self) -> None:
        if self.solver not in get_args(Solver):
            raise ValueError(f"There are the samplers {', '.join(get_args(Solver))}; got {self.solver!r}.")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or not 1 <= self.steps <= 1000:
            raise ValueError(f"A sampling wants 1 to 1000 steps; got {self.steps!r}.")
        if not 0 <= self.guidance <= 100:
            raise ValueError(f"Guidance wants a weight of 0 to 100; got {self.guidance!r}.")
        low, high = self.interval
        if not 0 <= low < high <= 1:
            raise ValueError(f"The interval of guidance lies in 0 to 1; got {self.interval!r}.")
        if not 0.5 <= self.threshold <= 1:
            raise ValueError(f"A threshold is the part of the values that stays, 0.5 to 1; got {self.threshold!r}.")
        if not self.cap >= 1:
            raise ValueError(f"A cap is at least 1; got {self.cap!r}.")


@torch.no_grad()
def sample(
    model: Denoiser,
    text: Text,
    noise: Tensor,
    sampler: Sampler | None = None,
    *,
    small: Tensor | None = None,
    spoilt: Tensor | None = None,
) -> Tensor:
    """Pictures (N, 3, S, S) in [0, 1] of texts.

    Args:
        model: The network, in eval mode.
        text: What is to be seen, N texts.
        noise: What each picture begins as, (N, 3, S, S), standard normal; see :func:`noise_of`.
        sampler: How; the usual way if it is None.
        small: For a later stage of a cascade, see :class:`Denoiser`.
        spoilt: The same.

    Raises:
        ValueError: The solver cannot be had with the network's schedule.
    """
    sampler = sampler or Sampler()

    def clean(noisy: Tensor, t: Tensor) -> Tensor:
        return guided(model, noisy, t.to(noisy).expand(len(noisy)), text, sampler, small, spoilt)

    if sampler.solver in ("ddim", "dpm++"):
        from lossmith.text_to_image.models.diffusers_sampler import by_scheduler

        found = by_scheduler(model.levels, noise, clean, sampler.solver, sampler.steps)
    else:
        path = model.levels.path(sampler.steps, model.prediction)
        found = solved(model.levels, noise, clean, path, heun=sampler.solver == "heun")
    return ((found + 1) / 2).clamp(0, 1)


def solved(
    levels: Levels, noise: Tensor, clean: Callable[[Tensor, Tensor], Tensor], path: Tensor, *, heun: bool
) -> Tensor:
    """Follows the probability flow along some times by Euler's method, or by Heun's."""

    def slope(noisy: Tensor, t: Tensor, sigma: Tensor) -> Tensor:
        x = clean(noisy, t)
        rise, fall = levels.slopes(t)
        return rise * x + fall * (noisy - levels.alpha(t) * x) / sigma

    noisy = noise * levels.sigma(path[0])
    for now, after in pairwise(path):
        if levels.sigma(after) == 0:  # the last step: what is left is the picture
            return clean(noisy, now) * levels.alpha(after)
        step = after - now
        direction = slope(noisy, now, levels.sigma(now))
        ahead = noisy + step * direction
        if heun:
            ahead = noisy + step * (direction + slope(ahead, after, levels.sigma(after))) / 2
        noisy = ahead.to(noise.dtype)
    return clean(noisy, path[-1])


def guided(
    model: Denoiser,
    noisy: Tensor,
    t: Tensor,
    text: Text,
    sampler: Sampler,
    small: Tensor | None = None,
    spoilt: Tensor | None = None,
) -> Tensor:
    """The clean picture that a network sees in a noisy one, guided and thresholded, (N, 3, S, S) in [-1, 1]."""
    low, high = sampler.interval
    shift = float(model.levels.shift(t)[0])
    weight = sampler.guidance if low <= shift <= high else 1.0
    n = len(noisy)
    silent = text.without(torch.ones(n, dtype=torch.bool, device=noisy.device))
    asked = {0.0: [silent], 1.0: [text]}.get(weight, [text, silent])
    whole = Text(*(torch.cat(parts) for parts in zip(*asked, strict=True)))
    times = len(asked)
    beside = {
        name: view.repeat(times, *(1,) * (view.dim() - 1))
        for name, view in (("small", small), ("spoilt", spoilt))
        if view is not None
    }
    inputs, at = noisy.repeat(times, 1, 1, 1), t.repeat(times)
    output = model(inputs, at, whole, **beside).output
    x = x0_from(
        model.prediction, output, inputs, model.levels.alpha(at), model.levels.sigma(at), sigma_data=model.sigma_data
    )
    if times == 2:
        with_text, without = x[:n], x[n:]
        x = without + weight * (with_text - without)
    return thresholded(x, sampler.threshold, sampler.cap)


def thresholded(x: Tensor, part: float = 0.995, cap: float = 2.0) -> Tensor:
    r"""Imagen's dynamic thresholding: a picture whose values leave [-1, 1] is brought back as a whole.

    .. math:: \operatorname{clip}(x, -s, s) / s, \qquad s = \min(\max(1, q_p(\lvert x \rvert)), c)

    Args:
        x: (N, C, H, W).
        part: The quantile :math:`p`; with 1 nothing is done.
        cap: The largest :math:`s`. With 1 it is a mere clip to [-1, 1], which is diffusers' default.

    Example:
        >>> thresholded(torch.tensor([0.5, 3.0]).view(1, 1, 1, 2), 1.0).flatten()
        tensor([0.5000, 3.0000])
        >>> thresholded(torch.tensor([1.0, 2.0]).view(1, 1, 1, 2), 0.999).flatten()
        tensor([0.5003, 1.0000])
    """
    if part == 1:
        return x
    extent = torch.quantile(x.float().abs().flatten(1), part, dim=1).clamp(1, cap).to(x).view(-1, 1, 1, 1)
    return x.clamp(-extent, extent) / extent


def noise_of(seeds: Sequence[int], side: int) -> Tensor:
    """The noise that pictures begin as, (N, 3, S, S): each a function of its seed alone, not of its neighbours."""
    each = [torch.randn(3, side, side, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(each)
