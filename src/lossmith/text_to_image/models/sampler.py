"""Sampling of a denoiser: guidance, dynamic thresholding and ODE solvers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

import torch
from torch import Tensor

from lossmith._checks import check_choice, check_integer, check_number
from lossmith.noise_levels import NoiseSchedule, x0_from_output
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.models.denoiser import Denoiser

__all__ = ["SamplerConfig", "apply_dynamic_threshold", "make_noise", "sample_images"]

Solver = Literal["euler", "heun", "ddim", "dpm++"]


@final
@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    r"""The settings of sampling.

    Classifier-free guidance uses :math:`\hat x = \hat x_\emptyset + w (\hat x_c - \hat x_\emptyset)`, from the
    predictions with and without the text. Dynamic thresholding rescales the predicted image, whatever the network
    predicts, where its largest values exceed [-1, 1].

    References:
        | Classifier-Free Diffusion Guidance (Ho and Salimans, 2022), https://arxiv.org/abs/2207.12598
        | Applying Guidance in a Limited Interval (Kynkäänniemi et al., 2024), https://arxiv.org/abs/2404.07724
        | Photorealistic Text-to-Image Diffusion Models (Saharia et al., 2022), for the thresholding
        | https://arxiv.org/abs/2205.11487

    Args:
        solver: "euler" or "heun" (two network passes per step), for every schedule; "ddim" or "dpm++" of diffusers.
        steps: Number of steps, 1 to 1000.
        guidance_scale: The weight :math:`w`, 0 to 100; 1 for no guidance, 0 to ignore the text.
        guidance_interval: The noise levels with guidance, as times of a flow from 0 (image) to 1 (noise).
        threshold_quantile: The quantile :math:`p` of :func:`apply_dynamic_threshold`, 0.5 to 1; 1 for none.
        threshold_max: The largest divisor :math:`c` of :func:`apply_dynamic_threshold`, at least 1.

    Raises:
        ValueError: A setting is out of range.
    """

    solver: Solver = "euler"
    steps: int = 25
    guidance_scale: float = 2.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    threshold_quantile: float = 0.995
    threshold_max: float = 2.0

    def __post_init__(self) -> None:
        check_choice("solver", self.solver, Solver)
        check_integer("steps", self.steps, low=1, high=1000)
        check_number("guidance_scale", self.guidance_scale, low=0, high=100)
        low, high = self.guidance_interval
        if not 0 <= low < high <= 1:
            raise ValueError(f"guidance_interval must be two increasing times in [0, 1]; got {(low, high)!r}.")
        check_number("threshold_quantile", self.threshold_quantile, low=0.5, high=1)
        if not self.threshold_max >= 1:
            raise ValueError(f"threshold_max must be at least 1; got {self.threshold_max!r}.")


@torch.no_grad()
def sample_images(
    model: Denoiser,
    text: TextEmbedding,
    noise: Tensor,
    config: SamplerConfig | None = None,
    *,
    low_res: Tensor | None = None,
    noise_level: Tensor | None = None,
) -> Tensor:
    """Sample images of texts.

    Args:
        model: The network, in eval mode.
        text: The text condition, N prompts.
        noise: The initial noise, (N, 3, S, S), standard normal; see :func:`make_noise`.
        config: The settings; None for the defaults.
        low_res: The condition of a super-resolution stage, see :meth:`Denoiser.forward`.
        noise_level: The noise level of `low_res`, (N,).

    Returns:
        Images, (N, 3, S, S) in [0, 1].

    Raises:
        ValueError: The solver does not support the network's schedule.
    """
    config = config or SamplerConfig()

    def predict_x0(noisy: Tensor, t: Tensor) -> Tensor:
        times = t.to(noisy).expand(len(noisy))
        return predict_guided(model, noisy, times, text, config, low_res=low_res, noise_level=noise_level)

    if config.solver in ("ddim", "dpm++"):
        from lossmith.text_to_image.models.diffusers_sampler import sample_with_diffusers

        samples = sample_with_diffusers(model.noise_schedule, noise, predict_x0, config.solver, config.steps)
    else:
        times = model.noise_schedule.sampling_times(config.steps, model.prediction)
        samples = integrate_ode(model.noise_schedule, noise, predict_x0, times, heun=config.solver == "heun")
    return ((samples + 1) / 2).clamp(0, 1)


def integrate_ode(
    schedule: NoiseSchedule, noise: Tensor, predict_x0: Callable[[Tensor, Tensor], Tensor], times: Tensor, *, heun: bool
) -> Tensor:
    """Integrate the probability-flow ODE along decreasing times by Euler's method, or by Heun's."""

    def slope(noisy: Tensor, t: Tensor, sigma: Tensor) -> Tensor:
        x0 = predict_x0(noisy, t)
        alpha_slope, sigma_slope = schedule.derivatives(t)
        return alpha_slope * x0 + sigma_slope * (noisy - schedule.alpha(t) * x0) / sigma

    noisy = noise * schedule.sigma(times[0])
    for t, t_next in pairwise(times):
        if schedule.sigma(t_next) == 0:  # the slope is 0 / 0 there; the remaining image is the prediction
            return predict_x0(noisy, t) * schedule.alpha(t_next)
        step = t_next - t
        direction = slope(noisy, t, schedule.sigma(t))
        ahead = noisy + step * direction
        if heun:
            ahead = noisy + step * (direction + slope(ahead, t_next, schedule.sigma(t_next))) / 2
        noisy = ahead.to(noise.dtype)
    return predict_x0(noisy, times[-1])


def predict_guided(
    model: Denoiser,
    noisy: Tensor,
    t: Tensor,
    text: TextEmbedding,
    config: SamplerConfig,
    *,
    low_res: Tensor | None = None,
    noise_level: Tensor | None = None,
) -> Tensor:
    """Predict the clean image with guidance and dynamic thresholding, (N, 3, S, S) in [-1, 1]."""
    low, high = config.guidance_interval
    flow_time = float(model.noise_schedule.flow_time(t)[0])
    scale = config.guidance_scale if low <= flow_time <= high else 1.0
    n = len(noisy)
    null_text = text.drop(torch.ones(n, dtype=torch.bool, device=noisy.device))
    conditions = {0.0: [null_text], 1.0: [text]}.get(scale, [text, null_text])
    repeats = len(conditions)
    joined = TextEmbedding(*(torch.cat(parts) for parts in zip(*conditions, strict=True)))
    low_res_inputs = {
        name: value.repeat(repeats, *(1,) * (value.dim() - 1))
        for name, value in (("low_res", low_res), ("noise_level", noise_level))
        if value is not None
    }
    inputs, times = noisy.repeat(repeats, 1, 1, 1), t.repeat(repeats)
    output = model(inputs, times, joined, **low_res_inputs).prediction
    alpha, sigma = model.noise_schedule.alpha(times), model.noise_schedule.sigma(times)
    x0 = x0_from_output(model.prediction, output, inputs, alpha, sigma, sigma_data=model.sigma_data)
    if repeats == 2:
        with_text, without_text = x0[:n], x0[n:]
        x0 = without_text + scale * (with_text - without_text)
    return apply_dynamic_threshold(x0, config.threshold_quantile, config.threshold_max)


def apply_dynamic_threshold(x: Tensor, quantile: float = 0.995, max_divisor: float = 2.0) -> Tensor:
    r"""Rescale images whose values exceed [-1, 1] by Imagen's dynamic thresholding.

    .. math:: \operatorname{clip}(x, -s, s) / s, \qquad s = \min(\max(1, q_p(\lvert x \rvert)), c)

    Args:
        x: (N, C, H, W).
        quantile: The quantile :math:`p`; 1 for no thresholding.
        max_divisor: The largest divisor :math:`c`; 1 clips to [-1, 1], which is diffusers' default.

    Example:
        >>> apply_dynamic_threshold(torch.tensor([0.5, 3.0]).view(1, 1, 1, 2), 1.0).flatten()
        tensor([0.5000, 3.0000])
        >>> apply_dynamic_threshold(torch.tensor([1.0, 2.0]).view(1, 1, 1, 2), 0.999).flatten()
        tensor([0.5003, 1.0000])
    """
    if quantile == 1:
        return x
    divisor = torch.quantile(x.float().abs().flatten(1), quantile, dim=1).clamp(1, max_divisor)
    divisor = divisor.to(x).view(-1, 1, 1, 1)
    return x.clamp(-divisor, divisor) / divisor


def make_noise(seeds: Sequence[int], side: int) -> Tensor:
    """Return standard normal noise, (N, 3, S, S), in which each image depends on its own seed only."""
    return torch.stack([torch.randn(3, side, side, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
