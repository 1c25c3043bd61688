"""Sampling with the schedulers of diffusers, which are handed our noise levels and our predicted pictures."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lossmith.noise_levels import Levels

__all__ = ["by_scheduler"]

TIMES = 1000
"""The levels that their schedulers know."""


def by_scheduler(
    levels: Levels, noise: Tensor, clean: Callable[[Tensor, Tensor], Tensor], solver: str, steps: int
) -> Tensor:
    """From noise to clean values with a scheduler of diffusers.

    Thresholding and guidance are in what `clean` gives, since theirs knows neither flows nor, as it is delivered, any
    threshold but a clip.

    Args:
        levels: The schedule, "flow" or "cosine".
        noise: Standard normal, (N, 3, S, S).
        clean: The clean picture seen in a noisy one at a time.
        solver: "ddim" or "dpm++".
        steps: How many.

    Raises:
        ValueError: The solver does not know the schedule.
    """
    scheduler = made(levels, solver)
    scheduler.set_timesteps(steps)
    noisy = noise
    for step in scheduler.timesteps:
        t = torch.as_tensor(float(step) / TIMES if levels.schedule == "flow" else (float(step) + 1) / TIMES)
        noisy = scheduler.step(clean(noisy, t.double()), step, noisy).prev_sample
    return noisy


def made(levels: Levels, solver: str) -> Any:
    """The scheduler."""
    from importlib import import_module

    diffusers: Any = import_module("diffusers")

    if levels.schedule == "edm":
        raise ValueError(f"The sampler {solver} is not for EDM's levels; take euler or heun.")
    if levels.schedule == "flow":
        if solver == "ddim":
            raise ValueError("On a flow, DDIM is Euler's method: take euler.")
        return diffusers.DPMSolverMultistepScheduler(
            num_train_timesteps=TIMES, prediction_type="sample", use_flow_sigmas=True, flow_shift=1.0
        )
    kept = levels.alpha(torch.arange(1, TIMES + 1, dtype=torch.float64) / TIMES).square()
    betas = 1 - kept / torch.cat([torch.ones(1).double(), kept[:-1]])
    options = {"num_train_timesteps": TIMES, "trained_betas": betas.float().numpy(), "prediction_type": "sample"}
    if solver == "ddim":
        return diffusers.DDIMScheduler(**options, clip_sample=False, timestep_spacing="trailing")
    return diffusers.DPMSolverMultistepScheduler(**options, timestep_spacing="trailing")
