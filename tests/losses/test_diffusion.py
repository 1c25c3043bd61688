"""The denoising loss: a weighting has one value for all kinds of prediction."""

from typing import get_args

import pytest
import torch

from lossmith.losses.diffusion import DenoisingMSE, Weighting, denoising_target, denoising_weight
from lossmith.noise_levels import PredictionType, x0_from_output

PREDICTIONS = get_args(PredictionType)
SHARED = [weighting for weighting in get_args(Weighting) if weighting != "none"]
SIGMA = 0.7


@pytest.fixture
def step():
    """Return clean values, noise, an estimate of the clean values, and log-SNRs, in float64."""
    generator = torch.Generator().manual_seed(0)
    clean, noise, estimate = torch.randn(3, 5, 2, 4, 4, generator=generator, dtype=torch.float64).unbind()
    return clean, noise, clean + 0.1 * estimate, torch.tensor([-9.0, -2.0, 0.0, 1.5, 8.0], dtype=torch.float64)


def to_maps(values):
    return values.view(-1, 1, 1, 1)


def mix(prediction, clean, noise, logsnr):
    """Return the noisy input on the usual path of a prediction, and the path's alpha and sigma."""
    ratio = torch.exp(-logsnr / 2)
    alpha = {"flow": 1 / (1 + ratio), "edm": torch.ones_like(ratio)}.get(prediction, (1 + ratio**2).rsqrt())
    return to_maps(alpha) * clean + to_maps(alpha * ratio) * noise, alpha, alpha * ratio


def predict(prediction, estimate, clean, noise, logsnr):
    """Return the prediction that corresponds to an estimate of the clean values."""
    noisy, alpha, sigma = mix(prediction, clean, noise, logsnr)
    implied = (noisy - to_maps(alpha) * estimate) / to_maps(sigma)
    return denoising_target(prediction, estimate, implied, logsnr, sigma_data=SIGMA)


