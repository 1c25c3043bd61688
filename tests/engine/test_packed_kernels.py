"""Kernels that lie ready for oneDNN: the same numbers, made once, and nothing where they do not pay or run."""

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

there = pytest.mark.skipif(torch.float32 not in packed_kernels._precisions(), reason="oneDNN has no such operator here")
FORMS = [(3, 1, 1), (3, 1, 0), (5, 1, 2), (1, 1, 0), (1, 1, 1), (11, 4, 2), (3, 2, 0)]  # kernel, stride, padding


def network(form=(3, 1, 1), dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    steps = []
    for i, (inward, outward, (kernel, stride, padding)) in enumerate([(3, 16, form), (16, 24, (3, 1, 1))], start=1):
        weight = torch.randn(outward, inward, kernel, kernel, generator=g) / (inward * kernel**2) ** 0.5
        steps += [Conv(f"conv{i}", weight, torch.randn(outward, generator=g), stride, padding), ReLU(f"relu{i}")]
    return prepare_steps(steps, dtype=dtype)


def picture(side=19, n=2):
    return torch.randn(n, 3, side, side + 2, generator=torch.Generator().manual_seed(1))


def made(steps):
    return [name for step in steps for name in ("laid", "laid_back") if name in vars(step)]


@there
@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradients_are_those_of_the_plain_convolution(form, monkeypatch, features_and_gradient):
    steps, image = network(form), picture()
    ours = features_and_gradient(steps, image)
    assert "laid" in made(steps)
    monkeypatch.setattr(packed_kernels, "FEW", 0)
    theirs = features_and_gradient(network(form), image)
    for name, expected in theirs.items():
        assert_close(ours[name], expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.skipif(torch.bfloat16 not in packed_kernels._precisions(), reason="oneDNN has no such operator here")
@pytest.mark.parametrize("form", FORMS)
def test_in_bf16_they_are_those_of_the_plain_convolution_as_far_as_it_is_precise(form, monkeypatch, features_and_gradient):
    steps, image = network(form, torch.bfloat16), picture()
    ours = features_and_gradient(steps, image)
    assert "laid" in made(steps)
    monkeypatch.setattr(packed_kernels, "FEW", 0)
    theirs = features_and_gradient(network(form, torch.bfloat16), image)
    for name, expected in theirs.items():
        assert F.cosine_similarity(ours[name].flatten(), expected.flatten(), dim=0) > 0.9999


@there
def test_a_kernel_is_laid_out_when_it_is_first_needed_and_once(features_and_gradient):
    steps = network()
    assert not made(steps)
    run_frozen(steps, picture(), {"relu2"})
    assert made(steps) == ["laid", "laid"]  # without a gradient nothing goes back
    first = steps[0].laid
    features_and_gradient(steps, picture(side=12))
    assert steps[0].laid is first
    assert made(steps) == ["laid", "laid_back"] * 2


def test_no_kernel_is_laid_out_for_a_large_map(monkeypatch, features_and_gradient):
    monkeypatch.setattr(packed_kernels, "FEW", 2 * 19 * 21 - 1)
    steps = network()
    features_and_gradient(steps, picture())
    assert not made(steps)


def test_who_counts_operators_sees_plain_convolutions(features_and_gradient):
    steps = network()
    with FlopCounterMode(display=False) as counter:
        features_and_gradient(steps, picture())
    assert not made(steps)
    assert set(counter.get_flop_counts()["Global"]) == {torch.ops.aten.convolution}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_precisions_take_plain_convolutions(dtype):
    steps = network(dtype=dtype)
    run_frozen(steps, picture().to(torch.promote_types(dtype, torch.float32)), {"conv2"})
    assert not made(steps)


def test_without_onednn_plain_convolutions_run(monkeypatch, features_and_gradient):
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    steps = network()
    features_and_gradient(steps, picture())
    assert not made(steps)


def test_where_the_operator_is_gone_plain_convolutions_run(monkeypatch, features_and_gradient):
    monkeypatch.setattr(packed_kernels, "_precisions", frozenset)
    steps = network()
    features_and_gradient(steps, picture())
    assert not made(steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_picture_that_is_no_number_gives_features_that_are_none(dtype):
    image = picture()
    image[0, 0, 8, 8] = float("nan")
    assert run_frozen(network(dtype=dtype), image, {"relu2"})["relu2"][0, :, 7:10, 7:10].isnan().all()
    assert not run_frozen(network(dtype=dtype), image, {"relu2"})["relu2"][1].isnan().any()


def test_what_was_first_seen_in_inference_mode_may_train_afterwards(features_and_gradient):
    steps, image = network(), picture()
    with torch.inference_mode():
        run_frozen(steps, image, {"relu2"})
    assert_close(features_and_gradient(steps, image), features_and_gradient(network(), image))


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
@pytest.mark.parametrize("backbone", [VGGNetwork("vgg16", "random"), SqueezeNetNetwork("squeezenet", "random")])
def test_a_network_that_has_run_may_be_copied_and_pickled(backbone, twin):
    image, layer = torch.rand(1, 3, 32, 32, requires_grad=True), backbone.layers[9]
    expected = backbone(image, [layer])[layer]
    expected.sum().backward()
    other = twin(backbone)
    assert_close(other(image, [layer])[layer], expected)
