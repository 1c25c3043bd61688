"""Noise levels: mixing and unmixing, and the solvers' paths."""

from typing import get_args

import pytest
import torch
from torch.testing import assert_close

from lossmith.losses.diffusion import denoising_target
from lossmith.noise_levels import (
    NoiseSchedule,
    PredictionType,
    NoiseScheduleName,
    output_from_x0,
    x0_from_output,
)
from lossmith.text_to_image.models.diffusers_sampler import sample_with_diffusers
from lossmith.text_to_image.models.sampler import integrate_ode

every_schedule = pytest.mark.parametrize("schedule", get_args(NoiseScheduleName))


@every_schedule
@pytest.mark.parametrize("prediction", get_args(PredictionType))
def test_a_picture_comes_back_from_every_prediction_on_every_schedule(schedule, prediction):
    levels = NoiseSchedule(schedule)
    x, noise = torch.rand(5, 3, 4, 4).double() * 2 - 1, torch.randn(5, 3, 4, 4).double()
    t = torch.tensor([0.05, 0.3, 0.5, 0.8, 0.95]).double()
    alpha, sigma = levels.alpha(t), levels.sigma(t)
    noisy = alpha.view(-1, 1, 1, 1) * x + sigma.view(-1, 1, 1, 1) * noise
    output = output_from_x0(prediction, x, noisy, alpha, sigma)
    assert_close(x0_from_output(prediction, output, noisy, alpha, sigma), x)
    if schedule != "flow" or prediction != "edm":  # whose noise the target knows on EDM's own path alone
        wanted = denoising_target(prediction, x, noise, levels.logsnr(t))
        assert_close(output / wanted, (output / wanted).mean(dim=(1, 2, 3), keepdim=True).expand_as(output))


@every_schedule
def test_slopes_are_the_derivatives_of_the_levels(schedule):
    levels, t = NoiseSchedule(schedule), torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64, requires_grad=True)
    for level, slope in zip((levels.alpha, levels.sigma), levels.derivatives(t), strict=True):
        (found,) = torch.autograd.grad(level(t).sum() + 0 * t.sum(), t)
        assert_close(slope, found)


@every_schedule
def test_times_are_drawn_within_the_path(schedule):
    levels, path = NoiseSchedule(schedule), NoiseSchedule(schedule).sampling_times(10)
    drawn = levels.sample_times(torch.zeros(1000, 1))
    assert drawn.min() >= 0
    assert drawn.max() <= path[0]
    assert (path[1:] < path[:-1]).all()
    assert path[-1] == 0


def gaussian(levels, mean=0.3, deviation=0.4):
    """What a perfect network sees where pictures are normal numbers, and where each noise must arrive."""

    def clean(noisy, t):
        alpha, sigma = levels.alpha(t), levels.sigma(t)
        share = alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)
        return mean + share * (noisy - alpha * mean)

    return clean, lambda noise: mean + deviation * noise


@pytest.mark.parametrize(
    ("schedule", "solver", "least"),
    [
        *[("flow", "euler", 0.02), ("flow", "heun", 0.001), ("flow", "dpm++", 0.006), ("cosine", "euler", 0.01)],
        *[("cosine", "heun", 0.001), ("cosine", "ddim", 0.03), ("cosine", "dpm++", 0.006), ("edm", "heun", 0.01)],
    ],
)
def test_a_perfect_network_is_followed_to_the_right_picture(schedule, solver, least):
    levels, noise = NoiseSchedule(schedule), torch.linspace(-2, 2, 9, dtype=torch.float64).view(-1, 1, 1, 1)
    clean, right = gaussian(levels)
    if solver in ("euler", "heun"):
        found = integrate_ode(levels, noise, clean, levels.sampling_times(40), heun=solver == "heun")
    else:
        found = sample_with_diffusers(levels, noise, clean, solver, 40)
    assert (found - right(noise)).abs().max() < 2 * least + 0.01


@every_schedule
@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("prediction", get_args(PredictionType))
def test_every_prediction_is_followed_on_every_schedule(schedule, solver, prediction):
    levels, noise = NoiseSchedule(schedule), torch.linspace(-2, 2, 9, dtype=torch.float64).view(-1, 1, 1, 1)
    clean, right = gaussian(levels)

    def seen(noisy, t):
        alpha, sigma = levels.alpha(t), levels.sigma(t)
        said = output_from_x0(prediction, clean(noisy, t), noisy, alpha, sigma) if sigma else noisy
        return x0_from_output(prediction, said, noisy, alpha, sigma) if sigma else said

    found = integrate_ode(levels, noise, seen, levels.sampling_times(40, prediction), heun=solver == "heun")
    assert (found - right(noise)).abs().max() < (0.1 if solver == "euler" else 0.03)


@pytest.mark.parametrize(("schedule", "solver"), [("flow", "ddim"), ("edm", "ddim"), ("edm", "dpm++")])
def test_a_solver_says_which_schedule_it_does_not_know(schedule, solver):
    with pytest.raises(ValueError, match="take euler"):
        sample_with_diffusers(NoiseSchedule(schedule), torch.zeros(1, 1, 1, 1), lambda noisy, t: noisy, solver, 4)
