import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lossmith.engine.frozen import as_grey, get_compute_dtype, prepare_steps, run_frozen
from lossmith.engine.frozen.precision import (
    choose_compute_dtype,
    choose_exactness,
    compute_gradient_scale,
    is_fp16_fast,
)
from lossmith.engine.layers import Conv, MaxPool, ReLU

ALL_LAYERS = frozenset({"conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "conv3", "relu3"})


def network(width=8):
    g = torch.Generator().manual_seed(0)
    steps = []
    for i, in_channels in enumerate((3, width, width), start=1):
        weight = torch.randn(width, in_channels, 3, 3, generator=g) / (4.5 * in_channels) ** 0.5
        steps += [Conv(f"conv{i}", weight, torch.randn(width, generator=g) / 4, 1, 1), ReLU(f"relu{i}")]
        steps += [MaxPool(f"pool{i}")] if i < 3 else []
    return steps


def random_image(n=1):
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()


def weighted_sum(maps):
    """Return a sum in which each element has another weight."""
    return sum((m * torch.linspace(-1, 1, m.numel()).view(m.shape)).sum() for m in maps.values())


def gradient(maps, image):
    return torch.autograd.grad(weighted_sum(maps), image, retain_graph=True)[0]


def cosine(ours, expected):
    return F.cosine_similarity(ours.flatten(), expected.flatten(), dim=0).item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_features_and_the_gradient_are_float32(dtype):
    image = random_image()
    maps = run_frozen(network(), image, ALL_LAYERS, dtype=dtype)
    assert {m.dtype for m in maps.values()} == {torch.float32}
    assert gradient(maps, image).dtype == torch.float32


def test_the_bf16_gradient_is_that_of_plain_bf16():
    steps, image = network(), random_image(2)
    x = image.bfloat16()
    for step in prepare_steps(steps[:-1], dtype=torch.bfloat16):
        x = step(x)
    expected = gradient({"conv3": x.float()}, image)
    ours = gradient(run_frozen(steps, image, {"conv3"}, dtype=torch.bfloat16), image)
    assert cosine(ours, expected) > 0.9999


@pytest.mark.parametrize("fp32_until", ["relu3", "conv1", "pool1"])
def test_up_to_fp32_until_the_forward_pass_is_in_float32(fp32_until):
    steps, image = network(), random_image(2)
    expected = run_frozen(steps, image, ALL_LAYERS)
    ours = run_frozen(steps, image, ALL_LAYERS, dtype=torch.bfloat16, fp32_until=fp32_until)
    names = list(expected)
    for name in names[: names.index(fp32_until) + 1]:
        assert_close(ours[name], expected[name])


def test_a_forward_pass_partly_in_float32_restores_the_direction_of_the_gradient():
    steps, image = network(16), random_image(4)
    expected = gradient(run_frozen(steps, image, {"conv3"}), image)
    bf16_only = gradient(run_frozen(steps, image, {"conv3"}, dtype=torch.bfloat16), image)
    partly_fp32 = gradient(run_frozen(steps, image, {"conv3"}, dtype=torch.bfloat16, fp32_until="relu3"), image)
    assert cosine(partly_fp32, expected) > 0.9999 > cosine(bf16_only, expected)


def test_a_prepared_network_runs_with_its_own_options():
    steps, image = network(), random_image()
    ready = prepare_steps(steps, dtype=torch.bfloat16, fp32_until="pool1")
    expected = run_frozen(steps, image, ALL_LAYERS, dtype=torch.bfloat16, fp32_until="pool1")
    assert_close(run_frozen(ready, image, ALL_LAYERS), expected, rtol=0, atol=0)
    assert_close(gradient(run_frozen(ready, image, ALL_LAYERS), image), gradient(expected, image), rtol=0, atol=0)


def test_autocast_sets_the_precision():
    image = random_image()
    expected = run_frozen(network(), image, {"conv3"}, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert get_compute_dtype(image) == torch.bfloat16
        assert get_compute_dtype(image.double()) == torch.float64
        maps = run_frozen(network(), image, {"conv3"})
        inside = gradient(maps, image)
    assert_close(maps, expected, rtol=0, atol=0)
    assert_close(gradient(maps, image), inside, rtol=0, atol=0)


def test_a_given_precision_overrides_autocast():
    image = random_image()
    expected = run_frozen(network(), image, ALL_LAYERS)
    with torch.autocast("cpu", torch.bfloat16):
        maps = run_frozen(network(), image, ALL_LAYERS, dtype=torch.float32)
        inside = gradient(maps, image)
    assert_close(maps, expected)
    assert_close(inside, gradient(expected, image))


def test_fp16_supports_gradients_far_below_its_range():
    image = random_image()
    value = weighted_sum(run_frozen(network(), image, ALL_LAYERS, dtype=torch.float16))
    expected = torch.autograd.grad(value, image, retain_graph=True)[0]
    assert_close(torch.autograd.grad(2**-60 * value, image)[0] * 2**60, expected)


def test_fp16_supports_a_gradient_of_zeros():
    image = random_image()
    loss = 0 * run_frozen(network(), image, {"conv3"}, dtype=torch.float16)["conv3"].sum()
    assert_close(torch.autograd.grad(loss, image)[0], torch.zeros_like(image))


def test_fp16_supports_features_above_its_range():
    steps, image = network(), 3e4 * random_image()
    expected = run_frozen(steps, image, ALL_LAYERS)
    assert max(each.max() for each in expected.values()) > 1e5 > torch.finfo(torch.float16).max
    found = run_frozen(steps, image, ALL_LAYERS, dtype=torch.float16)
    assert cosine(found["relu3"], expected["relu3"]) > 0.9999
    assert cosine(gradient(found, image), gradient(expected, image)) > 0.99  # ReLUs and pools round, too


@pytest.mark.parametrize("is_grey", [False, True])
def test_the_bias_counts_as_much_in_fp16(is_grey):
    steps, image = network(), random_image(2)
    mean = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)
    image = image.mean(dim=1, keepdim=True) if is_grey else image
    maps = {}
    for dtype in (torch.float32, torch.float16):
        _, ready = (
            as_grey(mean, prepare_steps(steps, dtype=dtype)) if is_grey else (mean, prepare_steps(steps, dtype=dtype))
        )
        maps[dtype] = run_frozen(ready, image, ALL_LAYERS)
    assert_close(maps[torch.float16], maps[torch.float32], rtol=5e-3, atol=5e-3)


def test_fp16_keeps_the_gradient_of_each_image_in_range():
    image = random_image(3)
    maps = run_frozen(network(), image, ALL_LAYERS, dtype=torch.float16)
    factors = torch.tensor([1.0, 2.0**-70, 2.0**40]).view(-1, 1, 1, 1)
    (expected,) = torch.autograd.grad(weighted_sum(maps), image, retain_graph=True)
    (found,) = torch.autograd.grad(weighted_sum({name: each * factors for name, each in maps.items()}), image)
    assert_close(found / factors, expected, rtol=0, atol=0)  # powers of two


def test_fp16_keeps_a_non_finite_gradient_to_its_image():
    image = random_image(2)
    maps = run_frozen(network(), image, {"relu3"}, dtype=torch.float16)
    factors = torch.tensor([float("nan"), 1.0]).view(-1, 1, 1, 1)
    (found,) = torch.autograd.grad((maps["relu3"] * factors).sum(), image)
    assert found[0].isnan().all()
    assert found[1].isfinite().all()
    assert found[1].any()


def test_fp16_adds_gradients_of_layers_of_very_different_size():
    image = random_image()
    expected = run_frozen(network(), image, {"relu1", "relu3"})
    maps = run_frozen(network(), image, {"relu1", "relu3"}, dtype=torch.float16, fp32_until="relu3")

    def gradient_of(maps):
        return torch.autograd.grad(weighted_sum({"a": 1e-9 * maps["relu1"], "b": maps["relu3"]}), image)[0]

    assert cosine(gradient_of(maps), gradient_of(expected)) > 0.99999


def test_the_scale_of_a_gradient_is_a_power_of_two_and_finite():
    largest = torch.tensor([0.0, 1e-44, 1.5, 1e20])
    scale = compute_gradient_scale(largest.view(-1, 1, 1, 1)).flatten()
    assert_close(scale[2:], torch.tensor([8.0, 8 * 2.0**66]), rtol=0, atol=0)
    assert scale.isfinite().all()
    assert (scale > 0).all()


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), True), ((7, 5), True), ((7, 0), True), ((6, 1), False)])
def test_fp16_is_fast_on_nvidia_gpus_with_tensor_cores(capability, expected, monkeypatch):
    monkeypatch.setattr("lossmith.engine.frozen.precision._HAS_FAST_FP16", {})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert is_fp16_fast(torch.device("cuda")) is expected
    assert not any(is_fp16_fast(torch.device(name)) for name in ("cpu", "mps", "xpu"))


