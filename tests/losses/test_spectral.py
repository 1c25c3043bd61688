"""The spectral angle, and the joint treatment of bands."""

import math

import pytest
import torch

from lossmith import L1, parse
from lossmith.doctor.edge_case_table import _run_case, public_losses
from lossmith.doctor.example_inputs import make_inputs
from lossmith.formula.loss import Hybrid
from lossmith.losses import MSSSIM, TV, Charbonnier, FocalFrequency, SpectralAngle


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pixel(*spectrum, dtype=torch.float64):
    return torch.tensor(spectrum, dtype=dtype).view(1, -1, 1, 1)


def test_the_angle_equals_that_of_torchmetrics():
    image = pytest.importorskip("torchmetrics.functional.image")
    pred, target = noise(2, 7, 9, 11), noise(2, 7, 9, 11, seed=1)
    torch.testing.assert_close(SpectralAngle()(pred, target), image.spectral_angle_mapper(pred, target))


@pytest.mark.parametrize(
    ("pred", "target", "angle"),
    [
        ((1, 0), (0, 3), math.pi / 2),
        ((1, 2), (2, 4), 0.0),
        ((1, 2), (-2, -4), math.pi),
        ((0, 0), (1, 2), math.pi / 2),
        ((1, 2), (0, 0), math.pi / 2),
        ((0, 0), (0, 0), 0.0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_special_spectra_have_an_angle_and_a_finite_gradient(pred, target, angle, dtype):
    x = pixel(*pred, dtype=dtype).requires_grad_()
    value = SpectralAngle()(x, pixel(*target, dtype=dtype))
    assert value.item() == pytest.approx(angle, abs=1e-6)
    assert torch.autograd.grad(value, x)[0].isfinite().all()


def test_a_small_angle_is_exact_in_float32():
    x = pixel(1.0, 0.0, dtype=torch.float32)
    assert SpectralAngle()(x, x + pixel(0, 1e-5, dtype=torch.float32)).item() == pytest.approx(1e-5, rel=1e-3)


def test_the_gradient_of_the_angle_is_its_derivative():
    x, y = noise(1, 4, 2, 3).requires_grad_(), noise(1, 4, 2, 3, seed=1)
    assert torch.autograd.gradcheck(SpectralAngle(), (x, y))


@pytest.mark.parametrize(
    ("joint", "each"),
    [
        (Charbonnier(bands="joint"), Charbonnier()),
        (TV("isotropic", bands="joint"), TV("isotropic")),
        (TV(bands="joint"), TV()),
        (MSSSIM(2, bands="joint"), MSSSIM(2)),
        (FocalFrequency(joint_matrix=True), FocalFrequency()),
        (parse("gradient('sobel', 'joint')"), parse("gradient('sobel', 'magnitude')")),
    ],
    ids=repr,
)
def test_equal_bands_have_one_value_and_different_ones_two(joint, each):
    inputs = {"pred": noise(2, 4, 32, 32), "target": noise(2, 4, 32, 32, seed=1)}
    inputs["pred"][:, 1:] *= 0.1
    inputs = {name: inputs[name] for name in each.input_names}
    equal = {name: image[:, :1].expand(-1, 4, -1, -1) for name, image in inputs.items()}
    torch.testing.assert_close(joint(**equal), each(**equal))
    assert (joint(**inputs) - each(**inputs)).abs() > 1e-5


def test_the_joint_variation_of_a_colour_edge_is_that_of_bresson_and_chan():
    edge = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    edge[:, :, :, 1] = pixel(3.0, 4.0, 12.0)[..., 0]
    assert TV("isotropic", per="image", bands="joint")(edge).item() == 13.0
    assert TV("isotropic", per="image")(edge).item() == 19.0


def test_edges_at_one_position_cost_less_than_edges_apart():
    together, apart = torch.zeros(2, 1, 2, 8, 8, dtype=torch.float64)
    together[..., 4:] = 1
    apart[:, 0, :, 4:] = 1
    apart[:, 1, :, 2:] = 1
    loss = TV("isotropic", bands="joint")
    assert loss(together) < 0.8 * loss(apart)
    torch.testing.assert_close(TV("isotropic")(together), TV("isotropic")(apart))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Charbonnier(bands="all"), "Charbonnier bands must be one of 'each', 'joint'; got 'all'."),
        (lambda: TV(squared=True, bands="joint"), "TV with squared=True has no root that bands could share"),
        (lambda: SpectralAngle()(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4)), "needs images of at least 2 bands"),
    ],
)
def test_wrong_arguments_raise_one_clear_line(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "text", ["SSIM(7)", "MSSSIM(2, window=5)", "TV", "TV('isotropic', per='image')", "SpectralAngle"]
)
def test_a_full_mask_changes_nothing_and_an_empty_one_gives_zero(text):
    loss = parse(text)
    inputs = {"pred": noise(2, 3, 24, 24), "target": noise(2, 3, 24, 24, seed=1)}
    inputs = {name: inputs[name] for name in loss.input_names}
    mask = torch.ones(2, 1, 24, 24, dtype=torch.float64)
    masked = loss.on(mask="mask")
    torch.testing.assert_close(masked(**inputs, mask=mask), loss(**inputs))
    assert masked(**inputs, mask=0 * mask).item() == 0


