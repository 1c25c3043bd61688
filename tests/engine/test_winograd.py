"""Winograd convolutions: the results of conv2d, at least as precise, with fewer products; used only where faster."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from lossmith.engine.cpu import packed_kernels, winograd
from lossmith.engine.frozen import prepare_steps, run_frozen
from lossmith.engine.layers import Conv, ReLU

needs_x86 = pytest.mark.skipif(not packed_kernels._is_x86(), reason="Winograd is used only on x86")
SIZES = [(1, 16, 16), (3, 9, 13), (2, 24, 24), (1, 7, 40), (1, 2, 300), (1, 300, 2), (200, 1, 1), (2, 48, 47)]


def random_normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_kernel(out_channels, in_channels):
    return random_normal(out_channels, in_channels, 3, 3) / (9 * in_channels) ** 0.5


def network(dtype=torch.float32, channels=256, **options):
    """Return two convolutions, of which the second has enough channels for Winograd."""
    first = Conv("conv1", random_normal(channels, 3, 3, 3), random_normal(channels), 1, 1)
    second = Conv(
        "conv2",
        random_kernel(channels, channels),
        random_normal(channels, seed=1),
        **{"stride": 1, "padding": 1, **options},
    )
    return prepare_steps([first, ReLU("relu1"), second, ReLU("relu2")], dtype=dtype)


def used_winograd(steps):
    return any("winograd_weight" in vars(step) for step in steps)


def convolve(x, weight, bias=None, *, back=False):
    matrices = winograd.transform_kernel(weight, back=back)
    return winograd.winograd_conv2d(x, matrices, bias, weight.shape[1 if back else 0], back=back)


def max_error(actual, exact):
    return ((actual.double() - exact).abs().max() / exact.abs().max()).item()


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("in_channels", "out_channels"), [(256, 256), (5, 3)])
def test_both_passes_are_exact_in_float64(size, in_channels, out_channels):
    n, h, w = size
    x, weight, bias = (
        random_normal(n, in_channels, h, w).double(),
        random_kernel(out_channels, in_channels).double(),
        random_normal(out_channels).double(),
    )
    ours = convolve(x, weight, bias)
    assert_close(ours, F.conv2d(x, weight, bias, padding=1), rtol=1e-12, atol=1e-12)
    g = random_normal(n, out_channels, h, w).double()
    assert_close(convolve(g, weight, back=True), F.conv_transpose2d(g, weight, padding=1), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("side", [12, 24, 48])
def test_the_rounding_error_does_not_exceed_that_of_conv2d(side):
    x, weight = random_normal(2, 256, side, side).relu(), random_kernel(256, 256)
    for ours, theirs, exact in (
        (
            convolve(x, weight),
            F.conv2d(x, weight, padding=1),
            F.conv2d(x.double(), weight.double(), padding=1),
        ),
        (
            convolve(x, weight, back=True),
            F.conv_transpose2d(x, weight, padding=1),
            F.conv_transpose2d(x.double(), weight.double(), padding=1),
        ),
    ):
        assert max_error(ours, exact) <= max(max_error(theirs, exact), 1e-6)


@needs_x86
def test_a_network_gives_equal_results_without_winograd(monkeypatch, features_and_gradient):
    steps, image = network(), random_normal(2, 3, 19, 21)
    ours = features_and_gradient(steps, image)
    assert used_winograd(steps)
    monkeypatch.setattr(winograd, "MIN_PIXELS", 10**9)
    plain_steps = network()
    theirs = features_and_gradient(plain_steps, image)
    assert not used_winograd(plain_steps)
    for name, expected in theirs.items():
        assert_close(ours[name], expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
        assert ours[name].is_contiguous(memory_format=torch.channels_last)


def test_winograd_needs_less_than_half_of_the_products():
    x, weight = random_normal(1, 256, 16, 16).double(), random_kernel(256, 256).double()
    matrices = winograd.transform_kernel(weight)
    with FlopCounterMode(display=False) as ours:
        winograd.winograd_conv2d(x, matrices, None, len(weight))
    with FlopCounterMode(display=False) as theirs:
        F.conv2d(x, weight, padding=1)
    assert theirs.get_total_flops() == 2.25 * ours.get_total_flops()


@needs_x86
@pytest.mark.parametrize("options", [{"stride": 2}, {"padding": 0}, {"channels": 128}])
def test_other_convolutions_do_not_use_winograd(options, features_and_gradient):
    steps = network(**options)
    features_and_gradient(steps, random_normal(2, 3, 24, 24))
    assert not used_winograd(steps)


@needs_x86
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_do_not_use_winograd(dtype, features_and_gradient):
    steps = network(dtype)
    features_and_gradient(steps, random_normal(2, 3, 24, 24).to(torch.promote_types(dtype, torch.float32)))
    assert not used_winograd(steps)


@needs_x86
def test_few_pixels_do_not_use_winograd(features_and_gradient):
    steps = network()
    features_and_gradient(steps, random_normal(1, 3, 11, 11))
    assert not used_winograd(steps)


@needs_x86
def test_operator_counters_see_plain_convolutions(features_and_gradient):
    steps = network()
    with FlopCounterMode(display=False) as counter:
        features_and_gradient(steps, random_normal(2, 3, 24, 24))
    assert not used_winograd(steps)
    assert set(counter.get_flop_counts()["Global"]) == {torch.ops.aten.convolution}


PRECISION_SETTINGS = {  # PyTorch's two ways to reduce the precision of matrix products, and to restore it
    "for all": lambda on: torch.set_float32_matmul_precision("medium" if on else "highest"),
    "of a backend": lambda on: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16" if on else "none"),
}


@needs_x86
@pytest.mark.parametrize("set_coarse", PRECISION_SETTINGS.values(), ids=PRECISION_SETTINGS)
def test_winograd_is_not_used_with_reduced_matmul_precision(set_coarse, features_and_gradient):
    steps, again = network(), network()
    set_coarse(True)
    try:
        features_and_gradient(steps, random_normal(2, 3, 24, 24))
    finally:
        set_coarse(False)
    features_and_gradient(again, random_normal(2, 3, 24, 24))
    assert used_winograd(again)
    assert not used_winograd(steps)


@needs_x86
def test_equal_images_have_equal_features_at_any_position_in_a_batch():
    image = random_normal(1, 3, 24, 24)
    steps = network()
    several = run_frozen(steps, image.expand(3, -1, -1, -1).contiguous(), {"conv2"})["conv2"]
    alone = run_frozen(steps, image, {"conv2"})["conv2"]
    assert used_winograd(steps)
    for each in several:
        assert_close(each, alone[0], rtol=0, atol=1e-6 * alone.abs().max().item())


@needs_x86
def test_nan_in_an_image_gives_nan_features_of_that_image_only():
    images = random_normal(2, 3, 24, 24)
    images[0, 0, 8, 8] = float("nan")
    features = run_frozen(network(), images, {"relu2"})["relu2"]
    assert features[0, :, 6:11, 6:11].isnan().all()
    assert not features[1].isnan().any()


@needs_x86
def test_a_network_first_run_in_inference_mode_supports_gradients_afterwards(features_and_gradient):
    steps, image = network(), random_normal(2, 3, 24, 24)
    with torch.inference_mode():
        run_frozen(steps, image, {"relu2"})
    assert used_winograd(steps)
    assert_close(features_and_gradient(steps, image), features_and_gradient(network(), image))