@pytest.mark.slow
def test_a_compiler_does_not_ask_the_device(monkeypatch):
    monkeypatch.setattr("lossmith.engine.frozen.precision._HAS_FAST_FP16", {})
    monkeypatch.setattr(torch.cuda, "get_device_capability", Mock(return_value=(8, 0)))

    def scaled(x):
        return 2 * x if is_fp16_fast(torch.device("cuda")) else x

    x = torch.ones(2)
    assert_close(scaled(x), 2 * x)  # the first call is not compiled
    assert_close(torch.compile(scaled, fullgraph=True, backend="eager")(x), 2 * x)


def test_where_fp16_is_fast_it_runs_under_bf16_autocast(monkeypatch):
    monkeypatch.setattr("lossmith.engine.frozen.precision.is_fp16_fast", lambda device: True)
    image = random_image()
    assert choose_compute_dtype(image) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert choose_compute_dtype(image) == torch.float16
        assert choose_compute_dtype(image.double()) == torch.float64
        maps = run_frozen(network(), image, ALL_LAYERS)
    assert_close(maps, run_frozen(network(), image, ALL_LAYERS, dtype=torch.float16), rtol=0, atol=0)


def test_an_unknown_fp32_until_raises():
    with pytest.raises(ValueError, match=r"must be one or more of conv1, .*, relu3; got pool9"):
        run_frozen(network(), random_image(), {"conv1"}, fp32_until="pool9")


