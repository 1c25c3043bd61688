r"""Noise schedules of diffusion models, and conversions between their predictions.

At time :math:`t` a noisy image is :math:`z = \alpha_t x + \sigma_t \epsilon`; its noise level is determined by the
log-SNR :math:`\lambda = \log \alpha^2 / \sigma^2`.

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
from typing import Literal, final

import torch
from torch import Tensor

from lossmith._checks import check_choice

__all__ = ["NoiseSchedule", "NoiseScheduleName", "PredictionType", "output_from_x0", "x0_from_output"]

NoiseScheduleName = Literal["flow", "cosine", "edm"]
PredictionType = Literal["eps", "x0", "v", "flow", "edm"]

MAX_LOGSNR = 15.0
"""Largest absolute log-SNR of the cosine schedule, as in simple diffusion; no level is pure noise."""
MIN_ANGLE, MAX_ANGLE = (math.atan(math.exp(end / 2)) for end in (-MAX_LOGSNR, MAX_LOGSNR))
"""The angles at the ends of the cosine schedule."""
FLOW_END = 1 / (1 + math.exp(-MAX_LOGSNR / 2))
"""The time of a flow with the smallest log-SNR of the cosine schedule."""
EDM_SIGMAS = (0.002, 80.0)
"""Smallest and largest noise level of EDM."""
EDM_RHO = 7
EDM_LOG_MEAN, EDM_LOG_STD = -1.2, 1.2
NUM_TIMESTEPS = 1000.0
"""Range of the timesteps for which sinusoidal embeddings are designed."""


@final
@dataclass(frozen=True)
class NoiseSchedule:
    """A noise schedule.

    Args:
        schedule: "flow", "cosine" or "edm".

    Raises:
        ValueError: The schedule is unknown.

    References:
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | simple diffusion: End-to-end diffusion for high resolution images (Hoogeboom et al., 2023)
        | Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024)

    Example:
        >>> NoiseSchedule("flow").logsnr(torch.tensor([0.5]))
        tensor([0.])
    """

    schedule: NoiseScheduleName = "flow"

    def __post_init__(self) -> None:
        check_choice("The noise schedule", self.schedule, NoiseScheduleName)

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the clean image at times t."""
        if self.schedule == "flow":
            return 1 - t
        return torch.cos(_cosine_angle(t)) if self.schedule == "cosine" else torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise at times t."""
        return torch.sin(_cosine_angle(t)) if self.schedule == "cosine" else t

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives of alpha and sigma with respect to time."""
        if self.schedule == "cosine":
            return -self.sigma(t) * (MAX_ANGLE - MIN_ANGLE), self.alpha(t) * (MAX_ANGLE - MIN_ANGLE)
        zero, one = torch.zeros_like(t), torch.ones_like(t)
        return (-one if self.schedule == "flow" else zero), one

    def logsnr(self, t: Tensor) -> Tensor:
        """Return the log signal-to-noise ratio at times t."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def flow_time(self, t: Tensor) -> Tensor:
        """Return the time from 0 to 1 at which a flow has the same log-SNR."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        return sigma / (alpha + sigma)

    def timesteps(self, t: Tensor) -> Tensor:
        """Return the times as inputs of a sinusoidal embedding, up to about 1000."""
        return 250 * t.log() if self.schedule == "edm" else NUM_TIMESTEPS * t

    def sample_times(self, like: Tensor) -> Tensor:
        """Draw a training time for each image of a batch, (N,), on its device.

        A flow draws one half of the times uniformly and the other half from a logit-normal distribution with mean 0.5,
        where the layout of a small image is decided; the cosine schedule draws uniformly; EDM log-normally, with mean
        -1.2 and standard deviation 1.2.
        """
        n, device = len(like), like.device
        uniform = torch.rand(n, device=device)
        normal, which = torch.randn(n, device=device), torch.rand(n, device=device)
        if self.schedule == "edm":
            return (EDM_LOG_STD * normal + EDM_LOG_MEAN).exp().clamp(*EDM_SIGMAS)
        return uniform if self.schedule == "cosine" else torch.where(which < 0.5, uniform, torch.sigmoid(normal + 0.5))

    def sampling_times(self, steps: int, prediction: PredictionType = "x0") -> Tensor:
        """Return the times of sampling from noise to image, (steps + 1,); those of EDM with rho = 7 and a final 0.

        With a noise prediction, which contains no information on the image at pure noise, a flow starts at the log-SNR
        at which the cosine schedule starts.
        """
        if self.schedule != "edm":
            start = FLOW_END if (self.schedule, prediction) == ("flow", "eps") else 1.0
            return torch.linspace(start, 0, steps + 1, dtype=torch.float64)
        high, low = EDM_SIGMAS[1] ** (1 / EDM_RHO), EDM_SIGMAS[0] ** (1 / EDM_RHO)
        sigmas = torch.linspace(high, low, steps, dtype=torch.float64) ** EDM_RHO
        return torch.cat([sigmas, torch.zeros(1).double()])


def x0_from_output(
    prediction: PredictionType,
    output: Tensor,
    noisy: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    *,
    sigma_data: float = 0.5,
) -> Tensor:
    r"""Return the clean image that a network's output implies; any image loss can be applied to it.

    Args:
        prediction: Prediction type of the network.
        output: Output of the network, (N, ...).
        noisy: Input of the network, :math:`z = \alpha x + \sigma \epsilon`; a common factor of alpha and sigma is
            allowed.
        alpha: Factor of the clean image, (N,). At 0, a prediction "eps" implies no image.
        sigma: Factor of the noise, (N,).
        sigma_data: Standard deviation of the clean values, for "edm".

    Returns:
        The clean image, (N, ...).

    Example:
        >>> from lossmith import L1, Gate
        >>> from lossmith.losses import DenoisingMSE
        >>> loss = DenoisingMSE("flow") + Gate() * L1().on(pred="x0", target="clean")
        >>> x, noise, t = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8), torch.tensor([0.1, 0.9])
        >>> z = t.view(-1, 1, 1, 1) * noise
        >>> out, logsnr = noise - x, 2 * torch.log((1 - t) / t)
        >>> inputs = {"prediction": out, "clean": x, "noise": noise, "logsnr": logsnr}
        >>> loss(**inputs, x0=x0_from_output("flow", out, z, 1 - t, t))
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
    level = sigma / sigma_data  # noise level of z / alpha in units of the data's deviation
    squares = alpha.square() + level.square()
    return (alpha * noisy + sigma * squares.sqrt() * output) / squares


def output_from_x0(
    prediction: PredictionType, x0: Tensor, noisy: Tensor, alpha: Tensor, sigma: Tensor, *, sigma_data: float = 0.5
) -> Tensor:
    """Return the network output that implies a clean image, the inverse of :func:`x0_from_output`."""
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
    squares = alpha.square() + level.square()
    return (squares * x0 - alpha * noisy) / (sigma * squares.sqrt())


def _cosine_angle(t: Tensor) -> Tensor:
    """Return the angle of the cosine schedule at times t."""
    return MIN_ANGLE + t * (MAX_ANGLE - MIN_ANGLE)