@pytest.mark.parametrize("text", ["SSIM(5)", "TV", "SpectralAngle"])
def test_a_mask_of_one_half_gives_the_value_of_this_half(text):
    loss, width = parse(text), 24
    inputs = {"pred": noise(1, 3, 12, width), "target": noise(1, 3, 12, width, seed=1)}
    inputs = {name: inputs[name] for name in loss.input_names}
    mask = torch.zeros(1, 1, 12, width, dtype=torch.float64)
    margin = 2 if text.startswith("SSIM") else 0  # windows around the first valid pixel reach beyond the mask
    mask[..., width // 2 + margin :] = 1
    half = {name: image[..., width // 2 :] for name, image in inputs.items()}
    torch.testing.assert_close(loss.on(mask="mask")(**inputs, mask=mask), loss(**half))


BANDS = (1, 2, 4, 5, 13)
LENSES = {
    f"lens {lens}": L1() @ parse(f"L1 @ {lens}").terms[0].lens
    for lens in ("Blur", "Downsample(2)", "Fourier", "Wavelet('haar')", "Scharr('magnitude')", "Laplacian", "YCbCr")
} | {text: parse(text) for text in ("L2 @ Gram", "L1 @ Bands(1)", "SSIM @ Bands('each')", "L1 @ Bands('mean')")}


@pytest.mark.slow
@pytest.mark.parametrize("channels", BANDS)
def test_every_loss_and_lens_takes_any_bands_or_raises_one_line_with_a_cure(channels):
    failures = []
    for name, loss in (public_losses()[0] | LENSES).items():
        hybrid = Hybrid(loss.terms)
        if not any(term.distance.reads_images for term in hybrid.terms) or name in ("MSSSIM", "ms_ssim_l1", "Piq"):
            continue
        for dtype in (torch.float32, torch.float64):
            try:
                inputs = make_inputs(hybrid, (32, 32), channels=channels)
            except ValueError as error:
                outcome, message = "rejected", str(error)
            else:
                inputs = {n: each.to(dtype) if each.is_floating_point() else each for n, each in inputs.items()}
                outcome, message = _run_case(hybrid, inputs, scaled=False)
            if outcome == "finite":
                flat = {
                    n: torch.full_like(each, 0.4) if each.is_floating_point() else each for n, each in inputs.items()
                }
                outcome, message = _run_case(hybrid, flat, scaled=False)
            is_cured = outcome == "rejected" and any(cure in message for cure in ("Bands(", "Remove", "remove", "px"))
            if not (outcome == "finite" or is_cured):
                failures.append((name, dtype, outcome, message))
    assert not failures
