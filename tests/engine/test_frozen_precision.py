import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lossmith.engine.frozen import get_compute_dtype, prepare_steps, run_frozen
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


def test_an_unknown_fp32_until_raises():
    with pytest.raises(ValueError, match=r"must be one or more of conv1, .*, relu3; got pool9"):
        run_frozen(network(), random_image(), {"conv1"}, fp32_until="pool9")


def test_fp32_until_may_be_deeper_than_the_layers():
    image = random_image()
    maps = run_frozen(network(), image, {"conv1"}, dtype=torch.bfloat16, fp32_until="relu3")
    assert_close(maps, run_frozen(network(), image, {"conv1"}))
