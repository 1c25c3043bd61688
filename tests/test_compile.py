"""torch.compile: the same value and gradient in one graph, and no more graphs than there are shapes."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch.testing import assert_close

from lossmith import L1, SSIM, Knob, parse, pinned
from lossmith.engine.cpu import winograd

SHALLOW = "L1 + 0.1 * perceptual('vgg16', 'conv2_1') + 0.05 * style('vgg16', 'relu1_2')"


@pytest.fixture(autouse=True)
def anew():
    torch.compiler.reset()
    counters.clear()


@pytest.fixture
def counter():
    """A backend that runs what autograd traces, forward and backward, and counts the graphs."""
    return CompileCounterWithBackend("aot_eager")


@pytest.fixture
def compiled(counter):
    return lambda run: torch.compile(run, fullgraph=True, backend=counter)


@pytest.fixture
def both(image_pair):
    def make(height=32, width=32, n=2):
        pred, target = (picture[..., :height, :width] for picture in image_pair(n, max(height, width)))
        return pred.clone().requires_grad_(), target.clone()

    return make


def step(loss, pred, *views, **more):
    """The value, and its gradient at the prediction."""
    value = loss(pred, *views, **more)
    return value.detach(), *torch.autograd.grad(value, pred)


def agree(one, other, within=1e-6):
    for ours, theirs in zip(one, other, strict=True):
        assert_close(ours, theirs, rtol=within, atol=within * theirs.abs().max().item())


def test_a_hybrid_with_networks_is_one_graph_and_gives_the_same(with_random_weights, compiled, counter, both, monkeypatch):
    loss = with_random_weights(parse(f"{SHALLOW} + lpips('vgg')"))
    with monkeypatch.context() as plainly:
        plainly.setattr(winograd, "pays", lambda *_: False)  # as the compiler convolves
        wanted = step(loss, *both())  # finds the weights, which a compiler cannot
    run = compiled(loss)
    agree(step(run, *both()), wanted)
    with torch._dynamo.config.patch(error_on_recompile=True):
        agree(step(run, *both()), wanted)
    assert counter.frame_count == 1
    assert not counters["graph_break"]


def test_a_second_size_makes_a_graph_for_all_sizes(with_random_weights, compiled, counter, both):
    loss = with_random_weights(parse(SHALLOW))
    loss(*both())
    run = compiled(loss)
    graphs = []
    for size in ((16, 16), (24, 20), (24, 20), (28, 32), (16, 16), (20, 28)):
        agree(step(run, *both(*size)), step(loss, *both(*size)))
        graphs.append(counter.frame_count)
    assert graphs == [1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("weight", "kinds"),
    [
        ("Ramp(0.5, 1, steps=5)", 1),
        ("Ramp(0.5, 1, steps=5, shape='cosine')", 1),
        ("OnFrom(4)", 2),  # without the term, with it
        ("OffAfter(4)", 2),
        ("Piecewise({0: 1, 3: 0.1, 5: 0.2})", 3),
    ],
)
def test_a_schedule_is_compiled_once_for_all_steps_and_once_more_where_it_jumps(weight, kinds, compiled, counter, both):
    loss = parse(f"L1 + {weight} * L2")
    run = compiled(loss)
    for i in range(12):
        agree(step(run, *both(8, 8), step=i), step(loss, *both(8, 8), step=i))
    assert counter.frame_count == 1 + kinds  # the first step is taken for a constant


def test_a_step_that_no_weight_reads_makes_one_graph_more(compiled, counter, both):
    run = compiled(L1() + SSIM())
    for i in range(5):
        run(*both(16, 16), step=i)
    assert counter.frame_count == 2


@pytest.mark.parametrize(
    ("places", "graphs"),
    [
        ([torch.tensor(0.1 * i) for i in range(5)], 1),
        ([torch.full((2,), 0.1 * i) for i in range(5)], 1),
        ([0.1 * i + 0.1 for i in range(5)], 2),
    ],
    ids=["a tensor", "one an image", "a number"],
)
def test_a_knob_that_is_turned_is_not_compiled_again(places, graphs, compiled, counter, both):
    loss = L1() + Knob("lam") * SSIM()
    run = compiled(loss)
    for lam in places:
        agree(step(run, *both(16, 16), lam=lam), step(loss, *both(16, 16), lam=lam))
    assert counter.frame_count == graphs


@pytest.mark.parametrize("loss", [L1(), SSIM(), parse("FocalFrequency")], ids=repr)
def test_a_plain_loss_is_compiled_too(loss, compiled, both):
    agree(step(compiled(loss), *both(16, 16)), step(loss, *both(16, 16)))


def test_autocast_around_it_is_heeded(with_random_weights, compiled, both):
    loss = with_random_weights(parse("L1 + perceptual('vgg16', 'conv1_2')"))
    with torch.autocast("cpu", torch.bfloat16):
        wanted = step(loss, *both())
        found = step(compiled(loss), *both())
    agree(found, wanted, within=0.01)
    assert not torch.equal(found[1], step(loss, *both())[1])


def test_a_pinned_loss_is_compiled(with_random_weights, compiled, both):
    pred, target = both()
    fixed = pinned(with_random_weights(parse(SHALLOW)), target=target)
    agree(step(compiled(fixed), pred), step(fixed, pred))


def test_a_model_and_its_loss_are_one_graph(with_random_weights, compiled, counter, both):
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 3, 3, padding=1)
    loss = with_random_weights(parse(SHALLOW))

    def run(given, target):
        return loss(model(given), target)

    given, target = (picture.detach() for picture in both(16, 16))
    wanted = torch.autograd.grad(run(given, target), list(model.parameters()))
    found = torch.autograd.grad(compiled(run)(given, target), list(model.parameters()))
    agree(found, wanted, within=1e-5)
    assert counter.frame_count == 1
