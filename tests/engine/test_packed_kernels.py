"""Packed oneDNN kernels: equal results, packed once, and unused where they are not faster or not supported."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from lossmith.engine.cpu import packed_kernels
from lossmith.engine.frozen import prepare_steps, run_frozen
from lossmith.engine.layers import Conv, ReLU
from lossmith.lenses.squeezenet import SqueezeNetNetwork
from lossmith.lenses.vgg import VGGNetwork

needs_operator = pytest.mark.skipif(
    torch.float32 not in packed_kernels._supported_dtypes(), reason="this oneDNN has no such operator"
)
CONV_SHAPES = [(3, 1, 1), (3, 1, 0), (5, 1, 2), (1, 1, 0), (1, 1, 1), (11, 4, 2), (3, 2, 0)]  # kernel, stride, padding


def network(conv_shape=(3, 1, 1), dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    steps = []
    for i, (in_channels, out_channels, (kernel, stride, padding)) in enumerate(
        [(3, 16, conv_shape), (16, 24, (3, 1, 1))], start=1
    ):
        weight = torch.randn(out_channels, in_channels, kernel, kernel, generator=g) / (in_channels * kernel**2) ** 0.5
        steps += [Conv(f"conv{i}", weight, torch.randn(out_channels, generator=g), stride, padding), ReLU(f"relu{i}")]
    return prepare_steps(steps, dtype=dtype)


def random_image(side=19, n=2):
    return torch.randn(n, 3, side, side + 2, generator=torch.Generator().manual_seed(1))


def list_packed(steps):
    return [name for step in steps for name in ("packed_weight", "packed_backward_weight") if name in vars(step)]


@needs_operator
@pytest.mark.parametrize("conv_shape", CONV_SHAPES)
def test_values_and_gradients_equal_the_plain_convolution(conv_shape, monkeypatch, features_and_gradient):
    steps, image = network(conv_shape), random_image()
    ours = features_and_gradient(steps, image)
    assert "packed_weight" in list_packed(steps)
    monkeypatch.setattr(packed_kernels, "MAX_PIXELS", 0)
    theirs = features_and_gradient(network(conv_shape), image)
    for name, expected in theirs.items():
        assert_close(ours[name], expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.skipif(torch.bfloat16 not in packed_kernels._supported_dtypes(), reason="this oneDNN has no such operator")
@pytest.mark.parametrize("conv_shape", CONV_SHAPES)
def test_in_bf16_values_and_gradients_equal_the_plain_convolution_up_to_rounding(
    conv_shape, monkeypatch, features_and_gradient
):
    steps, image = network(conv_shape, torch.bfloat16), random_image()
    ours = features_and_gradient(steps, image)
    assert "packed_weight" in list_packed(steps)
    monkeypatch.setattr(packed_kernels, "MAX_PIXELS", 0)
    theirs = features_and_gradient(network(conv_shape, torch.bfloat16), image)
    for name, expected in theirs.items():
        assert F.cosine_similarity(ours[name].flatten(), expected.flatten(), dim=0) > 0.9999


@needs_operator
def test_a_kernel_is_packed_at_first_use_and_once(features_and_gradient):
    steps = network()
    assert not list_packed(steps)
    run_frozen(steps, random_image(), {"relu2"})
    assert list_packed(steps) == ["packed_weight"] * 2  # without a gradient there is no backward pass
    first = steps[0].packed_weight
    features_and_gradient(steps, random_image(side=12))
    assert steps[0].packed_weight is first
    assert list_packed(steps) == ["packed_weight", "packed_backward_weight"] * 2


def test_no_kernel_is_packed_for_a_large_map(monkeypatch, features_and_gradient):
    monkeypatch.setattr(packed_kernels, "MAX_PIXELS", 2 * 19 * 21 - 1)
    steps = network()
    features_and_gradient(steps, random_image())
    assert not list_packed(steps)


def test_operator_counters_see_plain_convolutions(features_and_gradient):
    steps = network()
    with FlopCounterMode(display=False) as counter:
        features_and_gradient(steps, random_image())
    assert not list_packed(steps)
    assert set(counter.get_flop_counts()["Global"]) == {torch.ops.aten.convolution}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_precisions_use_plain_convolutions(dtype):
    steps = network(dtype=dtype)
    run_frozen(steps, random_image().to(torch.promote_types(dtype, torch.float32)), {"conv2"})
    assert not list_packed(steps)


def test_without_onednn_plain_convolutions_run(monkeypatch, features_and_gradient):
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    steps = network()
    features_and_gradient(steps, random_image())
    assert not list_packed(steps)


def test_without_the_operator_plain_convolutions_run(monkeypatch, features_and_gradient):
    monkeypatch.setattr(packed_kernels, "_supported_dtypes", frozenset)
    steps = network()
    features_and_gradient(steps, random_image())
    assert not list_packed(steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_in_an_image_gives_nan_features(dtype):
    image = random_image()
    image[0, 0, 8, 8] = float("nan")
    assert run_frozen(network(dtype=dtype), image, {"relu2"})["relu2"][0, :, 7:10, 7:10].isnan().all()
    assert not run_frozen(network(dtype=dtype), image, {"relu2"})["relu2"][1].isnan().any()


def test_a_network_first_run_in_inference_mode_supports_gradients_afterwards(features_and_gradient):
    steps, image = network(), random_image()
    with torch.inference_mode():
        run_frozen(steps, image, {"relu2"})
    assert_close(features_and_gradient(steps, image), features_and_gradient(network(), image))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
@pytest.mark.parametrize("backbone", [VGGNetwork("vgg16", "random"), SqueezeNetNetwork("squeezenet", "random")])
def test_a_network_that_has_run_can_be_copied_and_pickled(backbone, duplicate):
    image, layer = torch.rand(1, 3, 32, 32, requires_grad=True), backbone.layers[9]
    expected = backbone(image, [layer])[layer]
    expected.sum().backward()
    copied = duplicate(backbone)
    assert_close(copied(image, [layer])[layer], expected)
