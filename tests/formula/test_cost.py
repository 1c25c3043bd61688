"""What a plan predicts is what is counted: passes, operations, bytes."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lossmith import L1, L2, VGG, Gram, Hybrid, parse
from lossmith.engine.memory import Meter, measured
from lossmith.formula.cost import sharing
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


def views_of(loss, shape=SHAPE):
    g = torch.Generator().manual_seed(0)
    views = {name: torch.rand(shape, generator=g) for name in sorted(loss.reads)}
    views["pred"].requires_grad_()
    return views


@pytest.mark.parametrize("text", FORMULAS)
def test_the_bytes_kept_and_held_are_those_counted(text, untrained):
    loss = untrained(parse(text))
    views = views_of(loss)
    loss(**views)  # the networks are loaded
    kept, peak = measured(lambda: loss(**views), list(views.values()))
    plan = loss.plan(SHAPE)
    assert plan.kept == kept
    assert plan.peak == pytest.approx(peak, rel=1e-3)  # but for a few scalars


@pytest.mark.parametrize("text", FORMULAS[3:])
def test_the_operations_are_those_counted(text, untrained):
    loss = untrained(parse(text))
    views = views_of(loss)
    with FlopCounterMode(display=False) as forward:
        value = loss(**views)
    with FlopCounterMode(display=False) as backward:
        value.backward()
    counted = [c.get_flop_counts()["Global"].get(torch.ops.aten.convolution, 0) for c in (forward, backward)]
    assert counted[0] == loss.plan(SHAPE).forward
    # the engine's backward pass is a transposed convolution
    assert counted[1] == loss.plan(SHAPE).backward


def test_a_view_passes_a_network_only_as_deep_as_it_is_wanted():
    loss = parse("L2 @ VGG('vgg16', 'relu3_1') + (L2 @ VGG('vgg16', 'relu1_1')).on(target='style')")
    layers = {p.view: p.layers for p in loss.plan(SHAPE).passes}
    assert layers == {"pred": ("relu1_1", "relu3_1"), "target": ("relu3_1",), "style": ("relu1_1",)}


def test_no_network_is_needed_to_plan_one(monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", "/nowhere")
    assert parse("lpips('vgg')").plan(SHAPE).kept > 0


def test_kept_counts_what_is_still_held_and_not_what_is_gone():
    class Halves(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                (g,) = torch.autograd.grad((leaf**2).sum(), leaf)  # saved and let go
            ctx.save_for_backward(g[:1])  # a part holds the whole
            return x.sum()

        @staticmethod
        def backward(ctx, e):
            return ctx.saved_tensors[0].expand(4, 8) * e

    x = torch.rand(4, 8, requires_grad=True)
    assert measured(lambda: Halves.apply(x), [x])[0] == x.numel() * 4


def test_the_peak_is_the_most_that_lives_at_once():
    x = torch.rand(1000)
    with Meter([x]) as meter:
        y = x + 1
        z = y * 2
        del y
        z = z.add_(1)
        del z
    assert (meter.peak, meter.live) == (8000, 0)


def test_a_tap_of_l1_keeps_a_byte_a_value_and_one_of_l2_its_gradient(untrained):
    features = 64 * 48 * 40
    bits = features // 8
    for loss, each in ((L1(), 1), (L2(), 4)):
        hybrid = untrained(Hybrid((loss @ VGG("vgg16", "relu1_1")).terms))
        assert hybrid.plan((1, *SHAPE[1:])).kept == pytest.approx(bits + each * features, abs=8)


def test_a_second_term_on_a_layer_keeps_one_tensor_more(untrained):
    one = untrained(parse("L2 @ VGG('vgg16', 'relu2_1')"))
    two = untrained(parse("L2 @ VGG('vgg16', 'relu2_1') + style('vgg16', 'relu2_1')"))
    assert two.plan(SHAPE).kept - one.plan(SHAPE).kept == 4 * 2 * 128 * 24 * 20


def plain_vgg(features):
    """What people paste: a module of modules with autograd's own memory."""
    row = nn.Sequential()
    for step in VGGNetwork("vgg19", "random").plan:
        if step.name.startswith("conv"):
            out, inward = step.weight.shape[:2]
            row.append(nn.Conv2d(inward, out, 3, padding=1))
        else:
            row.append(nn.ReLU() if step.name.startswith("relu") else nn.MaxPool2d(2))
        if step.name == features:
            return row.requires_grad_(False)
    raise AssertionError(features)


def test_the_engine_keeps_less_than_a_twentieth_of_plain_autograd(untrained):
    pred, target = torch.rand(SHAPE, requires_grad=True), torch.rand(SHAPE)
    network = plain_vgg("conv4_3")
    kept, _ = measured(lambda: (network(pred) - network(target)).abs().mean(), [pred, target, *network.parameters()])
    assert untrained(parse("perceptual('vgg19', 'conv4_3')")).plan(SHAPE).kept < kept / 20


def test_terms_on_two_vggs_may_share_the_smaller():
    shared = sharing(
        parse("L1 + perceptual('vgg19', {'conv3_4': 0.5, 'conv3_3': 1, 'relu4_2': 2}) + lpips('vgg')").terms
    )
    assert repr(shared[1].lens) == 'VGG("vgg16", {"conv3_3": 1.5, "relu4_2": 2.0})'
    assert repr(shared[2].lens).startswith('Calibrated("vgg") @ VGG("vgg16"')


@pytest.mark.parametrize("text", ["L1", "lpips('vgg')", "perceptual('vgg19')", "perceptual + lpips('vgg')"])
def test_where_there_is_nothing_to_share_nothing_is_said(text):
    assert sharing(parse(text).terms) is None


def test_a_chain_of_lenses_moves_as_a_whole():
    shared = sharing((L2() @ Gram() @ VGG("vgg19", "relu5_4") + L1() @ VGG("vgg16", "relu1_1")).terms)
    assert repr(shared[0].lens) == 'Gram() @ VGG("vgg16", "relu5_3")'
