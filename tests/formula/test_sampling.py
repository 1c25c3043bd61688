"""Lazy and sparse weights: the mean gradient is that of the plain term, and networks do no more than planned."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lossmith import Every, Knob, Part, Window, parse, pinned, tiled
from lossmith.engine.nonfinite import NonFiniteGuard

VGG16 = "perceptual('vgg16', 'relu2_2', weights='random')"


def images(n=4, height=64, width=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pred = torch.rand(n, 3, height, width, generator=generator, dtype=torch.float64)
    target = torch.rand(n, 3, height, width, generator=generator, dtype=torch.float64)
    return pred.requires_grad_(), target


def gradient(loss, pred, target, **kwargs):
    return torch.autograd.grad(loss(pred, target, **kwargs), pred, allow_unused=True, materialize_grads=True)[0]


def fix_draws(monkeypatch, *numbers):
    """Let random integers be these numbers, in turn."""
    turns = itertools.cycle(numbers)
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: torch.tensor(next(turns)))


def count_convolutions(function):
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_flop_counts().get("Global", {}).get(torch.ops.aten.convolution, 0)


@pytest.mark.parametrize("factor", ["Every(4)", "Every(4, gain=2.0)", "Every(3, phase=1)", "Part(0.25)", "Window(96)"])
def test_the_text_of_a_factor_round_trips(factor):
    loss = parse(f"L1 + 0.1*{factor}*SSIM")
    assert factor in repr(loss)
    assert repr(parse(repr(loss))) == repr(loss)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Every(0)*L1", "Every k must be an integer at least 1"),
        ("Every(2, phase=2)*L1", "Every phase must be an integer"),
        ("Every(2, gain=0)*L1", "Every gain must be"),
        ("Part(0)*L1", "Part fraction must be"),
        ("Part(1.5)*L1", "Part fraction must be"),
        ("Window(0)*L1", "Window size must be an integer at least 1"),
        ("Every(2)*Every(3)*L1", "A weight can have one Every"),
        ("Part(0.5)*Part(0.5)*L1", "A weight can have one Part"),
        ("Part(0.5)*Adversarial('patch', 'relativistic')", "compares the images of a batch"),
        ("Window(8)*KL", "reads no images"),
    ],
)
def test_a_factor_that_makes_no_sense_raises(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize("options", ["4", "3, phase=2"])
def test_the_mean_gradient_of_a_lazy_term_is_that_of_the_plain_term(options):
    pred, target = images()
    lazy, plain = parse(f"L1 + 0.5*Every({options})*L2"), parse("L1 + 0.5*L2")
    period = int(options[0])
    mean = sum(gradient(lazy, pred, target, step=step) for step in range(period)) / period
    torch.testing.assert_close(mean, gradient(plain, pred, target), rtol=1e-12, atol=0)


def test_a_lazy_term_without_the_training_step_raises():
    pred, target = images()
    loss = parse("L1 + Every(4)*L2")
    with pytest.raises(ValueError, match="'L2' acts in some steps only and needs the training step"):
        loss(pred, target)
    with pytest.raises(ValueError, match="needs the training step"):
        loss.weighted_sum(loss.evaluate({"pred": pred, "target": target}))


def test_evaluation_mode_gives_the_value_of_the_plain_formula():
    pred, target = images()
    loss = parse("L1 + 2*Every(4)*Part(0.25)*Window(32)*L2").eval()
    torch.testing.assert_close(loss(pred, target), parse("L1 + 2*L2")(pred, target), rtol=1e-12, atol=0)


def test_networks_rest_in_the_steps_between():
    pred, target = (each.float() for each in images())
    loss = parse(f"L1 + Every(3)*{VGG16}")
    counts = [count_convolutions(lambda s=step: loss(pred, target, step=s)) for step in range(6)]
    assert counts[0] == counts[3] == loss.plan(pred.shape).forward_flops
    assert counts[1] == counts[2] == counts[4] == counts[5] == 0
    assert sum(counts[:3]) / 3 == loss.plan(pred.shape).mean_forward_flops


def test_a_network_runs_up_to_the_layers_of_the_terms_that_act():
    pred, target = (each.float() for each in images())
    loss = parse(
        "perceptual('vgg16', 'relu1_2', weights='random') + Every(2)*style('vgg16', 'relu2_2', weights='random')"
    )
    shallow = parse("perceptual('vgg16', 'relu1_2', weights='random')").plan(pred.shape).forward_flops
    counts = [count_convolutions(lambda s=step: loss(pred, target, step=s)) for step in range(2)]
    plan = loss.plan(pred.shape)
    assert counts == [plan.forward_flops, shallow]
    assert plan.mean_forward_flops == (plan.forward_flops + shallow) / 2


def test_lazy_terms_of_one_phase_share_their_passes():
    pred, target = (each.float() for each in images())
    loss = parse(f"Every(2)*{VGG16} + Every(4)*style('vgg16', 'relu2_2', weights='random')")
    assert count_convolutions(lambda: loss(pred, target, step=0)) == parse(VGG16).plan(pred.shape).forward_flops


def test_a_knob_keeps_the_weights_of_other_terms_while_a_lazy_term_rests():
    from lossmith.monitor.step_weights import weights_at

    loss = parse("L1 + lam*Every(4)*L2")
    resting, acting = (weights_at(loss, step, {"lam": 3.0}) for step in (1, 4))
    assert resting == {"L1": 0.25}
    assert acting == {"L1": 0.25, "L2": 3.0}


@pytest.mark.parametrize("fraction", [0.25, 0.3, 0.75, 1.0])
def test_the_mean_gradient_of_a_part_is_that_of_the_whole_batch(fraction, monkeypatch):
    pred, target = images(n=5)
    loss, plain = parse(f"0.5*Part({fraction})*L2"), parse("0.5*L2")
    gradients = []
    for start in range(5):
        fix_draws(monkeypatch, start)
        gradients.append(gradient(loss, pred, target))
    torch.testing.assert_close(sum(gradients) / 5, gradient(plain, pred, target), rtol=1e-12, atol=1e-18)


def test_a_part_is_drawn_with_the_random_generator():
    pred, target = images(n=8)
    loss = parse("Part(0.25)*L1")
    torch.manual_seed(0)
    drawn = [(gradient(loss, pred, target).flatten(1).abs().amax(dim=1) > 0).tolist() for _ in range(20)]
    assert all(sum(each) == 2 for each in drawn)
    assert len({tuple(each) for each in drawn}) > 3
    torch.manual_seed(0)
    assert drawn[0] == (gradient(loss, pred, target).flatten(1).abs().amax(dim=1) > 0).tolist()


@pytest.mark.parametrize(("height", "width", "size"), [(64, 48, 32), (50, 33, 16), (20, 20, 64)])
def test_the_mean_gradient_of_windows_is_that_of_the_whole_image(height, width, size, monkeypatch):
    pred, target = images(2, height, width)
    loss, plain = parse(f"Window({size})*Charbonnier"), parse("Charbonnier")
    counts = [len(Window(size).split(side)) - 1 for side in (height, width)]
    gradients = []
    for tile in itertools.product(*map(range, counts)):
        fix_draws(monkeypatch, *tile)
        gradients.append(gradient(loss, pred, target))
    torch.testing.assert_close(sum(gradients) / len(gradients), gradient(plain, pred, target), rtol=1e-12, atol=1e-18)


def test_a_mask_is_cut_with_the_images():
    pred, target = images(2)
    mask = (torch.rand(2, 1, 64, 48) > 0.5).double()
    loss = parse("Window(1000)*Part(1.0)*L1").on(mask="mask")
    torch.testing.assert_close(loss(pred, target, mask=mask), parse("L1").on(mask="mask")(pred, target, mask=mask))


def test_inputs_that_a_term_does_not_read_have_any_size():
    pred, target = images(2)
    inputs = {"pred": pred, "target": target, "input": torch.rand(2, 3, 16, 12), "labels": torch.zeros(5)}
    assert parse("L1 + Window(32)*L2 + Part(0.5)*L2").evaluate(inputs, step=0)["L2#1"].shape == (2,)


def test_inputs_of_several_sizes_have_no_window():
    loss = parse("Window(8)*style('vgg16', 'relu1_1', weights='random')")
    with pytest.raises(ValueError, match="Window needs inputs of equal height and width; those of 'style' are 32x32"):
        loss(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 48, 32))


@pytest.mark.parametrize(
    ("text", "share"),
    [
        (f"L1 + Part(0.25)*{VGG16}", 0.25),
        (f"L1 + Part(0.25)*{VGG16} + Part(0.25)*style('vgg16', 'relu2_2', weights='random')", 0.25),
        (f"{VGG16} + Part(0.25)*style('vgg16', 'relu1_2', weights='random')", 1.0),
        (f"Window(32)*{VGG16}", 0.25),
        (f"Window(32)*Part(0.5)*{VGG16}", 0.125),
    ],
)
def test_a_sparse_term_costs_its_part_of_a_pass(text, share):
    pred, target = (each.float() for each in images(4, 64, 64))
    loss, full = parse(text), parse(VGG16).plan(pred.shape)
    plan = loss.plan(pred.shape)
    assert count_convolutions(lambda: loss(pred, target)) == plan.forward_flops == share * full.forward_flops
    assert count_convolutions(lambda: gradient(loss, pred, target)) == plan.forward_flops + plan.backward_flops


def test_a_term_of_part_of_the_batch_uses_the_features_of_the_whole_batch(monkeypatch):
    pred, target = images(4, 32, 32)
    layers = "'vgg16', 'relu2_2', weights='random'"
    loss = parse(f"perceptual({layers}) + Part(0.5)*style({layers})").double()
    fix_draws(monkeypatch, 1)
    found = gradient(loss, pred, target)
    expected = gradient(parse(f"perceptual({layers})").double(), pred, target)
    part = gradient(parse(f"style({layers})").double(), pred, target)
    expected[1:3] += 2 * part[1:3]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-12)


def test_evaluate_computes_the_whole_batch_unless_a_step_is_given():
    pred, target = images()
    loss = parse("L1 + Part(0.25)*L2")
    inputs = {"pred": pred, "target": target}
    assert (loss.evaluate(inputs)["L2"] > 0).all()
    values = loss.evaluate(inputs, step=0)["L2"]
    assert values.shape == (4,)
    assert (values > 0).sum() == 1


def test_a_nonfinite_image_of_a_part_is_named_by_its_place_in_the_batch(monkeypatch):
    pred, target = images()
    bad = pred.detach().clone()
    bad[2, 0, 0, 0] = torch.nan
    bad.requires_grad_()
    loss = parse("L1 + Part(0.5)*L2")
    for start, expected in ((2, [False, False, True, False]), (0, [False] * 4)):
        fix_draws(monkeypatch, start)
        guard = NonFiniteGuard()
        values = guard.zero_nonfinite(loss.evaluate({"pred": bad, "target": target}, guard=guard, step=0))
        total = loss.weighted_sum(values, step=0)
        assert guard.nonfinite_values["L2"].tolist() == expected
        assert torch.autograd.grad(total, bad)[0].isfinite().all()


def test_networks_skip_images_whose_gates_are_closed():
    pred, target = (each.float() for each in images(4, 32, 32))
    loss, full = parse(f"L2 + Gate(0)*{VGG16} + Gate(2)*style('vgg16', 'relu2_2', weights='random')"), parse(VGG16)
    for levels, share in (((-20.0, 8.0, -20.0, 9.0), 0.5), ((9.0, 9.0, 9.0, 9.0), 1.0), ((-20.0,) * 4, 0.0)):
        inputs = {"pred": pred.detach().requires_grad_(), "target": target, "logsnr": torch.tensor(levels)}
        plain = loss.evaluate(inputs)
        count = count_convolutions(lambda i=inputs: loss.evaluate(i, step=0))
        assert count == share * full.plan(pred.shape).forward_flops
        values = loss.evaluate(inputs, step=0)
        torch.testing.assert_close(values, plain, rtol=1e-3, atol=1e-6)
        assert loss.weighted_sum(values, step=0).requires_grad


def test_a_pinned_loss_takes_the_part_of_its_kept_maps(monkeypatch):
    pred, target = (each.float() for each in images(4, 32, 32))
    for factor in ("Part(0.5)", "Window(16)"):
        loss = parse(f"L1 + {factor}*{VGG16}")
        fix_draws(monkeypatch, 1)
        expected = loss(pred, target)
        torch.testing.assert_close(pinned(loss, target=target)(pred), expected)


def test_a_loss_in_tiles_refuses_a_part_of_the_batch_and_lets_lazy_terms_rest():
    pred, target = images(1)
    with pytest.raises(ValueError, match=r"its weight contains Part\(0.5\)"):
        tiled(parse(f"Part(0.5)*{VGG16}"), 32)
    loss = tiled(parse(f"L1 + Every(2)*{VGG16}"), 64)
    assert count_convolutions(lambda: loss(pred.float(), target.float(), step=1)) == 0


def test_the_discriminator_of_a_lazy_term_is_trained_in_each_step():
    loss = parse("L1 + Every(4)*Adversarial('patch', width=4)")
    assert list(loss.due_discriminators(1)) == ["Adversarial"]
    assert loss.active_terms(1) == ("L1",)


@pytest.mark.slow
@pytest.mark.parametrize("factor", ["Part(0.5)", "Window(16)", "Every(2)"])
def test_a_compiled_loss_samples_without_a_graph_break(factor):
    pred, target = (each.detach().float() for each in images(4, 32, 32))
    loss = parse(f"L1 + {factor}*{VGG16}")
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.manual_seed(0)
    values = {round(float(compiled(pred, target, step=0)), 5) for _ in range(12)}
    assert (len(values) > 1) == (factor != "Every(2)")


def test_factors_multiply_with_knobs_and_numbers():
    assert repr(0.1 * Every(4) * Knob("lam") * Part(0.5)) == '0.1 * Every(4) * Knob("lam") * Part(0.5)'
