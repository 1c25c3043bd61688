"""The cost plan: predicted passes, operations and bytes equal the measured ones."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lossmith import L1, L2, VGG, Gram, Hybrid, parse
from lossmith.engine.memory import MemoryMeter, measure_memory
from lossmith.formula.cost import unify_vgg
from lossmith.lenses.vgg import VGGNetwork

SHAPE = (2, 3, 48, 40)
STACK = (
    "L1 + perceptual('vgg19', ['conv3_3', 'conv4_3']) + style('vgg19', ['conv3_3', 'conv4_3']) "
    "+ L2 @ VGG('vgg16', ['relu1_2', 'relu2_2', 'relu3_3', 'relu4_3', 'relu5_3'])"
)
FORMULAS = [
    "L1",
    "SSIM",
    "TV + L2",
    "perceptual('vgg16', 'relu3_3', 'l2')",
    "style('vgg19', ['relu1_1', 'relu2_1'])",
    "lpips('vgg')",
    "lpips",
    "perceptual + style",
    "gatys",
    "perceptual('vgg19')",
    STACK,
]


def random_inputs(loss, shape=SHAPE):
    g = torch.Generator().manual_seed(0)
    inputs = {name: torch.rand(shape, generator=g) for name in sorted(loss.input_names)}
    inputs["pred"].requires_grad_()
    return inputs


@pytest.mark.slow
@pytest.mark.parametrize("text", FORMULAS)
def test_predicted_bytes_equal_the_measured_bytes(text, with_random_weights):
    loss = with_random_weights(parse(text))
    inputs = random_inputs(loss)
    loss(**inputs)  # loads the networks
    kept, peak = measure_memory(lambda: loss(**inputs), list(inputs.values()))
    plan = loss.plan(SHAPE)
    assert plan.saved_bytes == kept
    assert plan.peak_bytes == pytest.approx(peak, rel=1e-3)  # except for a few scalars


@pytest.mark.slow
@pytest.mark.parametrize("text", FORMULAS[3:])
def test_predicted_operations_equal_the_counted_operations(text, with_random_weights):
    loss = with_random_weights(parse(text))
    inputs = random_inputs(loss)
    with FlopCounterMode(display=False) as forward:
        value = loss(**inputs)
    with FlopCounterMode(display=False) as backward:
        value.backward()
    counted = [c.get_flop_counts()["Global"].get(torch.ops.aten.convolution, 0) for c in (forward, backward)]
    assert counted[0] == loss.plan(SHAPE).forward_flops
    # the engine's backward pass is a transposed convolution
    assert counted[1] == loss.plan(SHAPE).backward_flops


def test_an_input_passes_a_network_only_to_its_deepest_layer():
    loss = parse("L2 @ VGG('vgg16', 'relu3_1') + (L2 @ VGG('vgg16', 'relu1_1')).on(target='style')")
    layers = {p.input_name: p.layers for p in loss.plan(SHAPE).passes}
    assert layers == {"pred": ("relu1_1", "relu3_1"), "target": ("relu3_1",), "style": ("relu1_1",)}


def test_a_plan_needs_no_weights(monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", "/nowhere")
    assert parse("lpips('vgg')").plan(SHAPE).saved_bytes > 0


def test_saved_bytes_count_storages_that_are_still_held():
    class Halves(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                (g,) = torch.autograd.grad((leaf**2).sum(), leaf)  # saved and freed
            ctx.save_for_backward(g[:1])  # a slice holds the whole storage
            return x.sum()

        @staticmethod
        def backward(ctx, e):
            return ctx.saved_tensors[0].expand(4, 8) * e

    x = torch.rand(4, 8, requires_grad=True)
    assert measure_memory(lambda: Halves.apply(x), [x])[0] == x.numel() * 4


def test_the_peak_is_the_largest_number_of_live_bytes():
    x = torch.rand(1000)
    with MemoryMeter([x]) as meter:
        y = x + 1
        z = y * 2
        del y
        z = z.add_(1)
        del z
    assert (meter.peak_bytes, meter.live_bytes) == (8000, 0)


def test_l1_at_a_layer_saves_one_byte_per_value_and_l2_its_gradient(with_random_weights):
    features = 64 * 48 * 40
    bits = features // 8
    for loss, each in ((L1(), 1), (L2(), 4)):
        hybrid = with_random_weights(Hybrid((loss @ VGG("vgg16", "relu1_1")).terms))
        assert hybrid.plan((1, *SHAPE[1:])).saved_bytes == pytest.approx(bits + each * features, abs=8)


def test_a_second_term_at_a_layer_saves_one_more_tensor(with_random_weights):
    one = with_random_weights(parse("L2 @ VGG('vgg16', 'relu2_1')"))
    two = with_random_weights(parse("L2 @ VGG('vgg16', 'relu2_1') + style('vgg16', 'relu2_1')"))
    assert two.plan(SHAPE).saved_bytes - one.plan(SHAPE).saved_bytes == 4 * 2 * 128 * 24 * 20


def plain_vgg(features):
    """Return VGG as a plain nn.Sequential, with the memory of autograd."""
    row = nn.Sequential()
    for step in VGGNetwork("vgg19", "random").architecture:
        if step.name.startswith("conv"):
            out, inward = step.weight.shape[:2]
            row.append(nn.Conv2d(inward, out, 3, padding=1))
        else:
            row.append(nn.ReLU() if step.name.startswith("relu") else nn.MaxPool2d(2))
        if step.name == features:
            return row.requires_grad_(False)
    raise AssertionError(features)


def test_the_engine_saves_less_than_a_twentieth_of_plain_autograd(with_random_weights):
    pred, target = torch.rand(SHAPE, requires_grad=True), torch.rand(SHAPE)
    network = plain_vgg("conv4_3")
    kept, _ = measure_memory(
        lambda: (network(pred) - network(target)).abs().mean(), [pred, target, *network.parameters()]
    )
    assert with_random_weights(parse("perceptual('vgg19', 'conv4_3')")).plan(SHAPE).saved_bytes < kept / 20


def test_terms_on_both_vggs_can_share_vgg16():
    shared = unify_vgg(
        parse("L1 + perceptual('vgg19', {'conv3_4': 0.5, 'conv3_3': 1, 'relu4_2': 2}) + lpips('vgg')").terms
    )
    assert repr(shared[1].lens) == 'VGG("vgg16", {"conv3_3": 1.5, "relu4_2": 2.0})'
    assert repr(shared[2].lens).startswith('Calibrated("vgg") @ VGG("vgg16"')


@pytest.mark.parametrize("text", ["L1", "lpips('vgg')", "perceptual('vgg19')", "perceptual + lpips('vgg')"])
def test_terms_on_at_most_one_vgg_are_left_alone(text):
    assert unify_vgg(parse(text).terms) is None


def test_a_chain_of_lenses_is_kept():
    shared = unify_vgg((L2() @ Gram() @ VGG("vgg19", "relu5_4") + L1() @ VGG("vgg16", "relu1_1")).terms)
    assert repr(shared[0].lens) == 'Gram() @ VGG("vgg16", "relu5_3")'
