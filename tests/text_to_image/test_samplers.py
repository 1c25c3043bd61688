"""Noise schedules: conversion of predictions, and solvers of the probability-flow ODE."""

from typing import get_args

import pytest
import torch
from torch.testing import assert_close

from lossmith.losses.diffusion import denoising_target
from lossmith.noise_levels import NoiseSchedule, NoiseScheduleName, PredictionType, output_from_x0, x0_from_output
from lossmith.text_to_image.models.diffusers_sampler import sample_with_diffusers
from lossmith.text_to_image.models.sampler import integrate_ode

every_schedule = pytest.mark.parametrize("name", get_args(NoiseScheduleName))
every_prediction = pytest.mark.parametrize("prediction", get_args(PredictionType))


@every_schedule
@every_prediction
def test_x0_is_recovered_from_every_prediction_on_every_schedule(name, prediction):
    schedule = NoiseSchedule(name)
    x, noise = torch.rand(5, 3, 4, 4).double() * 2 - 1, torch.randn(5, 3, 4, 4).double()
    t = torch.tensor([0.05, 0.3, 0.5, 0.8, 0.95]).double()
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    noisy = alpha.view(-1, 1, 1, 1) * x + sigma.view(-1, 1, 1, 1) * noise
    output = output_from_x0(prediction, x, noisy, alpha, sigma)
    assert_close(x0_from_output(prediction, output, noisy, alpha, sigma), x)
    if name != "flow" or prediction != "edm":  # denoising_target supports "edm" on EDM's own schedule
        ratio = output / denoising_target(prediction, x, noise, schedule.logsnr(t))
        assert_close(ratio, ratio.mean(dim=(1, 2, 3), keepdim=True).expand_as(output))


@every_schedule
def test_derivatives_agree_with_autograd(name):
    schedule, t = NoiseSchedule(name), torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64, requires_grad=True)
    for function, derivative in zip((schedule.alpha, schedule.sigma), schedule.derivatives(t), strict=True):
        (expected,) = torch.autograd.grad(function(t).sum() + 0 * t.sum(), t)
        assert_close(derivative, expected)


@every_schedule
def test_training_times_lie_within_the_sampling_times(name):
    schedule = NoiseSchedule(name)
    path, times = schedule.sampling_times(10), schedule.sample_times(torch.zeros(1000, 1))
    assert times.min() >= 0
    assert times.max() <= path[0]
    assert (path[1:] < path[:-1]).all()
    assert path[-1] == 0


def perfect_gaussian_denoiser(schedule, mean=0.3, std=0.4):
    """Return the optimal denoiser of normally distributed pixels, and the exact map from noise to samples."""

    def predict_x0(noisy, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
        return mean + gain * (noisy - alpha * mean)

    return predict_x0, lambda noise: mean + std * noise


@pytest.mark.parametrize(
    ("name", "solver", "tolerance"),
    [
        *[("flow", "euler", 0.02), ("flow", "heun", 0.001), ("flow", "dpm++", 0.006), ("cosine", "euler", 0.01)],
        *[("cosine", "heun", 0.001), ("cosine", "ddim", 0.03), ("cosine", "dpm++", 0.006), ("edm", "heun", 0.01)],
    ],
)
def test_samples_of_a_perfect_denoiser_are_exact(name, solver, tolerance):
    schedule, noise = NoiseSchedule(name), torch.linspace(-2, 2, 9, dtype=torch.float64).view(-1, 1, 1, 1)
    predict_x0, exact = perfect_gaussian_denoiser(schedule)
    if solver in ("euler", "heun"):
        found = integrate_ode(schedule, noise, predict_x0, schedule.sampling_times(40), heun=solver == "heun")
    else:
        found = sample_with_diffusers(schedule, noise, predict_x0, solver, 40)
    assert (found - exact(noise)).abs().max() < 2 * tolerance + 0.01


@every_schedule
@pytest.mark.parametrize("solver", ["euler", "heun"])
@every_prediction
def test_samples_are_exact_for_every_prediction_on_every_schedule(name, solver, prediction):
    schedule, noise = NoiseSchedule(name), torch.linspace(-2, 2, 9, dtype=torch.float64).view(-1, 1, 1, 1)
    predict_x0, exact = perfect_gaussian_denoiser(schedule)

    def predict_x0_from_output(noisy, t):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        output = output_from_x0(prediction, predict_x0(noisy, t), noisy, alpha, sigma) if sigma else noisy
        return x0_from_output(prediction, output, noisy, alpha, sigma) if sigma else output

    times = schedule.sampling_times(40, prediction)
    found = integrate_ode(schedule, noise, predict_x0_from_output, times, heun=solver == "heun")
    assert (found - exact(noise)).abs().max() < (0.1 if solver == "euler" else 0.03)


@pytest.mark.parametrize(("name", "solver"), [("flow", "ddim"), ("edm", "ddim"), ("edm", "dpm++")])
def test_a_solver_raises_on_a_schedule_that_it_does_not_support(name, solver):
    with pytest.raises(ValueError, match="use euler"):
        sample_with_diffusers(NoiseSchedule(name), torch.zeros(1, 1, 1, 1), lambda noisy, t: noisy, solver, 4)
