"""Winograd's algorithm: the same numbers as conv2d, at least as precise, with fewer products; only where it pays."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from lossmith.engine.cpu import packed_kernels, winograd
from lossmith.engine.frozen import prepare_steps, run_frozen
from lossmith.engine.layers import Conv, ReLU

there = pytest.mark.skipif(not packed_kernels._measured(), reason="it runs on x86 alone, where it was measured")
SIZES = [(1, 16, 16), (3, 9, 13), (2, 24, 24), (1, 7, 40), (1, 2, 300), (1, 300, 2), (200, 1, 1), (2, 48, 47)]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kernel(out, inward):
    return drawn(out, inward, 3, 3) / (9 * inward) ** 0.5


def network(dtype=torch.float32, channels=256, **form):
    """Two convolutions, of which the second has the channels that it takes."""
    first = Conv("conv1", drawn(channels, 3, 3, 3), drawn(channels), 1, 1)
    second = Conv("conv2", kernel(channels, channels), drawn(channels, seed=1), **{"stride": 1, "padding": 1, **form})
    return prepare_steps([first, ReLU("relu1"), second, ReLU("relu2")], dtype=dtype)


def took_it(steps):
    return any("planes" in vars(step) for step in steps)


def worst(found, exact):
    return ((found.double() - exact).abs().max() / exact.abs().max()).item()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("inward", "out"), [(256, 256), (5, 3)])
def test_both_passes_are_exact_in_float64(size, inward, out):
    n, h, w = size
    x, weight, bias = drawn(n, inward, h, w).double(), kernel(out, inward).double(), drawn(out).double()
    ready = winograd.transform_kernel(weight)
    assert_close(winograd.winograd_conv2d(x, ready, bias), F.conv2d(x, weight, bias, padding=1), rtol=1e-12, atol=1e-12)
    g = drawn(n, out, h, w).double()
    back = winograd.winograd_conv2d(g, ready, None, back=True)
    assert_close(back, F.conv_transpose2d(g, weight, padding=1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("side", [12, 24, 48])
def test_it_rounds_no_more_coarsely_than_conv2d(side):
    x, weight = drawn(2, 256, side, side).relu(), kernel(256, 256)
    ready = winograd.transform_kernel(weight)
    for ours, theirs, exact in (
        (
            winograd.winograd_conv2d(x, ready, None),
            F.conv2d(x, weight, padding=1),
            F.conv2d(x.double(), weight.double(), padding=1),
        ),
        (
            winograd.winograd_conv2d(x, ready, None, back=True),
            F.conv_transpose2d(x, weight, padding=1),
            F.conv_transpose2d(x.double(), weight.double(), padding=1),
        ),
    ):
        assert worst(ours, exact) <= max(worst(theirs, exact), 1e-6)


@there
def test_a_network_gives_the_same_with_it_and_without(monkeypatch, features_and_gradient):
    steps, image = network(), drawn(2, 3, 19, 21)
    ours = features_and_gradient(steps, image)
    assert took_it(steps)
    monkeypatch.setattr(winograd, "FEW", 10**9)
    plain = network()
    theirs = features_and_gradient(plain, image)
    assert not took_it(plain)
    for name, expected in theirs.items():
        assert_close(ours[name], expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
        assert ours[name].is_contiguous(memory_format=torch.channels_last)


def test_it_takes_less_than_half_of_the_products():
    x, weight = drawn(1, 256, 16, 16), kernel(256, 256)
    ready = winograd.transform_kernel(weight)
    with FlopCounterMode(display=False) as ours:
        winograd.winograd_conv2d(x, ready, None)
    with FlopCounterMode(display=False) as theirs:
        F.conv2d(x, weight, padding=1)
    assert theirs.get_total_flops() == 2.25 * ours.get_total_flops()


@there
@pytest.mark.parametrize("form", [{"stride": 2}, {"padding": 0}, {"channels": 128}])
def test_other_convolutions_run_as_they_did(form, features_and_gradient):
    steps = network(**form)
    features_and_gradient(steps, drawn(2, 3, 24, 24))
    assert not took_it(steps)


@there
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_do_not_take_it(dtype, features_and_gradient):
    steps = network(dtype)
    features_and_gradient(steps, drawn(2, 3, 24, 24).to(torch.promote_types(dtype, torch.float32)))
    assert not took_it(steps)


@there
def test_few_pixels_do_not_take_it(features_and_gradient):
    steps = network()
    features_and_gradient(steps, drawn(1, 3, 11, 11))
    assert not took_it(steps)


@there
def test_who_counts_operators_sees_plain_convolutions(features_and_gradient):
    steps = network()
    with FlopCounterMode(display=False) as counter:
        features_and_gradient(steps, drawn(2, 3, 24, 24))
    assert not took_it(steps)
    assert set(counter.get_flop_counts()["Global"]) == {torch.ops.aten.convolution}


COARSE = {  # PyTorch's two ways to ask for coarse products, and to take it back
    "for all": lambda on: torch.set_float32_matmul_precision("medium" if on else "highest"),
    "of a backend": lambda on: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16" if on else "none"),
}


@there
@pytest.mark.parametrize("asked", COARSE.values(), ids=COARSE)
def test_products_that_may_be_coarse_are_not_taken(asked, features_and_gradient):
    steps, again = network(), network()
    asked(True)
    try:
        features_and_gradient(steps, drawn(2, 3, 24, 24))
    finally:
        asked(False)
    features_and_gradient(again, drawn(2, 3, 24, 24))
    assert took_it(again)
    assert not took_it(steps)


@there
def test_equal_pictures_have_equal_features_wherever_they_are_in_a_batch():
    picture = drawn(1, 3, 24, 24)
    steps = network()
    several = run_frozen(steps, picture.expand(3, -1, -1, -1).contiguous(), {"conv2"})["conv2"]
    alone = run_frozen(steps, picture, {"conv2"})["conv2"]
    assert took_it(steps)
    for each in several:
        assert_close(each, alone[0], rtol=0, atol=1e-6 * alone.abs().max().item())


@there
def test_a_picture_that_is_no_number_gives_features_that_are_none_and_no_other_picture_suffers():
    pictures = drawn(2, 3, 24, 24)
    pictures[0, 0, 8, 8] = float("nan")
    features = run_frozen(network(), pictures, {"relu2"})["relu2"]
    assert features[0, :, 6:11, 6:11].isnan().all()
    assert not features[1].isnan().any()


@there
def test_what_was_first_seen_in_inference_mode_may_train_afterwards(features_and_gradient):
    steps, image = network(), drawn(2, 3, 24, 24)
    with torch.inference_mode():
        run_frozen(steps, image, {"relu2"})
    assert took_it(steps)
    assert_close(features_and_gradient(steps, image), features_and_gradient(network(), image))
