"""Balanced term weights: the gradient of the weighted sum, at the cost of few backward passes."""

from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest
import torch
from torch import nn
from torch.distributed import ReduceOp, all_reduce, destroy_process_group, init_process_group
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from lossmith import L1, L2, TV, Distance, InfoNCE, Knob, OnFrom, parse
from lossmith.balance import Fixed, GradNorm, Share, Uncertainty
from lossmith.engine.nonfinite import NonFiniteGuard
from lossmith.monitor.balancing import LossBalancer

TIMEOUT = 120
"""Seconds after which two processes are considered stuck."""


class Size(Distance):
    """A regularizer of a vector."""

    reads_images = False

    def measure(self, code):
        return code.square().flatten(1).mean(dim=1)

    def __repr__(self):
        return "Size()"


class Tempered(Distance):
    """A distance with a trainable parameter."""

    def __init__(self):
        super().__init__()
        self.log = nn.Parameter(torch.zeros(()))

    def measure(self, pred, target):
        return ((pred - target).abs() * self.log.exp()).flatten(1).mean(dim=1) - self.log

    def __repr__(self):
        return "Tempered()"


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 3, 3, padding=1)).to(dtype)


def pair(dtype=torch.float64, n=3, side=12, seed=1):
    return torch.rand(2, n, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(scalar, *modules):
    parameters = [p for module in modules for p in module.parameters()]
    return torch.autograd.grad(scalar, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)


def run_step(loss, balancer, model, step=0, extra=None, **options):
    """Run one step and return the scalar, the values and the inputs."""
    image, target = pair(next(model.parameters()).dtype)
    pred = model(image)
    inputs = {"pred": pred, "target": target, **(extra(pred, target) if extra else {})}
    values = loss.evaluate(inputs)
    return balancer(loss, values, inputs, step=step, **options), values, inputs


def reported_sum(values, balancer):
    """Return the weighted sum of the values with the reported weights."""
    return sum(balancer.metrics[f"weight.{name}"].double() * value.mean() for name, value in values.items())


def assert_all_close(found, expected, tolerance=1e-6):
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


@pytest.mark.parametrize("text", ["0.7*L1 + 0.2*L2 + 0.1*L1 @ Sobel", "L1 - 0.3*TV", "L1"])
def test_the_gradient_is_that_of_the_weighted_sum(text):
    loss, model = parse(text).double(), network()
    balancer = LossBalancer(Share(), loss.names)
    scalar, values, _ = run_step(loss, balancer, model)
    assert_all_close(gradients(scalar, model), gradients(reported_sum(values, balancer), model))
    assert_close(scalar.detach(), reported_sum(values, balancer).detach(), rtol=1e-6, atol=0)


def test_a_factor_of_the_scalar_scales_the_gradient():
    loss, model = (L1() + L2()).double(), network()
    scalar, *_ = run_step(loss, LossBalancer(Share(), loss.names), model)
    assert_all_close(gradients(scalar * 4, model), [4 * g for g in gradients(scalar, model)], tolerance=1e-12)


def test_the_shares_of_the_formula_are_realized_and_reported():
    loss, model = parse("0.7*L1 + 0.2*L2 + 0.1*TV").double(), network()
    balancer = LossBalancer(Share(), loss.names)
    run_step(loss, balancer, model)
    shares = [float(balancer.metrics[f"share.{name}"]) for name in loss.names]
    assert shares == pytest.approx([0.7, 0.2, 0.1], rel=1e-5)


@pytest.mark.parametrize("balance", [Share, GradNorm])
def test_the_training_is_invariant_to_a_factor_of_1000_of_a_term(balance):
    trained = []
    for factor in (1, 1000):
        model, loss = network(), L1() + 0.5 * Times(factor)
        balancer = LossBalancer(balance(every=2), loss.names)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(5):
            optimizer.zero_grad()
            run_step(loss.double(), balancer, model, step)[0].backward()
            optimizer.step()
        trained.append([p.detach() for p in model.parameters()])
    assert_all_close(trained[1], trained[0], tolerance=1e-5)


class Times(Distance):
    """The mean squared error with a factor."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def measure(self, pred, target):
        return self.factor * (pred - target).square().flatten(1).mean(dim=1)

    def __repr__(self):
        return "Times()"


def test_a_term_without_a_path_to_the_output_keeps_its_weight():
    loss, model, code = 0.5 * L1() + 7 * Size() + 0.5 * L2(), network(), nn.Linear(4, 2).double()
    balancer = LossBalancer(Share(), loss.names)
    scalar, values, _ = run_step(loss, balancer, model, extra=lambda *_: {"code": code(torch.ones(3, 4).double())})
    assert balancer.metrics["weight.Size"] == 7
    assert float(balancer.metrics["share.L1"]) == pytest.approx(0.5, rel=1e-5)
    assert_all_close(gradients(scalar, model, code), gradients(reported_sum(values, balancer), model, code))
    assert all((g != 0).any() for g in gradients(scalar, code))


def test_inputs_derived_from_the_output_are_measured():
    loss, model = 0.5 * L1() + 0.5 * L2().on(pred="filled"), network()
    mask = torch.zeros(3, 1, 12, 12).double()
    mask[..., :5] = 1
    balancer = LossBalancer(Share(), loss.names)
    fill = lambda pred, target: {"filled": mask * pred + (1 - mask) * target}  # noqa: E731
    scalar, values, _ = run_step(loss, balancer, model, extra=fill)
    assert float(balancer.metrics["share.L2"]) == pytest.approx(0.5, rel=1e-5)
    assert_all_close(gradients(scalar, model), gradients(reported_sum(values, balancer), model))


def test_a_trainable_parameter_of_a_loss_receives_its_gradient():
    loss, model = 0.5 * L1() + 0.5 * Tempered(), network()
    loss = loss.double()
    balancer = LossBalancer(Share(), loss.names)
    scalar, values, _ = run_step(loss, balancer, model)
    assert_all_close(gradients(scalar, model, loss), gradients(reported_sum(values, balancer), model, loss))
    assert gradients(scalar, loss)[0] != 0


def test_another_output_of_the_network_is_not_a_path_through_the_prediction():
    model = network()
    loss = 0.5 * L1() + 0.5 * L2().on(pred="other")
    image, target = pair()
    first, second = model(image).unbind(0)[:2]  # two outputs of one node of the graph
    inputs = {"pred": first[None], "other": second[None], "target": target[:1]}
    values = loss.evaluate(inputs)
    balancer = LossBalancer(Share(), loss.names)
    scalar = balancer(loss, values, inputs)
    assert balancer.metrics["weight.L2"] == 0.5
    assert_all_close(gradients(scalar, model), gradients(reported_sum(values, balancer), model))


def test_the_prediction_may_be_a_trainable_image():
    loss = (0.5 * L1() + 0.5 * L2()).double()
    pred, target = pair()
    pred.requires_grad_()
    inputs = {"pred": pred, "target": target}
    balancer, values = LossBalancer(Share(), loss.names), loss.evaluate(inputs)
    (found,) = torch.autograd.grad(balancer(loss, values, inputs), pred, retain_graph=True)
    (expected,) = torch.autograd.grad(reported_sum(values, balancer), pred)
    assert_all_close([found], [expected])


class Gap(Distance):
    """The mean absolute difference of vectors."""

    reads_images = False

    def measure(self, pred, target):
        return (pred - target).abs().mean(dim=1)

    def __repr__(self):
        return "Gap()"


def test_a_batch_dependent_loss_is_weighted_as_a_value():
    loss, model = Gap() + 0.1 * InfoNCE(), network()
    inputs = {"pred": model(pair()[0]).mean(dim=(2, 3)), "target": torch.rand(3, 3).double()}
    balancer, values = LossBalancer(Share(), loss.names), loss.evaluate(inputs)
    scalar = balancer(loss, values, inputs)
    assert_all_close(gradients(scalar, model), gradients(reported_sum(values, balancer), model))


def test_the_weights_are_constant_between_measurements():
    loss, model = (0.5 * L1() + 0.5 * L2()).double(), network()
    balancer = LossBalancer(Share(every=4), loss.names)
    for step in range(5):
        run_step(loss, balancer, model, step)
    count = balancer.balance.mean.count.clone()
    with torch.no_grad():
        for p in model.parameters():
            p *= 3
    for step in (5, 6, 7):
        scalar, values, _ = run_step(loss, balancer, model, step)
        assert_all_close(gradients(scalar, model), gradients(reported_sum(values, balancer), model))
    assert torch.equal(balancer.balance.mean.count, count)
    run_step(loss, balancer, model, 8)
    assert (balancer.balance.mean.count > count).all()


def test_a_term_is_measured_in_the_step_in_which_it_becomes_active():
    loss, model = (0.5 * L1() + 0.5 * OnFrom(15) * L2()).double(), network()
    balancer = LossBalancer(Share(every=4), loss.names)
    for step in range(15):
        scalar, values, _ = run_step(loss, balancer, model, step)
        assert_all_close(gradients(scalar, model), gradients(values["L1"].mean(), model))
    scalar, values, _ = run_step(loss, balancer, model, 15)
    assert float(balancer.metrics["share.L2"]) == pytest.approx(0.5, rel=1e-5)
    assert_all_close(gradients(scalar, model), gradients(reported_sum(values, balancer), model))


def test_two_scalars_can_share_one_backward_pass():
    loss, model = (0.5 * L1() + 0.5 * L2()).double(), network()
    balancer = LossBalancer(Share(every=1), loss.names)
    first, *_ = run_step(loss, balancer, model, 1)
    expected = gradients(first, model)
    second, *_ = run_step(loss, balancer, model, 2)
    assert_all_close(gradients(first + 0 * second, model), expected, tolerance=1e-12)


def test_a_loaded_state_continues_to_the_bit():
    loss, model = (0.5 * L1() + 0.5 * OnFrom(2) * L2()).double(), network()

    def scalars(balancer, steps):
        return [run_step(loss, balancer, model, step)[0].detach() for step in steps]

    whole, first, second = (LossBalancer(GradNorm(every=3), loss.names) for _ in range(3))
    unbroken = scalars(whole, range(12))
    scalars(first, range(7))
    second.load_state_dict(first.state_dict())
    assert second.metrics.keys() == first.metrics.keys()
    assert torch.equal(torch.stack(scalars(second, range(7, 12))), torch.stack(unbroken[7:]))
    assert all(torch.equal(whole.state_dict()[name], kept) for name, kept in second.state_dict().items())


def test_with_knobs_each_image_has_its_own_shares():
    loss, model = (L1() + Knob("lam") * L2()).double(), network()
    lam = torch.tensor([0.1, 1.0, 10.0]).double()
    balancer = LossBalancer(Share(), loss.names)
    scalar, values, _ = run_step(loss, balancer, model, knobs={"lam": lam})
    parts = {"L1": 1 / (1 + lam), "L2": lam / (1 + lam)}
    scale = {n: balancer.metrics[f"weight.{n}"].double() / parts[n].mean() for n in parts}
    expected = sum((parts[n] * scale[n] * values[n]).mean() for n in parts)
    assert_all_close(gradients(scalar, model), gradients(expected, model))
    assert_close(scalar.detach(), expected.detach(), rtol=1e-6, atol=0)
    later, values, _ = run_step(loss, balancer, model, 11, knobs={"lam": lam})
    assert_all_close(gradients(later, model), gradients(expected, model))


@pytest.mark.parametrize("balance", [Fixed(), Uncertainty()])
def test_balancers_without_gradients_run_no_backward_pass(balance, monkeypatch):
    loss, model = (0.5 * L1() + 0.5 * L2()).double(), network()
    balancer = LossBalancer(balance, loss.names)
    monkeypatch.setattr("lossmith.monitor.balancing.output_gradients", None)
    scalar, values, _ = run_step(loss, balancer, model)
    weights = [0.5, 0.5] if isinstance(balance, Fixed) else [0.25 / float(v.detach().mean()) for v in values.values()]
    expected = sum(w * value.mean() for w, value in zip(weights, values.values(), strict=True))
    assert_all_close(gradients(scalar, model), gradients(expected, model))


def test_without_gradients_the_current_weights_apply():
    loss, model = (0.5 * L1() + 0.5 * L2()).double(), network()
    balancer = LossBalancer(Share(), loss.names)
    with torch.no_grad():
        scalar, values, _ = run_step(loss, balancer, model)
    assert_close(scalar, 0.5 * values["L1"].mean() + 0.5 * values["L2"].mean())
    assert not balancer.metrics


class Breaking(Distance):
    """A distance with a non-finite gradient at equal pixels."""

    def measure(self, pred, target):
        return (pred - target).abs().sqrt().flatten(1).mean(dim=1)

    def __repr__(self):
        return "Breaking()"


def test_a_nonfinite_gradient_is_excluded_and_named():
    loss, model = (0.5 * L1() + 0.5 * Breaking()).double(), network()
    image, _ = pair()
    pred = model(image)
    target = torch.rand(3, 3, 12, 12).double()
    target[1] = pred.detach()[1]
    inputs, guard = {"pred": pred, "target": target}, NonFiniteGuard()
    values = guard.zero_nonfinite(loss.evaluate(inputs, guard=guard))
    balancer = LossBalancer(Share(), loss.names)
    scalar = balancer(loss, values, inputs)
    assert all(g.isfinite().all() for g in gradients(scalar, model))
    assert [hit.tolist() for hit in guard.nonfinite_samples("Breaking")] == [[False, True, False]]
    assert all(bool(metric.isfinite()) for metric in balancer.metrics.values())


def test_a_step_without_a_finite_value_does_not_change_the_weights():
    loss, model = (0.5 * L1() + 0.5 * L2()).double(), network()
    balancer = LossBalancer(Share(every=1), loss.names)
    run_step(loss, balancer, model)
    before = balancer.factors.clone()
    image, target = pair()
    inputs, guard = {"pred": model(image), "target": target * float("nan")}, NonFiniteGuard()
    values = guard.zero_nonfinite(loss.evaluate(inputs, guard=guard))
    balancer(loss, values, inputs, step=1)
    assert_close(balancer.factors, before)


def convolutions(run):
    with FlopCounterMode(display=False) as counter:
        run()
    counts = counter.get_flop_counts()["Global"]
    return sum(flops for op, flops in counts.items() if "convolution" in str(op))


def test_a_measured_step_costs_one_backward_pass_per_term_on_a_network(with_random_weights):
    def cost(text, balanced):
        loss = with_random_weights(parse(text))
        pred, target = torch.rand(2, 1, 3, 32, 32)
        balancer = LossBalancer(Share(), loss.names)

        def run():
            inputs = {"pred": 1 * pred.requires_grad_(), "target": target}
            values = loss.evaluate(inputs)
            (balancer(loss, values, inputs) if balanced else loss.weighted_sum(values)).backward()

        return convolutions(run)

    one, two = "L1 + perceptual('vgg16', 'relu2_2')", "L1 + perceptual('vgg16', 'relu2_2') + style('vgg16', 'relu2_2')"
    assert cost(one, balanced=True) == cost(one, balanced=False)
    assert cost(two, balanced=False) == cost(one, balanced=False)
    forward = convolutions(
        lambda: with_random_weights(parse(one)).evaluate(dict.fromkeys(("pred", "target"), torch.rand(1, 3, 32, 32)))
    )
    backward = cost(one, balanced=False) - forward
    assert cost(two, balanced=True) == forward + 2 * backward


def run_process(rank, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=TIMEOUT))

    def average(tensor):
        all_reduce(tensor, ReduceOp.SUM)
        return tensor / 2

    try:
        torch.save(state_after_two_steps(slice(2 * rank, 2 * rank + 2), average), Path(folder) / f"{rank}.pt")
    finally:
        destroy_process_group()


def state_after_two_steps(rows, average=None):
    """Return the state after two measured steps on some images of a batch."""
    loss, model = parse("0.6*L1 + 0.3*L2 + 0.1*TV").double(), network()
    balancer = LossBalancer(GradNorm(every=1), loss.names)
    for step in range(2):
        image, target = pair(n=4, seed=step)
        pred = model(image[rows])
        inputs = {"pred": pred, "target": target[rows]}
        values = loss.evaluate(inputs)
        balancer(loss, values, inputs, step=step, average=average)
    return balancer.state_dict()


@pytest.mark.slow
def test_two_processes_measure_as_one(tmp_path):
    workers = torch.multiprocessing.spawn(run_process, (str(tmp_path),), nprocs=2, join=False)
    end = monotonic() + TIMEOUT
    try:
        while not workers.join(timeout=1):
            assert monotonic() < end, f"two processes did not end within {TIMEOUT} s"
    finally:
        for process in workers.processes:
            process.kill()
            process.join()
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    alone = state_after_two_steps(slice(None))
    for name, kept in alone.items():
        assert torch.equal(first[name], second[name])
        assert_close(first[name], kept, rtol=1e-5, atol=1e-7)


def test_a_term_that_one_process_cannot_measure_is_averaged_over_the_others():
    loss, model = (0.5 * L1() + 0.5 * TV()).double(), network()
    balancer = LossBalancer(Share(), loss.names)

    def average(mine):  # as if another process had no finite L1, and the same TV
        other = mine.clone()
        other[0] = other[1] = other[2] = other[4] = other[5] = other[6] = 0
        return (mine + other) / 2

    run_step(loss, balancer, model, average=average)
    alone = LossBalancer(Share(), loss.names)
    run_step(loss, alone, model)
    assert_close(balancer.factors, alone.factors)


def test_half_precision_networks_are_balanced_as_float32_ones(with_random_weights):
    found = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        loss = 0.5 * L1() + 0.5 * TV()
        pred, target = pair(torch.float32)
        pred = pred.to(dtype).requires_grad_()
        inputs = {"pred": pred, "target": target}
        balancer, values = LossBalancer(Share(), loss.names), loss.evaluate(inputs)
        scalar = balancer(loss, values, inputs) * 1024
        (gradient,) = torch.autograd.grad(scalar, pred)
        assert gradient.dtype == dtype
        found[dtype] = (balancer.factors, gradient.float())
    for dtype in (torch.bfloat16, torch.float16):
        assert_close(found[dtype][0], found[torch.float32][0], rtol=2e-2, atol=0)
        off = (found[dtype][1] - found[torch.float32][1]).norm() / found[torch.float32][1].norm()
        assert off < 0.1