def test_fp32_until_may_be_deeper_than_the_layers():
    image = random_image()
    maps = run_frozen(network(), image, {"conv1"}, dtype=torch.bfloat16, fp32_until="relu3")
    assert_close(maps, run_frozen(network(), image, {"conv1"}))


def to_tf32(x):
    """Return a tensor with the ten bits of mantissa that tensor cores read."""
    return (x.view(torch.int32) & -(1 << 13)).view(torch.float32)


@pytest.fixture
def settings_seen(monkeypatch):
    """Emulate cuDNN's TF32 convolutions on a CPU; return the precision that was set at each of them."""
    seen = []

    def conv2d(x, weight, bias, stride, padding):
        seen.append(torch.backends.cudnn.conv.fp32_precision)
        is_rounded = seen[-1] == "tf32" and x.dtype == torch.float32
        operands = (to_tf32(x), to_tf32(weight)) if is_rounded else (x, weight)
        return torch.conv2d(*operands, bias, stride, padding)

    monkeypatch.setattr("lossmith.engine.frozen.precision.F.conv2d", conv2d)
    return seen


@pytest.mark.parametrize(("exactness", "precision"), [("tf32x3", "tf32"), ("float32", "ieee")])
def test_on_tensor_cores_the_first_layers_are_as_precise_as_float32(exactness, precision, settings_seen, monkeypatch):
    monkeypatch.setattr("lossmith.engine.frozen.steps.choose_exactness", lambda device: exactness)
    monkeypatch.setattr("lossmith.engine.cpu.packed_kernels.is_enabled", lambda: False)
    before = torch.backends.cudnn.conv.fp32_precision
    steps, image = network(width=32), random_image(2)
    maps = run_frozen(steps, image, ALL_LAYERS, dtype=torch.bfloat16, fp32_until="pool1")
    assert settings_seen[0] == precision
    assert torch.backends.cudnn.conv.fp32_precision == before
    expected = run_frozen(steps, image.double(), ALL_LAYERS)["relu1"].float()
    assert_close(maps["relu1"], expected, rtol=2e-6, atol=2e-6)
    one_product = torch.conv2d(to_tf32(image), to_tf32(steps[0].weight), steps[0].bias, padding=1).relu()
    assert (one_product - expected).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("capability", "exactness"),
    [((9, 0), "tf32x3"), ((8, 0), "tf32x3"), ((8, 9), "float32"), ((8, 6), "float32"), ((7, 5), "float32")],
)
def test_the_arithmetic_of_the_first_layers_depends_on_the_device(capability, exactness, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_exactness(torch.device("cuda")) == exactness
    assert choose_exactness(torch.device("cpu")) is choose_exactness(torch.device("mps")) is None


def test_without_half_precision_the_users_settings_decide(monkeypatch):
    monkeypatch.setattr("lossmith.engine.frozen.steps.choose_exactness", lambda device: "tf32x3")
    ready = prepare_steps(network(), dtype=torch.float32, fp32_until="pool1")
    assert {step.exactness for step in ready if isinstance(step, Conv)} == {None}


def test_the_measured_cosines_support_the_arithmetic_of_tensor_cores():
    path = Path(__file__).parents[2] / "experiments" / "precision" / "result.json"
    cosines = json.loads(path.read_text())["cosines"]
    for text in ("perceptual('vgg16')", "lpips('vgg')"):
        least = {name: min(map(min, of_photograph.values())) for name, of_photograph in cosines[text].items()}
        assert least["tf32, then bf16"] < 0.999 < least["fp16x3, then fp16"]
        assert abs(least["tf32x3, then bf16"] - least["fp32, then bf16"]) < 2e-4


def test_on_all_networks_fp16_after_exact_first_layers_keeps_a_cosine_of_0_999():
    path = Path(__file__).parents[2] / "experiments" / "precision" / "result.json"
    cosines = json.loads(path.read_text())["cosines"]
    assert {text.partition("'")[2].partition("'")[0] for text in cosines} >= {"vgg16", "vgg19", "squeezenet", "alexnet"}
    for of_policy in cosines.values():
        assert min(map(min, of_policy["engine, fp16"].values())) > 0.9995
