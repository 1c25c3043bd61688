r"""Denoising: what a diffusion or flow network is trained for, and how noise levels are weighed.

A step mixes a picture :math:`x` with noise :math:`\epsilon`, :math:`z = \alpha x + \sigma \epsilon`, and its
:math:`\lambda = \log \alpha^2 / \sigma^2` says all about the level. Whatever a network predicts, its squared error is
that of the picture times a function of :math:`\lambda`, so that one weighting holds for all:

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
from typing import Literal, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._repr import quoted, spelled
from lossmith.formula.distance import Distance
from lossmith.noise_levels import Prediction, x0_from

__all__ = ["Denoising", "target_of", "weight_of", "x0_from"]

Weighting = Literal["none", "eps", "x0", "v", "flow", "edm", "min-snr", "soft-min-snr"]

FARTHEST = 30.0
"""Levels beyond e^30 of signal to noise count as that: at a terminal SNR of 0, whose logarithm is -inf, too."""


@final
class Denoising(Distance):
    r"""The weighted squared error of what a diffusion network predicts.

    .. math:: w(\lambda) \cdot \frac{1}{D} \sum_i (\hat y_i - y_i)^2

    with the target :math:`y` and the conversion of weights from the table in :mod:`lossmith.losses.diffusion`. It reads
    the views ``prediction`` (the network's output), ``clean``, ``noise``, (N, ...) all three, in the network's own
    range, and ``logsnr``, (N,); only the prediction learns.

    =================== =============================== ==========================================================
    weighting           weight of x's squared error     as in
    =================== =============================== ==========================================================
    "none"              that of the prediction's name   no weight on the network's own target
    "eps"               :math:`s = e^\lambda`           DDPM's simple loss
    "x0"                1                               mean squared error of pictures
    "v"                 :math:`1 + s`                   progressive distillation's SNR + 1
    "flow"              :math:`(1 + \sqrt s)^2`         rectified flow
    "edm"               :math:`s + 1 / \sigma_d^2`      Karras et al.: no weight on their own target
    "min-snr"           :math:`\min(s, \gamma)`         Hang et al., gamma 5
    "soft-min-snr"      :math:`s \gamma / (s + \gamma)` Crowson et al. with :math:`\gamma = 1 / \sigma_d^2`; the sigmoid
                                                        weighting of Hoogeboom et al. with bias :math:`\log \gamma`;
                                                        P2 weighting with gamma 1 (its k = gamma = 1)
    =================== =============================== ==========================================================

    How often a level is drawn weighs too, and is the task's.

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
        prediction: What the network predicts: "eps", "x0", "v", "flow" or "edm".
        weighting: How levels are weighed, as above.
        gamma: Where the two min-SNR weightings bend, a signal-to-noise ratio.
        sigma_data: The deviation of the clean values, for "edm" as prediction or weighting.

    Raises:
        ValueError: A bad argument, or at the call views that do not fit each other.

    Example:
        >>> clean, noise, logsnr = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4), torch.tensor([0.0])
        >>> views = {"clean": clean, "noise": noise, "logsnr": logsnr}
        >>> Denoising("eps")(prediction=torch.zeros_like(noise), **views)
        tensor(1.)
        >>> Denoising("flow", weighting="min-snr")(prediction=torch.zeros_like(noise), **views)
        tensor(0.2500)
    """

    papers = ("ho2020", "hang2023", "karras2022", "salimans2022")
    pictures = False
    mean_preserving = True

    def __init__(
        self,
        prediction: Prediction = "eps",
        *,
        weighting: Weighting = "none",
        gamma: float = 5.0,
        sigma_data: float = 0.5,
    ) -> None:
        super().__init__()
        for name, value, choices in (
            ("predictions", prediction, get_args(Prediction)),
            ("weightings", weighting, get_args(Weighting)),
        ):
            if value not in choices:
                raise ValueError(f"Denoising knows the {name} {', '.join(map(quoted, choices))}; got {value!r}.")
        for name, number in (("gamma", gamma), ("sigma_data", sigma_data)):
            if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
                raise ValueError(f"Denoising wants {name} > 0; got {number!r}.")
        self.prediction, self.weighting, self.gamma, self.sigma_data = prediction, weighting, gamma, sigma_data

    def measure(self, prediction: Tensor, clean: Tensor, noise: Tensor, logsnr: Tensor) -> Tensor:
        """The weighted error of each image, (N,)."""
        if not prediction.shape == clean.shape == noise.shape or logsnr.shape != prediction.shape[:1]:
            shapes = ", ".join(str(tuple(view.shape)) for view in (prediction, clean, noise, logsnr))
            raise ValueError(f"{self!r} wants prediction, clean, noise (N, ...) and logsnr (N,); got {shapes}.")
        logsnr = logsnr.detach()
        target = target_of(self.prediction, clean, noise, logsnr, sigma_data=self.sigma_data).detach()
        error = (prediction - target).square().flatten(1).mean(dim=1)
        if self.weighting in ("none", self.prediction):
            return error
        return error * weight_of(self.weighting, logsnr, self.prediction, gamma=self.gamma, sigma_data=self.sigma_data)

    def __repr__(self) -> str:
        return spelled(
            self,
            *([] if self.prediction == "eps" else [self.prediction]),
            weighting=None if self.weighting == "none" else self.weighting,
            gamma=None if self.gamma == 5.0 else self.gamma,
            sigma_data=None if self.sigma_data == 0.5 else self.sigma_data,
        )


def target_of(
    prediction: Prediction, clean: Tensor, noise: Tensor, logsnr: Tensor, *, sigma_data: float = 0.5
) -> Tensor:
    """What a network that predicts this should give for clean values and noise (N, ...) at levels (N,)."""
    level = _bounded(logsnr).view(-1, *(1,) * (clean.dim() - 1))
    if prediction == "eps":
        return noise
    if prediction == "x0":
        return clean
    if prediction == "v":
        return F.logsigmoid(level).div(2).exp() * noise - F.logsigmoid(-level).div(2).exp() * clean
    if prediction == "flow":
        return noise - clean
    ratio = torch.exp(-level / 2) / sigma_data  # the noise's deviation to the data's
    return (ratio / sigma_data * clean - noise) / (1 + ratio.square()).sqrt()


def weight_of(
    weighting: Weighting, logsnr: Tensor, prediction: Prediction = "x0", *, gamma: float = 5.0, sigma_data: float = 0.5
) -> Tensor:
    """The weight of the squared error of what is predicted that a weighting comes to, at levels (N,)."""
    level = _bounded(logsnr)
    if weighting == "none":
        weighting = prediction
    if weighting == "min-snr":
        weight = level.clamp_max(math.log(gamma))
    elif weighting == "soft-min-snr":
        weight = math.log(gamma) + F.logsigmoid(level - math.log(gamma))
    else:
        weight = -_gain(weighting, level, sigma_data)
    return (weight + _gain(prediction, level, sigma_data)).exp()


def _gain(prediction: Prediction | str, level: Tensor, sigma_data: float) -> Tensor:
    """The logarithm of the squared error of x for error 1 of what is predicted."""
    if prediction == "x0":
        return torch.zeros_like(level)
    if prediction == "eps":
        return -level
    if prediction == "v":
        return F.logsigmoid(-level)
    if prediction == "flow":
        return 2 * F.logsigmoid(-level / 2)
    return 2 * math.log(sigma_data) + F.logsigmoid(-level - 2 * math.log(sigma_data))


def _bounded(logsnr: Tensor) -> Tensor:
    return logsnr.clamp(-FARTHEST, FARTHEST)
