import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lossmith.engine.frozen import prepare_steps, get_compute_dtype, run_frozen
from lossmith.engine.layers import Conv, MaxPool, ReLU

EVERY = frozenset({"conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "conv3", "relu3"})


def network(width=8):
    g = torch.Generator().manual_seed(0)
    steps = []
    for i, inward in enumerate((3, width, width), start=1):
        weight = torch.randn(width, inward, 3, 3, generator=g) / (4.5 * inward) ** 0.5
        steps += [Conv(f"conv{i}", weight, torch.randn(width, generator=g) / 4, 1, 1), ReLU(f"relu{i}")]
        steps += [MaxPool(f"pool{i}")] if i < 3 else []
    return steps


def picture(n=1):
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()


def swept(maps):
    """A sum in which no two elements weigh the same."""
    return sum((m * torch.linspace(-1, 1, m.numel()).view(m.shape)).sum() for m in maps.values())


def gradient(maps, image):
    return torch.autograd.grad(swept(maps), image, retain_graph=True)[0]


def cosine(ours, expected):
    return F.cosine_similarity(ours.flatten(), expected.flatten(), dim=0).item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_taps_are_float32_and_the_gradient_is_the_pictures(dtype):
    image = picture()
    maps = run_frozen(network(), image, EVERY, dtype=dtype)
    assert {m.dtype for m in maps.values()} == {torch.float32}
    assert gradient(maps, image).dtype == torch.float32


def test_bf16_gives_the_values_and_gradients_of_plain_bf16():
    steps, image = network(), picture(2)
    x = image.bfloat16()
    for step in prepare_steps(steps[:-1], dtype=torch.bfloat16):
        x = step(x)
    expected = gradient({"conv3": x.float()}, image)
    ours = gradient(run_frozen(steps, image, {"conv3"}, dtype=torch.bfloat16), image)
    assert cosine(ours, expected) > 0.9999


@pytest.mark.parametrize("fine", ["relu3", "conv1", "pool1"])
def test_up_to_the_fine_step_the_forward_pass_is_in_float32(fp32_until):
    steps, image = network(), picture(2)
    expected = run_frozen(steps, image, EVERY)
    ours = run_frozen(steps, image, EVERY, dtype=torch.bfloat16, fp32_until=fp32_until)
    names = list(expected)
    for name in names[: names.index(fp32_until) + 1]:
        assert_close(ours[name], expected[name])


def test_a_fine_forward_pass_gives_the_gradient_its_direction():
    steps, image = network(16), picture(4)
    expected = gradient(run_frozen(steps, image, {"conv3"}), image)
    rough = gradient(run_frozen(steps, image, {"conv3"}, dtype=torch.bfloat16), image)
    fp32_until = gradient(run_frozen(steps, image, {"conv3"}, dtype=torch.bfloat16, fp32_until="relu3"), image)
    assert cosine(fp32_until, expected) > 0.9999 > cosine(rough, expected)


def test_a_network_that_was_cast_runs_as_it_was_asked_to():
    steps, image = network(), picture()
    ready = prepare_steps(steps, dtype=torch.bfloat16, fp32_until="pool1")
    expected = run_frozen(steps, image, EVERY, dtype=torch.bfloat16, fp32_until="pool1")
    assert_close(run_frozen(ready, image, EVERY), expected, rtol=0, atol=0)
    assert_close(gradient(run_frozen(ready, image, EVERY), image), gradient(expected, image), rtol=0, atol=0)


def test_autocast_sets_the_precision():
    image = picture()
    expected = run_frozen(network(), image, {"conv3"}, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert get_compute_dtype(image) == torch.bfloat16
        assert get_compute_dtype(image.double()) == torch.float64
        maps = run_frozen(network(), image, {"conv3"})
        inside = gradient(maps, image)
    assert_close(maps, expected, rtol=0, atol=0)
    assert_close(gradient(maps, image), inside, rtol=0, atol=0)


def test_a_precision_that_is_given_is_none_of_autocasts_business():
    image = picture()
    expected = run_frozen(network(), image, EVERY)
    with torch.autocast("cpu", torch.bfloat16):
        maps = run_frozen(network(), image, EVERY, dtype=torch.float32)
        inside = gradient(maps, image)
    assert_close(maps, expected)
    assert_close(inside, gradient(expected, image))


def test_fp16_keeps_gradients_far_below_its_range():
    image = picture()
    value = swept(run_frozen(network(), image, EVERY, dtype=torch.float16))
    expected = torch.autograd.grad(value, image, retain_graph=True)[0]
    assert_close(torch.autograd.grad(2**-60 * value, image)[0] * 2**60, expected)


def test_fp16_takes_a_gradient_of_nothing_but_zeros():
    image = picture()
    loss = 0 * run_frozen(network(), image, {"conv3"}, dtype=torch.float16)["conv3"].sum()
    assert_close(torch.autograd.grad(loss, image)[0], torch.zeros_like(image))


def test_an_unknown_fine_step_is_refused_in_words():
    with pytest.raises(ValueError, match=r"wants layers out of conv1, .*, relu3; got pool9"):
        run_frozen(network(), picture(), {"conv1"}, fp32_until="pool9")


def test_a_fine_step_may_lie_deeper_than_the_taps():
    image = picture()
    maps = run_frozen(network(), image, {"conv1"}, dtype=torch.bfloat16, fp32_until="relu3")
    assert_close(maps, run_frozen(network(), image, {"conv1"}))
