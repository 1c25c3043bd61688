"""torch.compile: the same value and gradient in one graph, and at most two graphs for all shapes."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch.testing import assert_close

from lossmith import L1, SSIM, Knob, parse, pinned
from lossmith.engine.cpu import winograd

SHALLOW = "L1 + 0.1 * perceptual('vgg16', 'conv2_1') + 0.05 * style('vgg16', 'relu1_2')"


@pytest.fixture(autouse=True)
def reset():
    torch.compiler.reset()
    counters.clear()


@pytest.fixture
def counter():
    """Return a backend that runs the traced forward and backward graphs and counts them."""
    return CompileCounterWithBackend("aot_eager")


@pytest.fixture
def compiled(counter):
    return lambda run: torch.compile(run, fullgraph=True, backend=counter)


@pytest.fixture
def image_leaves(image_pair):
    def make(height=32, width=32, n=2):
        pred, target = (image[..., :height, :width] for image in image_pair(n, max(height, width)))
        return pred.clone().requires_grad_(), target.clone()

    return make


def step(loss, pred, *inputs, **more):
    """Return the value and its gradient at the prediction."""
    value = loss(pred, *inputs, **more)
    return value.detach(), *torch.autograd.grad(value, pred)


def assert_agree(found, expected, within=1e-6):
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, rtol=within, atol=within * other.abs().max().item())


@pytest.mark.slow
def test_a_hybrid_with_networks_is_one_graph_with_the_same_result(
    with_random_weights, compiled, counter, image_leaves, monkeypatch
):
    loss = with_random_weights(parse(f"{SHALLOW} + lpips('vgg')"))
    with monkeypatch.context() as patch:
        patch.setattr(winograd, "is_winograd_faster", lambda *_: False)  # the compiler does not use Winograd
        expected = step(loss, *image_leaves())  # loads the weights, which cannot be compiled
    run = compiled(loss)
    assert_agree(step(run, *image_leaves()), expected)
    with torch._dynamo.config.patch(error_on_recompile=True):
        assert_agree(step(run, *image_leaves()), expected)
    assert counter.frame_count == 1
    assert not counters["graph_break"]


@pytest.mark.slow
def test_a_second_size_compiles_one_graph_for_all_sizes(with_random_weights, compiled, counter, image_leaves):
    loss = with_random_weights(parse(SHALLOW))
    loss(*image_leaves())
    run = compiled(loss)
    graphs = []
    for size in ((16, 16), (24, 20), (24, 20), (28, 32), (16, 16), (20, 28)):
        assert_agree(step(run, *image_leaves(*size)), step(loss, *image_leaves(*size)))
        graphs.append(counter.frame_count)
    assert graphs == [1, 2, 2, 2, 2, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weight", "variants"),
    [
        ("Ramp(0.5, 1, steps=5)", 1),
        ("Ramp(0.5, 1, steps=5, shape='cosine')", 1),
        ("OnFrom(4)", 2),  # without and with the term
        ("OffAfter(4)", 2),
        ("Piecewise({0: 1, 3: 0.1, 5: 0.2})", 3),
    ],
)
def test_a_schedule_is_compiled_once_and_once_more_for_each_jump(weight, variants, compiled, counter, image_leaves):
    loss = parse(f"L1 + {weight} * L2")
    run = compiled(loss)
    for i in range(12):
        assert_agree(step(run, *image_leaves(8, 8), step=i), step(loss, *image_leaves(8, 8), step=i))
    assert counter.frame_count == 1 + variants  # the first step is compiled as a constant


@pytest.mark.slow
def test_a_step_that_no_weight_reads_adds_one_graph(compiled, counter, image_leaves):
    run = compiled(L1() + SSIM())
    for i in range(5):
        run(*image_leaves(16, 16), step=i)
    assert counter.frame_count == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "graphs"),
    [
        ([torch.tensor(0.1 * i) for i in range(5)], 1),
        ([torch.full((2,), 0.1 * i) for i in range(5)], 1),
        ([0.1 * i + 0.1 for i in range(5)], 2),
    ],
    ids=["a tensor", "one per image", "a number"],
)
def test_a_new_knob_value_is_not_compiled_again(values, graphs, compiled, counter, image_leaves):
    loss = L1() + Knob("lam") * SSIM()
    run = compiled(loss)
    for lam in values:
        assert_agree(step(run, *image_leaves(16, 16), lam=lam), step(loss, *image_leaves(16, 16), lam=lam))
    assert counter.frame_count == graphs


@pytest.mark.slow
@pytest.mark.parametrize("loss", [L1(), SSIM(), parse("FocalFrequency")], ids=repr)
def test_a_single_distance_compiles(loss, compiled, image_leaves):
    assert_agree(step(compiled(loss), *image_leaves(16, 16)), step(loss, *image_leaves(16, 16)))


def test_a_compiled_loss_runs_under_autocast(with_random_weights, compiled, image_leaves):
    loss = with_random_weights(parse("L1 + perceptual('vgg16', 'conv1_2')"))
    with torch.autocast("cpu", torch.bfloat16):
        expected = step(loss, *image_leaves())
        found = step(compiled(loss), *image_leaves())
    assert_agree(found, expected, within=0.01)
    assert not torch.equal(found[1], step(loss, *image_leaves())[1])


@pytest.mark.slow
def test_a_pinned_loss_compiles(with_random_weights, compiled, image_leaves):
    pred, target = image_leaves()
    fixed = pinned(with_random_weights(parse(SHALLOW)), target=target)
    assert_agree(step(compiled(fixed), pred), step(fixed, pred))


@pytest.mark.slow
def test_a_model_with_its_loss_is_one_graph(with_random_weights, compiled, counter, image_leaves):
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 3, 3, padding=1)
    loss = with_random_weights(parse(SHALLOW))

    def run(inputs, target):
        return loss(model(inputs), target)

    inputs, target = (image.detach() for image in image_leaves(16, 16))
    expected = torch.autograd.grad(run(inputs, target), list(model.parameters()))
    found = torch.autograd.grad(compiled(run)(inputs, target), list(model.parameters()))
    assert_agree(found, expected, within=1e-5)
    assert counter.frame_count == 1
