from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

from lossmith.engine.frozen import compute_tile_margin, count_saved_bytes, run_frozen
from lossmith.engine.layers import Conv, MaxPool, ReLU

ALL_LAYERS = frozenset({"conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "conv3", "relu3"})


def network(*, widths=(3, 5, 8, 6), kernel=2, ceil=False, stride=1, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    steps = []
    for i, (in_channels, out_channels) in enumerate(pairwise(widths), start=1):
        weight = (
            torch.randn(out_channels, in_channels, 3, 3, generator=g, dtype=torch.float64) / (4.5 * in_channels) ** 0.5
        )
        bias = torch.randn(out_channels, generator=g, dtype=torch.float64) / 4
        steps += [Conv(f"conv{i}", weight.to(dtype), bias.to(dtype), stride if i == 1 else 1, 1), ReLU(f"relu{i}")]
        if i < len(widths) - 1:
            steps.append(MaxPool(f"pool{i}", kernel, 2, ceil))
    return steps


def run_plain(steps, image, layers):
    maps, x = {}, image
    for step in steps:
        x = step(x)
        if step.name in layers:
            maps[step.name] = x
    return maps


def random_image(*shape, dtype=torch.float32, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_()


def weighted_sum(maps):
    """Return a sum in which each element has another weight."""
    return sum((m * torch.linspace(-1, 1, m.numel(), dtype=m.dtype).view(m.shape)).sum() for m in maps.values())


def gradient(maps, image):
    return torch.autograd.grad(weighted_sum(maps), image, retain_graph=True)[0]


@pytest.mark.parametrize(("dtype", "rtol", "atol"), [(torch.float64, 1e-10, 1e-10), (torch.float32, 1e-5, 1e-5)])
@pytest.mark.parametrize(
    "layers", [{"conv3"}, {"relu2"}, {"pool1"}, {"relu1", "pool1"}, {"conv1", "relu3"}, ALL_LAYERS]
)
@pytest.mark.parametrize("options", [{}, {"kernel": 3}, {"kernel": 3, "ceil": True}, {"ceil": True}, {"stride": 2}])
@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (3, 3, 17, 23)])
def test_values_and_gradients_equal_plain_autograd(shape, options, layers, dtype, rtol, atol):
    steps, image = network(dtype=dtype, **options), random_image(*shape, dtype=dtype)
    ours, theirs = run_frozen(steps, image, layers), run_plain(steps, image, layers)
    assert list(ours) == list(theirs)
    for name in layers:
        assert_close(ours[name], theirs[name], rtol=rtol, atol=atol)
    expected = gradient(theirs, image)
    assert_close(gradient(ours, image), expected, rtol=rtol, atol=atol * expected.abs().max().item())


@pytest.mark.slow
def test_the_gradient_passes_gradcheck():
    steps, image = network(dtype=torch.float64), random_image(1, 3, 9, 10, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: tuple(run_frozen(steps, x, ALL_LAYERS).values()), image)


def test_a_large_batch_is_split_with_equal_results(monkeypatch):
    steps, image = network(dtype=torch.float64), random_image(5, 3, 12, 12, dtype=torch.float64)
    whole = run_frozen(steps, image, ALL_LAYERS)
    expected = gradient(whole, image)
    monkeypatch.setattr(
        "lossmith.engine.frozen.cost.MAX_ACTIVATION_ELEMENTS", 2 * 5 * 12 * 12
    )  # two images, and one in the last part
    parts = run_frozen(steps, image, ALL_LAYERS)
    assert_close(parts, whole)
    assert_close(gradient(parts, image), expected)


def test_a_relu_passes_no_gradient_at_zero_and_at_minus_zero():
    image = torch.tensor([-1.0, -0.0, 0.0, 1e-38, 2.0]).view(1, 1, 1, 5).requires_grad_()
    (grad,) = torch.autograd.grad(run_frozen([ReLU("relu")], image, {"relu"})["relu"].sum(), image)
    assert_close(grad.flatten(), torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nan_stays_nan_with_the_gradient_of_pytorch(dtype):
    image = torch.tensor([float("nan"), -float("nan"), 1.0]).view(1, 1, 1, 3).to(dtype).requires_grad_()
    relu = run_frozen([ReLU("relu")], image, {"relu"})["relu"]
    (grad,) = torch.autograd.grad(relu, image, torch.ones_like(relu))
    assert_close(relu.isnan().flatten(), torch.tensor([True, True, False]))
    assert_close(grad, torch.ones_like(image))


@pytest.mark.parametrize(("kernel", "ceil"), [(2, False), (2, True), (3, False), (3, True)])
def test_a_pool_breaks_ties_as_pytorch_does(kernel, ceil):
    image = random_image(2, 3, 11, 13, dtype=torch.float64).detach().mul(0.8).round().requires_grad_()  # with many ties
    pool = MaxPool("pool", kernel, 2, ceil)
    expected = gradient({"pool": F.max_pool2d(image, kernel, 2, ceil_mode=ceil)}, image)
    assert_close(gradient(run_frozen([pool], image, {"pool"}), image), expected)


def test_a_pool_index_is_correct_in_rows_longer_than_16_bits_count():
    image = random_image(1, 1, 4, 40_000, dtype=torch.bfloat16)
    expected = gradient({"pool": F.max_pool2d(image, 2).float()}, image)
    assert_close(gradient(run_frozen([MaxPool("pool")], image, {"pool"}), image), expected)


def test_a_constant_image_has_the_gradient_of_plain_autograd():
    def exact(step):  # in 64ths no sum is rounded in any order of additions, so that equal elements stay equal
        if not isinstance(step, Conv):
            return step
        return replace(step, weight=(64 * step.weight).round() / 64, bias=(64 * step.bias).round() / 64)

    steps = [exact(step) for step in network(dtype=torch.float64)]
    image = torch.full((1, 3, 12, 12), 0.5, dtype=torch.float64, requires_grad=True)
    assert_close(
        gradient(run_frozen(steps, image, ALL_LAYERS), image), gradient(run_plain(steps, image, ALL_LAYERS), image)
    )


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.transpose(2, 3),
        lambda x: x[:, :, ::2, 1:],
        lambda x: x[:1].expand(3, -1, -1, -1),
        lambda x: x.contiguous(memory_format=torch.channels_last)[:, :, 1:-1],
    ],
)
def test_any_memory_layout_of_the_image_is_supported(layout):
    steps, image = network(dtype=torch.float64), random_image(2, 3, 20, 22, dtype=torch.float64)
    ours = gradient(run_frozen(steps, layout(image), ALL_LAYERS), image)
    assert_close(ours, gradient(run_plain(steps, layout(image), ALL_LAYERS), image))


def test_the_features_of_a_convolution_are_not_overwritten_by_its_relu():
    maps = run_frozen(network(), random_image(1, 3, 16, 16), {"conv1", "relu1", "relu3"})
    assert (maps["conv1"] < 0).any()
    assert_close(maps["conv1"].relu(), maps["relu1"])


def test_incoming_gradients_are_not_modified():
    steps, image = network(), random_image(1, 3, 16, 16)
    maps = run_frozen(steps, image, {"conv1", "relu3"})
    grads = [torch.randn_like(m) for m in maps.values()]
    before = [g.clone() for g in grads]
    torch.autograd.grad(list(maps.values()), image, grads)
    assert_close(grads, before)


def test_gradients_at_some_layers_only_are_supported():
    steps, image = network(dtype=torch.float64), random_image(1, 3, 16, 16, dtype=torch.float64)
    ours, theirs = run_frozen(steps, image, ALL_LAYERS), run_plain(steps, image, ALL_LAYERS)
    for layers in ({"relu1"}, {"pool1", "conv2"}, {"relu3"}):
        some = ({name: maps[name] for name in layers} for maps in (ours, theirs))
        assert_close(*(gradient(maps, image) for maps in some))


def test_the_backward_pass_may_be_repeated():
    image = random_image(1, 3, 16, 16)
    maps = run_frozen(network(), image, ALL_LAYERS)
    assert_close(gradient(maps, image), gradient(maps, image), rtol=0, atol=0)


def test_weights_get_no_gradient_even_if_they_require_one():
    steps, image = network(), random_image(1, 3, 16, 16)
    steps[0].weight.requires_grad_()
    weighted_sum(run_frozen(steps, image, {"conv2"})).backward()
    assert image.grad is not None
    assert steps[0].weight.grad is None


def test_an_image_that_requires_no_gradient_creates_no_graph():
    steps = network()
    steps[0].weight.requires_grad_()
    assert not run_frozen(steps, random_image(1, 3, 16, 16).detach(), {"conv2"})["conv2"].requires_grad


def test_no_grad_creates_no_graph_and_equal_values():
    steps, image = network(), random_image(1, 3, 16, 16)
    expected = run_frozen(steps, image, ALL_LAYERS)
    with torch.no_grad():
        ours = run_frozen(steps, image, ALL_LAYERS)
    assert not any(m.requires_grad for m in ours.values())
    assert_close(ours, {name: m.detach() for name, m in expected.items()})


def test_nothing_runs_beyond_the_deepest_layer():
    steps = [*network()[:4], Conv("broken", torch.zeros(1, 99, 3, 3), torch.zeros(1))]
    assert run_frozen(steps, random_image(1, 3, 16, 16), {"conv2"})["conv2"].shape == (1, 8, 8, 8)


def test_a_second_derivative_raises_an_explanation():
    image = random_image(1, 3, 16, 16)
    loss = run_frozen(network(), image, {"conv3"})["conv3"].square().sum()
    (grad,) = torch.autograd.grad(loss, image, create_graph=True)
    with pytest.raises(RuntimeError, match="has no second derivative"):
        grad.square().sum().backward()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("widths", [(3, 5, 8, 6), (3, 64, 64, 64)])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize(("width", "ceil"), [(16, False), (15, True), (256, False)])
def test_the_packing_for_accelerators_gives_equal_gradients(width, ceil, kernel, widths, dtype, monkeypatch):
    steps = network(kernel=kernel, widths=widths, ceil=ceil)
    image = random_image(2, 3, 16, width, dtype=torch.float64)
    expected = gradient(run_frozen(steps, image, ALL_LAYERS, dtype=dtype), image)
    monkeypatch.setattr("lossmith.engine.frozen.bits._is_eager_accelerator", lambda x: True)
    maps = run_frozen(steps, image, ALL_LAYERS, dtype=dtype)
    kept = sum(word.nbytes for word in maps["conv1"].grad_fn.saved_tensors)
    assert_close(gradient(maps, image), expected)
    assert kept == count_saved_bytes(steps, image.shape, ALL_LAYERS, dtype=dtype, device="cuda")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("widths", [(3, 5, 8, 6), (3, 64, 64, 64)])
@pytest.mark.parametrize("kernel", [2, 3])
def test_the_packing_for_compilers_gives_equal_gradients(kernel, widths, dtype, monkeypatch):
    steps, image = network(kernel=kernel, widths=widths), random_image(2, 3, 16, 16, dtype=torch.float64)
    by_planes = run_frozen(steps, image, ALL_LAYERS, dtype=dtype)
    expected = gradient(by_planes, image)
    monkeypatch.setattr("lossmith.engine.frozen.bits._packs_by_planes", lambda x: False)
    by_channels = run_frozen(steps, image, ALL_LAYERS, dtype=dtype)
    monkeypatch.undo()
    assert_close(gradient(by_channels, image), expected)


@pytest.mark.slow
def test_compilation_needs_no_graph_break_and_one_recompilation_for_other_sizes():
    steps = network(widths=(3, 8, 8))
    sizes = [(2, 3, 12, 14), (2, 3, 16, 20), (2, 3, 18, 24)]

    def loss(x):
        return sum(m.square().mean() for m in run_frozen(steps, x, frozenset({"conv1", "relu1", "conv2"})).values())

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(loss, fullgraph=True, backend=counter)
    for size in sizes:
        image = random_image(*size)
        (expected,) = torch.autograd.grad(loss(image), image)
        value = compiled(image)
        assert_close(value, loss(image))
        assert_close(torch.autograd.grad(value, image)[0], expected)
    assert counter.frame_count == 2


@pytest.mark.parametrize(("kernel", "stride"), [(2, 1), (3, 1), (3, 2)])
def test_tiles_with_a_margin_have_the_features_and_gradients_of_the_whole(kernel, stride):
    steps = network(kernel=kernel, stride=stride, dtype=torch.float64)
    margin, grid = compute_tile_margin(steps, {"conv3"})
    tile = 6 * grid
    image = random_image(1, 3, 24 * grid, 8, dtype=torch.float64)
    image = F.interpolate(image, size=(24 * grid, 40), mode="bilinear").detach().requires_grad_()
    whole = run_frozen(steps, image, {"conv3"})["conv3"]
    weights = torch.linspace(-1, 1, whole.numel(), dtype=whole.dtype).view(whole.shape)
    expected = torch.autograd.grad((whole * weights).sum(), image)[0]
    total = torch.zeros(())
    for top in range(0, image.shape[2], tile):
        first, last = max(0, top - margin), min(image.shape[2], top + tile + margin)
        features = run_frozen(steps, image[:, :, first:last], {"conv3"})["conv3"]
        rows = features[:, :, (top - first) // grid :]
        rows = rows[:, :, : tile // grid] if last < image.shape[2] else rows
        there = slice(top // grid, top // grid + rows.shape[2])
        assert_close(rows, whole[:, :, there])
        total = total + (rows * weights[:, :, there]).sum()
        if last == image.shape[2]:
            break
    assert_close(torch.autograd.grad(total, image)[0], expected)


@pytest.mark.parametrize(
    ("image", "layers", "message"),
    [
        (torch.zeros(1, 3, 16, 16), {"conv9"}, "must be one or more of conv1, relu1.*; got conv9"),
        (torch.zeros(1, 3, 16, 16), set(), "got none"),
        (torch.zeros(1, 4, 16, 16), {"conv1"}, r"conv1 expects 3 channels; got the shape \(1, 4, 16, 16\)"),
        (torch.zeros(3, 16, 16), {"conv1"}, r"expects images \(N, C, H, W\); got the shape \(3, 16, 16\)"),
        (torch.zeros(0, 3, 16, 16), {"conv1"}, r"got the shape \(0, 3, 16, 16\)"),
        (
            torch.zeros(1, 3, 3, 16),
            {"relu3"},
            "3x16 px are too small .* Use larger images or an earlier layer",
        ),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), {"conv1"}, "torch.float16; got torch.uint8"),
    ],
)
def test_an_invalid_call_raises_an_explanation(image, layers, message):
    with pytest.raises(ValueError, match=message):
        run_frozen(network(), image, layers)
