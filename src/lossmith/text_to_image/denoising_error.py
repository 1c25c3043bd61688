"""The denoising error by noise level."""

import torch
from torch import Tensor

from lossmith.noise_levels import NoiseSchedule, x0_from_output
from lossmith.text_to_image.encoders.embedding import TextEmbedding
from lossmith.text_to_image.models.denoiser import Denoiser

__all__ = ["LOGSNR_BINS", "find_time", "measure_denoising_errors"]

LOGSNR_BINS = ((-10.0, -6.0), (-6.0, -4.0), (-4.0, -2.0), (-2.0, 0.0), (0.0, 2.0), (2.0, 4.0), (4.0, 6.0), (6.0, 10.0))
"""The bins of the log-SNR for which errors and gradients are reported; they are measured at the bin centres."""


@torch.no_grad()
def measure_denoising_errors(
    model: Denoiser, target: Tensor, text: TextEmbedding, noise: Tensor, **low_res_inputs: Tensor
) -> list[float]:
    """Measure the mean squared error of the predicted clean image in [-1, 1], for each of :data:`LOGSNR_BINS`.

    Args:
        model: The network.
        target: Images, (N, 3, S, S) in [0, 1].
        text: Their captions.
        noise: The noise that is added, (N, 3, S, S).
        low_res_inputs: For a super-resolution stage, "low_res" and "noise_level", see :meth:`Denoiser.forward`.
    """
    clean, errors = 2 * target - 1, []
    for low, high in LOGSNR_BINS:
        t = find_time(model.noise_schedule, (low + high) / 2).to(clean).expand(len(clean))
        alpha = model.noise_schedule.alpha(t).view(-1, 1, 1, 1)
        sigma = model.noise_schedule.sigma(t).view(-1, 1, 1, 1)
        noisy = alpha * clean + sigma * noise
        output = model(noisy, t, text, **low_res_inputs).prediction
        x0 = x0_from_output(model.prediction, output, noisy, alpha, sigma, sigma_data=model.sigma_data)
        errors.append(float((x0 - clean).square().mean()))
    return errors


def find_time(schedule: NoiseSchedule, logsnr: float) -> Tensor:
    """Return the time of a log-SNR on a noise schedule, by bisection."""
    is_edm = schedule.schedule == "edm"
    low, high = (1e-4, 1e4) if is_edm else (0.0, 1.0)
    for _ in range(60):
        middle = (low * high) ** 0.5 if is_edm else (low + high) / 2
        is_above = float(schedule.logsnr(torch.tensor(middle, dtype=torch.float64))) > logsnr
        low, high = (middle, high) if is_above else (low, middle)
    return torch.tensor(middle)
