r"""Noise levels: how much picture and how much noise there is at each time of a diffusion.

At time :math:`t` a step mixes :math:`z = \alpha_t x + \sigma_t \epsilon`; all that matters of a level is
:math:`\lambda = \log \alpha^2 / \sigma^2`.

======== ====================== ====================== ======================================================
schedule :math:`\alpha_t`       :math:`\sigma_t`       times
======== ====================== ====================== ======================================================
"flow"   :math:`1 - t`          :math:`t`              0 to 1
"cosine" :math:`\cos \varphi`   :math:`\sin \varphi`   0 to 1, :math:`\varphi` such that λ goes from 15 to -15
"edm"    1                      :math:`t`              0.002 to 80
======== ====================== ====================== ======================================================
"""

import math
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from torch import Tensor

__all__ = ["NoiseSchedule", "Prediction", "Schedule", "output_from_x0", "x0_from_output"]

Schedule = Literal["flow", "cosine", "edm"]
Prediction = Literal["eps", "x0", "v", "flow", "edm"]

END = 15.0
LOW, HIGH = (math.atan(math.exp(end / 2)) for end in (-END, END))
"""The angles between which the cosine schedule turns, as in simple diffusion; nothing is all noise there."""
FLOW_END = 1 / (1 + math.exp(-END / 2))
"""The time of a flow that has as little of a picture."""
SIGMAS = (0.002, 80.0)
"""The ends of EDM's levels."""


@final
@dataclass(frozen=True)
class NoiseSchedule:
    """A schedule.

    Args:
        schedule: "flow", "cosine" or "edm".

    Raises:
        ValueError: Another schedule.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | simple diffusion: End-to-end diffusion for high resolution images (Hoogeboom et al., 2023)
        | Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024)

    Example:
        >>> Levels("flow").logsnr(torch.tensor([0.5]))
        tensor([0.])
    """

    schedule: Schedule = "flow"

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            raise ValueError(f"There are the schedules {', '.join(get_args(Schedule))}; got {self.schedule!r}.")

    def alpha(self, t: Tensor) -> Tensor:
        """How much of the picture there is at some times."""
        if self.schedule == "flow":
            return 1 - t
        return torch.cos(cosine_angle(t)) if self.schedule == "cosine" else torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """How much noise."""
        return torch.sin(cosine_angle(t)) if self.schedule == "cosine" else t

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """How alpha and sigma change with the time."""
        if self.schedule == "cosine":
            return -self.sigma(t) * (HIGH - LOW), self.alpha(t) * (HIGH - LOW)
        still, moving = torch.zeros_like(t), torch.ones_like(t)
        return (-moving if self.schedule == "flow" else still), moving

    def logsnr(self, t: Tensor) -> Tensor:
        """The logarithm of signal to noise."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def flow_time(self, t: Tensor) -> Tensor:
        """The time of a flow that has as much signal to noise: one clock for all schedules, 0 to 1."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        return sigma / (alpha + sigma)

    def timesteps(self, t: Tensor) -> Tensor:
        """What a network is told of the time: up to 1000, the range that sinusoidal embeddings are made for."""
        return 250 * t.log() if self.schedule == "edm" else 1000 * t

    def sample_times(self, like: Tensor) -> Tensor:
        """A time for each picture of a batch, (N,).

        A flow takes one half evenly and one half from a logit-normal with mean 0.5, which is where the layout of a
        small picture is decided; the cosine schedule evenly; EDM log-normally, mean -1.2 and deviation 1.2.
        """
        n, device = len(like), like.device
        even, normal, which = torch.rand(n, device=device), torch.randn(n, device=device), torch.rand(n, device=device)
        if self.schedule == "edm":
            return (1.2 * normal - 1.2).exp().clamp(*SIGMAS)
        return even if self.schedule == "cosine" else torch.where(which < 0.5, even, torch.sigmoid(normal + 0.5))

    def sampling_times(self, steps: int, prediction: Prediction = "x0") -> Tensor:
        """The times of a sampling from noise to picture, (steps + 1,); EDM's with its rho of 7, and 0 at the end.

        Where the noise is predicted, which in nothing but noise tells of no picture, a flow begins at the log-SNR at
        which the cosine schedule does.
        """
        if self.schedule != "edm":
            start = FLOW_END if (self.schedule, prediction) == ("flow", "eps") else 1.0
            return torch.linspace(start, 0, steps + 1, dtype=torch.float64)
        high, low = SIGMAS[1] ** (1 / 7), SIGMAS[0] ** (1 / 7)
        return torch.cat([torch.linspace(high, low, steps, dtype=torch.float64) ** 7, torch.zeros(1).double()])


def cosine_angle(t: Tensor) -> Tensor:
    """The cosine schedule's angle."""
    return LOW + t * (HIGH - LOW)


def x0_from_output(
    prediction: Prediction,
    output: Tensor,
    noisy: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    *,
    sigma_data: float = 0.5,
) -> Tensor:
    r"""The clean picture that a network's output stands for, on which any other loss may act.

    Args:
        prediction: What the network predicts.
        output: What it gave, (N, ...).
        noisy: What it saw, :math:`z = \alpha x + \sigma \epsilon`, however alpha and sigma are scaled.
        alpha: How much of the picture is in there, (N,). At 0, an "eps" prediction tells nothing of it.
        sigma: How much noise, (N,).
        sigma_data: The deviation of the clean values, for "edm".

    Example:
        >>> from lossmith import L1, DenoisingMSE, Gate
        >>> loss = DenoisingMSE("flow") + Gate() * L1().on(pred="x0", target="clean")
        >>> x, noise, t = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8), torch.tensor([0.1, 0.9])
        >>> z = t.view(-1, 1, 1, 1) * noise
        >>> out, logsnr = noise - x, 2 * torch.log((1 - t) / t)
        >>> views = {"prediction": out, "clean": x, "noise": noise, "logsnr": logsnr}
        >>> loss(**views, x0=x0_from_output("flow", out, z, 1 - t, t))
        tensor(0.)
    """
    alpha, sigma = (v.view(-1, *(1,) * (noisy.dim() - 1)) for v in (alpha, sigma))
    if prediction == "x0":
        return output
    if prediction == "eps":
        return (noisy - sigma * output) / alpha
    if prediction == "flow":
        return (noisy - sigma * output) / (alpha + sigma)
    if prediction == "v":
        squares = alpha.square() + sigma.square()
        return (alpha * noisy - sigma * squares.sqrt() * output) / squares
    level = sigma / sigma_data  # z / alpha has this noise, in units of the data
    room = alpha.square() + level.square()
    return (alpha * noisy + sigma * room.sqrt() * output) / room


def output_from_x0(
    prediction: Prediction, x0: Tensor, noisy: Tensor, alpha: Tensor, sigma: Tensor, *, sigma_data: float = 0.5
) -> Tensor:
    """The output of a network that stands for a clean picture: :func:`x0_from_output` the other way."""
    alpha, sigma = (v.view(-1, *(1,) * (noisy.dim() - 1)) for v in (alpha, sigma))
    if prediction == "x0":
        return x0
    if prediction == "eps":
        return (noisy - alpha * x0) / sigma
    if prediction == "flow":
        return (noisy - (alpha + sigma) * x0) / sigma
    if prediction == "v":
        squares = alpha.square() + sigma.square()
        return (alpha * noisy - squares * x0) / (sigma * squares.sqrt())
    level = sigma / sigma_data
    room = alpha.square() + level.square()
    return (room * x0 - alpha * noisy) / (sigma * room.sqrt())
