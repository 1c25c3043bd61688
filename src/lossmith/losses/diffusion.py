r"""The denoising loss of diffusion and flow networks, and the weighting of noise levels.

A training step mixes an image :math:`x` with noise :math:`\epsilon`, :math:`z = \alpha x + \sigma \epsilon`. The
log-SNR :math:`\lambda = \log \alpha^2 / \sigma^2` describes the noise level. The squared error of every kind of
prediction is that of the image times a function of :math:`\lambda`, so that one weighting applies to all kinds:

========== ===================================================== ================================================
prediction target                                                weight of its error, for weight 1 of x's error
========== ===================================================== ================================================
"x0"       :math:`x`                                             :math:`1`
"eps"      :math:`\epsilon`                                      :math:`e^{-\lambda}`
"v"        :math:`\hat\alpha \epsilon - \hat\sigma x`, with      :math:`1 / (1 + e^\lambda)`
           :math:`\hat\alpha^2 + \hat\sigma^2 = 1`
"flow"     :math:`\epsilon - x`                                  :math:`1 / (1 + e^{\lambda / 2})^2`
"edm"      :math:`(x - c_\mathrm{skip} z) / c_\mathrm{out}`,     :math:`\sigma_d^2 / (1 + \sigma_d^2 e^\lambda)`
           with :math:`z = x + e^{-\lambda / 2} \epsilon`
========== ===================================================== ================================================
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_choice, check_number
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.formula.example_input import ExampleInput
from lossmith.noise_levels import PredictionType

__all__ = ["DenoisingMSE", "denoising_target", "denoising_weight"]

Weighting = Literal["none", "eps", "x0", "v", "flow", "edm", "min-snr", "soft-min-snr"]

_MAX_LOGSNR = 30.0
"""The bound of the absolute log-SNR; a terminal SNR of 0 has log-SNR -inf."""


@final
class DenoisingMSE(Distance):
    r"""Weighted mean squared error of a diffusion network's prediction.

    .. math:: w(\lambda) \cdot \frac{1}{D} \sum_i (\hat y_i - y_i)^2

    with the target :math:`y` and the conversion of weights from the table in :mod:`lossmith.losses.diffusion`. The
    inputs are ``prediction`` (the network's output), ``clean`` and ``noise``, all (N, ...) in the network's own range,
    and ``logsnr``, (N,); only the prediction receives a gradient.

    =================== =============================== ==========================================================
    weighting           weight of x's squared error     used by
    =================== =============================== ==========================================================
    "none"              that of the prediction's name   no weight on the network's own target
    "eps"               :math:`s = e^\lambda`           DDPM's simple loss
    "x0"                1                               mean squared error of images
    "v"                 :math:`1 + s`                   progressive distillation's SNR + 1
    "flow"              :math:`(1 + \sqrt s)^2`         rectified flow
    "edm"               :math:`s + 1 / \sigma_d^2`      Karras et al.: no weight on their own target
    "min-snr"           :math:`\min(s, \gamma)`         Hang et al., gamma 5
    "soft-min-snr"      :math:`s \gamma / (s + \gamma)` Crowson et al. with :math:`\gamma = 1 / \sigma_d^2`; the sigmoid
                                                        weighting of Hoogeboom et al. with bias :math:`\log \gamma`;
                                                        P2 weighting with gamma 1 (its k = gamma = 1)
    =================== =============================== ==========================================================

    The distribution from which a task samples noise levels is a further weighting.

    References:
        | Denoising Diffusion Probabilistic Models (Ho et al., 2020)
        | https://arxiv.org/abs/2006.11239
        | Efficient Diffusion Training via Min-SNR Weighting Strategy (Hang et al., 2023)
        | https://arxiv.org/abs/2303.09556
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022)
        | https://arxiv.org/abs/2206.00364
        | Progressive Distillation for Fast Sampling of Diffusion Models (Salimans and Ho, 2022), for v
        | https://arxiv.org/abs/2202.00512

    Args:
        prediction: The kind of prediction: "eps", "x0", "v", "flow" or "edm".
        weighting: The weighting of noise levels, see the table.
        gamma: The signal-to-noise ratio at which the two min-SNR weightings saturate; positive.
        sigma_data: The standard deviation of the clean values, for "edm" as prediction or weighting; positive.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the shapes do not match.

    Example:
        >>> clean, noise, logsnr = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4), torch.tensor([0.0])
        >>> inputs = {"clean": clean, "noise": noise, "logsnr": logsnr}
        >>> DenoisingMSE("eps")(prediction=torch.zeros_like(noise), **inputs)
        tensor(1.)
        >>> DenoisingMSE("flow", weighting="min-snr")(prediction=torch.zeros_like(noise), **inputs)
        tensor(0.2500)
    """

    citation_keys = ("ho2020", "hang2023", "karras2022", "salimans2022")
    reads_images = False
    is_mean_seeking = True
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {
        "prediction": ExampleInput("normal"),
        "clean": ExampleInput("normal", requires_grad=False),
        "noise": ExampleInput("normal", requires_grad=False),
        "logsnr": ExampleInput("normal", (), requires_grad=False),
    }

    def __init__(
        self,
        prediction: PredictionType = "eps",
        *,
        weighting: Weighting = "none",
        gamma: float = 5.0,
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__()
        self.prediction: PredictionType = check_choice("DenoisingMSE prediction", prediction, PredictionType)
        self.weighting: Weighting = check_choice("DenoisingMSE weighting", weighting, Weighting)
        check_number("DenoisingMSE gamma", gamma, low=0, open_low=True)
        check_number("DenoisingMSE sigma_data", sigma_data, low=0, open_low=True)
        self.gamma, self.sigma_data = gamma, sigma_data

    def measure(self, prediction: Tensor, clean: Tensor, noise: Tensor, logsnr: Tensor) -> Tensor:
        """Compute the weighted error of each image, (N,)."""
        if not prediction.shape == clean.shape == noise.shape or logsnr.shape != prediction.shape[:1]:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (prediction, clean, noise, logsnr))
            raise ValueError(f"{self!r} needs prediction, clean and noise (N, ...) and logsnr (N,); got {shapes}.")
        logsnr = logsnr.detach()
        target = denoising_target(self.prediction, clean, noise, logsnr, sigma_data=self.sigma_data).detach()
        error = (prediction - target).square().flatten(1).mean(dim=1)
        if self.weighting in ("none", self.prediction):
            return error
        return error * denoising_weight(
            self.weighting, logsnr, self.prediction, gamma=self.gamma, sigma_data=self.sigma_data
        )

    def __repr__(self) -> str:
        return repr_of(
            self,
            *([] if self.prediction == "eps" else [self.prediction]),
            weighting=None if self.weighting == "none" else self.weighting,
            gamma=None if self.gamma == 5.0 else self.gamma,
            sigma_data=None if self.sigma_data == 0.5 else self.sigma_data,
        )


def denoising_target(
    prediction: PredictionType, clean: Tensor, noise: Tensor, logsnr: Tensor, *, sigma_data: float = 0.5
) -> Tensor:
    """Compute the target of a network's prediction.

    Args:
        prediction: The kind of prediction.
        clean: Clean values (N, ...).
        noise: Noise of the same shape.
        logsnr: The log-SNR of each image, (N,).
        sigma_data: The standard deviation of the clean values, for "edm".

    Returns:
        The target, of the shape of `clean`.
    """
    level = _clamp_logsnr(logsnr).view(-1, *(1,) * (clean.dim() - 1))
    if prediction == "eps":
        return noise
    if prediction == "x0":
        return clean
    if prediction == "v":
        return F.logsigmoid(level).div(2).exp() * noise - F.logsigmoid(-level).div(2).exp() * clean
    if prediction == "flow":
        return noise - clean
    ratio = torch.exp(-level / 2) / sigma_data  # of the standard deviations of noise and data
    return (ratio / sigma_data * clean - noise) / (1 + ratio.square()).sqrt()


def denoising_weight(
    weighting: Weighting,
    logsnr: Tensor,
    prediction: PredictionType = "x0",
    *,
    gamma: float = 5.0,
    sigma_data: float = 0.5,
) -> Tensor:
    """Compute the weight of a prediction's squared error.

    Args:
        weighting: The weighting of noise levels.
        logsnr: The log-SNR of each image, (N,).
        prediction: The kind of prediction.
        gamma: The signal-to-noise ratio at which the two min-SNR weightings saturate.
        sigma_data: The standard deviation of the clean values, for "edm".

    Returns:
        The weights (N,).
    """
    level = _clamp_logsnr(logsnr)
    if weighting == "none":
        weighting = prediction
    if weighting == "min-snr":
        log_weight = level.clamp_max(math.log(gamma))
    elif weighting == "soft-min-snr":
        log_weight = math.log(gamma) + F.logsigmoid(level - math.log(gamma))
    else:
        log_weight = -_log_error_ratio(weighting, level, sigma_data)
    return (log_weight + _log_error_ratio(prediction, level, sigma_data)).exp()


def _log_error_ratio(prediction: str, level: Tensor, sigma_data: float) -> Tensor:
    """Return the logarithm of x's squared error for a squared error of 1 of the prediction, (N,)."""
    if prediction == "x0":
        return torch.zeros_like(level)
    if prediction == "eps":
        return -level
    if prediction == "v":
        return F.logsigmoid(-level)
    if prediction == "flow":
        return 2 * F.logsigmoid(-level / 2)
    return 2 * math.log(sigma_data) + F.logsigmoid(-level - 2 * math.log(sigma_data))


def _clamp_logsnr(logsnr: Tensor) -> Tensor:
    return logsnr.clamp(-_MAX_LOGSNR, _MAX_LOGSNR)