@pytest.mark.parametrize("weighting", SHARED)
def test_a_weighting_has_the_same_value_for_all_predictions(weighting, step):
    clean, noise, estimate, logsnr = step
    found = []
    for prediction in PREDICTIONS:
        loss = DenoisingMSE(prediction, weighting=weighting, sigma_data=SIGMA)
        found.append(loss.measure(predict(prediction, estimate, clean, noise, logsnr), clean, noise, logsnr))
    for values in found[1:]:
        torch.testing.assert_close(values, found[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_clean_image_is_recovered_from_the_target(prediction, step):
    clean, noise, _, logsnr = step
    target = denoising_target(prediction, clean, noise, logsnr, sigma_data=SIGMA)
    for scale in (1.0, 3.0):  # of the path
        noisy, alpha, sigma = mix(prediction, clean, noise, logsnr)
        found = x0_from_output(prediction, target, scale * noisy, scale * alpha, scale * sigma, sigma_data=SIGMA)
        if prediction in ("x0", "v", "edm") or scale == 1:
            torch.testing.assert_close(found, clean)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_x0_weighting_is_the_squared_error_of_the_image(prediction, step):
    clean, noise, estimate, logsnr = step
    output = predict(prediction, estimate, clean, noise, logsnr)
    loss = DenoisingMSE(prediction, weighting="x0", sigma_data=SIGMA)
    expected = (estimate - clean).square().flatten(1).mean(dim=1)
    torch.testing.assert_close(loss.measure(output, clean, noise, logsnr), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_no_weighting_is_the_weighting_of_the_own_target(prediction, step):
    clean, noise, estimate, logsnr = step
    none, own = (
        DenoisingMSE(prediction, weighting=w).measure(estimate, clean, noise, logsnr) for w in ("none", prediction)
    )
    assert torch.equal(none, own)
    torch.testing.assert_close(denoising_weight(prediction, logsnr, prediction), torch.ones_like(logsnr))


def test_min_snr_has_the_papers_weights():
    snr = torch.tensor([0.01, 1.0, 4.9, 5.1, 1e4], dtype=torch.float64)
    capped = snr.clamp_max(5)
    for prediction, expected in (("x0", capped), ("eps", capped / snr), ("v", capped / (snr + 1))):
        torch.testing.assert_close(denoising_weight("min-snr", snr.log(), prediction), expected)


def test_edm_has_the_papers_weight_and_soft_min_snr_that_of_crowson_et_al():
    sigma = torch.tensor([0.002, 0.5, 3.0, 80.0], dtype=torch.float64)
    edm = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    torch.testing.assert_close(denoising_weight("edm", -2 * sigma.log(), sigma_data=0.5), edm)
    soft = (0.5 * sigma) ** 2 / (sigma**2 + 0.25) ** 2  # on the network's own output, as in k-diffusion
    torch.testing.assert_close(
        denoising_weight("soft-min-snr", -2 * sigma.log(), "edm", gamma=4.0, sigma_data=0.5), soft
    )


def test_soft_min_snr_is_the_sigmoid_weighting_and_p2():
    logsnr = torch.linspace(-8, 8, 9, dtype=torch.float64)
    bias = torch.tensor(-3.0, dtype=torch.float64)
    torch.testing.assert_close(
        denoising_weight("soft-min-snr", logsnr, "eps", gamma=bias.exp().item()), torch.sigmoid(bias - logsnr)
    )
    torch.testing.assert_close(denoising_weight("soft-min-snr", logsnr, "eps", gamma=1.0), 1 / (1 + logsnr.exp()))


def test_the_edm_target_is_that_of_preconditioning(step):
    clean, noise, _, logsnr = step
    sigma = to_maps(torch.exp(-logsnr / 2))
    skip, out = SIGMA**2 / (sigma**2 + SIGMA**2), sigma * SIGMA / (sigma**2 + SIGMA**2).sqrt()
    expected = (clean - skip * (clean + sigma * noise)) / out
    torch.testing.assert_close(denoising_target("edm", clean, noise, logsnr, sigma_data=SIGMA), expected)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("weighting", get_args(Weighting))
def test_value_and_gradient_are_finite_at_snr_zero_and_infinity(prediction, weighting):
    output = torch.ones(2, 3, 4, 4, requires_grad=True)
    clean, noise = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    logsnr = torch.tensor([-float("inf"), float("inf")])
    value = DenoisingMSE(prediction, weighting=weighting)(prediction=output, clean=clean, noise=noise, logsnr=logsnr)
    value.backward()
    assert value.isfinite()
    assert output.grad.isfinite().all()


def test_only_the_prediction_receives_a_gradient(step):
    inputs = dict(
        zip(("clean", "noise", "prediction", "logsnr"), (v.clone().requires_grad_() for v in step), strict=True)
    )
    DenoisingMSE("v", weighting="min-snr")(**inputs).backward()
    assert inputs.pop("prediction").grad.any()
    assert all(tensor.grad is None for tensor in inputs.values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DenoisingMSE("noise"),
            "DenoisingMSE prediction must be one of 'eps', 'x0', 'v', 'flow', 'edm'; got 'noise'.",
        ),
        (lambda: DenoisingMSE(weighting="snr"), r"DenoisingMSE weighting must be one of .* got 'snr'."),
        (lambda: DenoisingMSE(gamma=0), "DenoisingMSE gamma must be positive; got 0."),
        (lambda: DenoisingMSE(sigma_data=float("nan")), "DenoisingMSE sigma_data must be a positive finite number"),
        (
            lambda: DenoisingMSE().measure(*[torch.ones(2, 3)] * 3, torch.ones(2, 1)),
            r"DenoisingMSE\(\) needs prediction, clean and noise \(N, ...\) and logsnr \(N,\); got .*\(2, 1\).",
        ),
    ],
)
def test_invalid_arguments_and_inputs_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()
