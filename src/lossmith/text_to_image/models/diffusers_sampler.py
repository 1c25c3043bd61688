"""Sampling with diffusers' schedulers, on the network's noise schedule."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from lossmith.noise_levels import NoiseSchedule

__all__ = ["sample_with_diffusers"]

NUM_TRAIN_TIMESTEPS = 1000


def sample_with_diffusers(
    schedule: NoiseSchedule, noise: Tensor, predict_x0: Callable[[Tensor, Tensor], Tensor], solver: str, steps: int
) -> Tensor:
    """Integrate from noise to images with a scheduler of diffusers.

    Guidance and thresholding are part of `predict_x0`, because diffusers' thresholding supports no flow schedules and
    by default only clips.

    Args:
        schedule: The noise schedule, "flow" or "cosine".
        noise: Standard normal noise, (N, 3, S, S).
        predict_x0: Returns the clean images predicted from noisy images and a time.
        solver: "ddim" or "dpm++".
        steps: Number of steps.

    Returns:
        Images in [-1, 1], (N, 3, S, S).

    Raises:
        ValueError: The solver does not support the schedule.
    """
    scheduler = _build_scheduler(schedule, solver)
    scheduler.set_timesteps(steps)
    noisy = noise
    for step in scheduler.timesteps:
        index = float(step) if schedule.schedule == "flow" else float(step) + 1
        t = torch.as_tensor(index / NUM_TRAIN_TIMESTEPS)
        noisy = scheduler.step(predict_x0(noisy, t.double()), step, noisy).prev_sample
    return noisy


def _build_scheduler(schedule: NoiseSchedule, solver: str) -> Any:
    diffusers: Any = import_module("diffusers")
    if schedule.schedule == "edm":
        raise ValueError(f"The sampler {solver} does not support the schedule edm; use euler or heun.")
    if schedule.schedule == "flow":
        if solver == "ddim":
            raise ValueError("The sampler ddim equals euler on the schedule flow; use euler.")
        return diffusers.DPMSolverMultistepScheduler(
            num_train_timesteps=NUM_TRAIN_TIMESTEPS, prediction_type="sample", use_flow_sigmas=True, flow_shift=1.0
        )
    times = torch.arange(1, NUM_TRAIN_TIMESTEPS + 1, dtype=torch.float64) / NUM_TRAIN_TIMESTEPS
    alphas_cumprod = schedule.alpha(times).square()
    betas = 1 - alphas_cumprod / torch.cat([torch.ones(1).double(), alphas_cumprod[:-1]])
    options = {
        "num_train_timesteps": NUM_TRAIN_TIMESTEPS,
        "trained_betas": betas.float().numpy(),
        "prediction_type": "sample",
        "timestep_spacing": "trailing",
    }
    if solver == "ddim":
        return diffusers.DDIMScheduler(**options, clip_sample=False)
    return diffusers.DPMSolverMultistepScheduler(**options)
