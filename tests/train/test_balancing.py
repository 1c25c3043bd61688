"""The weights of a step: the gradient of the weighted sum, for one walk into the network and few backward passes."""

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
from lossmith.train.balancing import LossBalancer

WITHIN = 120


class Size(Distance):
    """A regulariser of something that is no picture."""

    reads_images = False

    def measure(self, code):
        return code.square().flatten(1).mean(dim=1)

    def __repr__(self):
        return "Size()"


class Tempered(Distance):
    """A distance with something that trains."""

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


def step(loss, balancing, model, at=0, views=None, **options):
    """One step: the scalar, the values and the views."""
    given, target = pair(next(model.parameters()).dtype)
    pred = model(given)
    views = {"pred": pred, "target": target, **(views(pred, target) if views else {})}
    values = loss.evaluate(views)
    return balancing(loss, values, views, step=at, **options), values, views


def summed(values, balancing):
    """The weighted sum of the values, with the weights that the figures say."""
    return sum(balancing.figures[f"weight.{name}"].double() * value.mean() for name, value in values.items())


def close(found, wanted, within=1e-6):
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, rtol=within, atol=within * float(other.abs().max()))


@pytest.mark.parametrize("text", ["0.7*L1 + 0.2*L2 + 0.1*L1 @ Sobel", "L1 - 0.3*TV", "L1"])
def test_what_goes_back_is_the_gradient_of_the_weighted_sum(text):
    loss, model = parse(text).double(), network()
    balancing = LossBalancer(Share(), loss.names)
    scalar, values, _ = step(loss, balancing, model)
    close(gradients(scalar, model), gradients(summed(values, balancing), model))
    assert_close(scalar.detach(), summed(values, balancing).detach(), rtol=1e-6, atol=0)


def test_a_scaled_loss_scales_what_goes_back():
    loss, model = (L1() + L2()).double(), network()
    scalar, *_ = step(loss, LossBalancer(Share(), loss.names), model)
    close(gradients(scalar * 4, model), [4 * g for g in gradients(scalar, model)], within=1e-12)


def test_shares_are_realised_and_told():
    loss, model = parse("0.7*L1 + 0.2*L2 + 0.1*TV").double(), network()
    balancing = LossBalancer(Share(), loss.names)
    step(loss, balancing, model)
    shares = [float(balancing.figures[f"share.{name}"]) for name in loss.names]
    assert shares == pytest.approx([0.7, 0.2, 0.1], rel=1e-5)


@pytest.mark.parametrize("balance", [Share, GradNorm])
def test_a_term_multiplied_by_1000_trains_the_same_network(balance):
    trained = []
    for factor in (1, 1000):
        model, loss = network(), L1() + 0.5 * Times(factor)
        balancing = LossBalancer(balance(every=2), loss.names)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for at in range(5):
            optimizer.zero_grad()
            step(loss.double(), balancing, model, at)[0].backward()
            optimizer.step()
        trained.append([p.detach() for p in model.parameters()])
    close(trained[1], trained[0], within=1e-5)


class Times(Distance):
    """The mean squared error in other units."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def measure(self, pred, target):
        return self.factor * (pred - target).square().flatten(1).mean(dim=1)

    def __repr__(self):
        return "Times()"


def test_what_is_no_function_of_the_output_keeps_its_weight():
    loss, model, code = 0.5 * L1() + 7 * Size() + 0.5 * L2(), network(), nn.Linear(4, 2).double()
    balancing = LossBalancer(Share(), loss.names)
    scalar, values, _ = step(loss, balancing, model, views=lambda *_: {"code": code(torch.ones(3, 4).double())})
    assert balancing.figures["weight.Size"] == 7
    assert float(balancing.figures["share.L1"]) == pytest.approx(0.5, rel=1e-5)
    close(gradients(scalar, model, code), gradients(summed(values, balancing), model, code))
    assert all((g != 0).any() for g in gradients(scalar, code))


def test_views_that_are_made_of_the_output_count():
    loss, model = 0.5 * L1() + 0.5 * L2().on(pred="filled"), network()
    mask = torch.zeros(3, 1, 12, 12).double()
    mask[..., :5] = 1
    balancing = LossBalancer(Share(), loss.names)
    made = lambda pred, target: {"filled": mask * pred + (1 - mask) * target}  # noqa: E731
    scalar, values, _ = step(loss, balancing, model, views=made)
    assert float(balancing.figures["share.L2"]) == pytest.approx(0.5, rel=1e-5)
    close(gradients(scalar, model), gradients(summed(values, balancing), model))


def test_what_trains_in_a_loss_gets_its_gradient():
    loss, model = 0.5 * L1() + 0.5 * Tempered(), network()
    loss = loss.double()
    balancing = LossBalancer(Share(), loss.names)
    scalar, values, _ = step(loss, balancing, model)
    close(gradients(scalar, model, loss), gradients(summed(values, balancing), model, loss))
    assert gradients(scalar, loss)[0] != 0


def test_another_output_of_the_network_is_no_way_through_the_picture():
    model = network()
    loss = 0.5 * L1() + 0.5 * L2().on(pred="other")
    given, target = pair()
    first, second = model(given).unbind(0)[:2]  # two outputs of one node of the graph
    views = {"pred": first[None], "other": second[None], "target": target[:1]}
    values = loss.evaluate(views)
    balancing = LossBalancer(Share(), loss.names)
    scalar = balancing(loss, values, views)
    assert balancing.figures["weight.L2"] == 0.5
    close(gradients(scalar, model), gradients(summed(values, balancing), model))


def test_a_picture_that_is_itself_what_trains():
    loss = (0.5 * L1() + 0.5 * L2()).double()
    pred, target = pair()
    pred.requires_grad_()
    views = {"pred": pred, "target": target}
    balancing, values = LossBalancer(Share(), loss.names), loss.evaluate(views)
    (found,) = torch.autograd.grad(balancing(loss, values, views), pred, retain_graph=True)
    (wanted,) = torch.autograd.grad(summed(values, balancing), pred)
    close([found], [wanted])


def test_a_loss_that_mixes_a_batch_is_weighted_as_a_value():
    loss, model = L1() + 0.1 * InfoNCE(), network()
    views = {"pred": model(pair()[0]).mean(dim=(2, 3)), "target": torch.rand(3, 3).double()}
    balancing, values = LossBalancer(Share(), loss.names), loss.evaluate(views)
    scalar = balancing(loss, values, views)
    close(gradients(scalar, model), gradients(summed(values, balancing), model))


def test_between_measurements_the_weights_hold():
    loss, model = (0.5 * L1() + 0.5 * L2()).double(), network()
    balancing = LossBalancer(Share(every=4), loss.names)
    for at in range(5):
        step(loss, balancing, model, at)
    count = balancing.balance.mean.count.clone()
    with torch.no_grad():
        for p in model.parameters():
            p *= 3
    for at in (5, 6, 7):
        scalar, values, _ = step(loss, balancing, model, at)
        close(gradients(scalar, model), gradients(summed(values, balancing), model))
    assert torch.equal(balancing.balance.mean.count, count)
    step(loss, balancing, model, 8)
    assert (balancing.balance.mean.count > count).all()


def test_a_term_that_joins_is_measured_at_once():
    loss, model = (0.5 * L1() + 0.5 * OnFrom(15) * L2()).double(), network()
    balancing = LossBalancer(Share(every=4), loss.names)
    for at in range(15):
        scalar, values, _ = step(loss, balancing, model, at)
        close(gradients(scalar, model), gradients(values["L1"].mean(), model))
    scalar, values, _ = step(loss, balancing, model, 15)
    assert float(balancing.figures["share.L2"]) == pytest.approx(0.5, rel=1e-5)
    close(gradients(scalar, model), gradients(summed(values, balancing), model))


def test_two_scalars_may_wait_for_one_backward_pass():
    loss, model = (0.5 * L1() + 0.5 * L2()).double(), network()
    balancing = LossBalancer(Share(every=1), loss.names)
    first, *_ = step(loss, balancing, model, 1)
    wanted = gradients(first, model)
    second, *_ = step(loss, balancing, model, 2)
    close(gradients(first + 0 * second, model), wanted, within=1e-12)


def test_a_run_that_is_loaded_goes_on_to_the_bit():
    loss, model = (0.5 * L1() + 0.5 * OnFrom(2) * L2()).double(), network()

    def course(balancing, steps):
        return [step(loss, balancing, model, at)[0].detach() for at in steps]

    whole, first, second = (LossBalancer(GradNorm(every=3), loss.names) for _ in range(3))
    unbroken = course(whole, range(12))
    course(first, range(7))
    second.load_state_dict(first.state_dict())
    assert second.figures.keys() == first.figures.keys()
    assert torch.equal(torch.stack(course(second, range(7, 12))), torch.stack(unbroken[7:]))
    assert all(torch.equal(whole.state_dict()[name], kept) for name, kept in second.state_dict().items())


def test_with_knobs_each_picture_has_its_own_shares():
    loss, model = (L1() + Knob("lam") * L2()).double(), network()
    lam = torch.tensor([0.1, 1.0, 10.0]).double()
    balancing = LossBalancer(Share(), loss.names)
    scalar, values, _ = step(loss, balancing, model, knobs={"lam": lam})
    parts = {"L1": 1 / (1 + lam), "L2": lam / (1 + lam)}
    scale = {n: balancing.figures[f"weight.{n}"].double() / parts[n].mean() for n in parts}
    wanted = sum((parts[n] * scale[n] * values[n]).mean() for n in parts)
    close(gradients(scalar, model), gradients(wanted, model))
    assert_close(scalar.detach(), wanted.detach(), rtol=1e-6, atol=0)
    later, values, _ = step(loss, balancing, model, 11, knobs={"lam": lam})
    close(gradients(later, model), gradients(wanted, model))


@pytest.mark.parametrize("balance", [Fixed(), Uncertainty()])
def test_balances_without_gradients_take_no_backward_pass(balance, monkeypatch):
    loss, model = (0.5 * L1() + 0.5 * L2()).double(), network()
    balancing = LossBalancer(balance, loss.names)
    monkeypatch.setattr("lossmith.train.balancing.pulls", None)
    scalar, values, _ = step(loss, balancing, model)
    weights = [0.5, 0.5] if isinstance(balance, Fixed) else [0.25 / float(v.detach().mean()) for v in values.values()]
    wanted = sum(w * value.mean() for w, value in zip(weights, values.values(), strict=True))
    close(gradients(scalar, model), gradients(wanted, model))


def test_without_gradients_it_weighs_as_it_held():
    loss, model = (0.5 * L1() + 0.5 * L2()).double(), network()
    balancing = LossBalancer(Share(), loss.names)
    with torch.no_grad():
        scalar, values, _ = step(loss, balancing, model)
    assert_close(scalar, 0.5 * values["L1"].mean() + 0.5 * values["L2"].mean())
    assert not balancing.figures


class Breaking(Distance):
    """Finite, but its gradient is none where two pixels are equal."""

    def measure(self, pred, target):
        return (pred - target).abs().sqrt().flatten(1).mean(dim=1)

    def __repr__(self):
        return "Breaking()"


def test_what_is_not_finite_is_left_out_and_named():
    loss, model = (0.5 * L1() + 0.5 * Breaking()).double(), network()
    given, _ = pair()
    pred = model(given)
    target = torch.rand(3, 3, 12, 12).double()
    target[1] = pred.detach()[1]
    views, guard = {"pred": pred, "target": target}, NonFiniteGuard()
    values = guard.zero_nonfinite(loss.evaluate(views, guard=guard))
    balancing = LossBalancer(Share(), loss.names)
    scalar = balancing(loss, values, views)
    assert all(g.isfinite().all() for g in gradients(scalar, model))
    assert [hit.tolist() for hit in guard.nonfinite_samples("Breaking")] == [[False, True, False]]
    assert all(bool(figure.isfinite()) for figure in balancing.figures.values())


def test_a_step_without_a_finite_value_changes_no_mean():
    loss, model = (0.5 * L1() + 0.5 * L2()).double(), network()
    balancing = LossBalancer(Share(every=1), loss.names)
    step(loss, balancing, model)
    before = balancing.held.clone()
    given, target = pair()
    views, guard = {"pred": model(given), "target": target * float("nan")}, NonFiniteGuard()
    values = guard.zero_nonfinite(loss.evaluate(views, guard=guard))
    balancing(loss, values, views, step=1)
    assert_close(balancing.held, before)


def convolutions(run):
    with FlopCounterMode(display=False) as counter:
        run()
    counts = counter.get_flop_counts()["Global"]
    return sum(flops for op, flops in counts.items() if "convolution" in str(op))


def test_a_measured_step_costs_one_backward_pass_of_a_network_a_term_on_it(with_random_weights):
    def cost(text, balanced):
        loss = with_random_weights(parse(text))
        pred, target = torch.rand(2, 1, 3, 32, 32)
        balancing = LossBalancer(Share(), loss.names)

        def run():
            views = {"pred": 1 * pred.requires_grad_(), "target": target}
            values = loss.evaluate(views)
            (balancing(loss, values, views) if balanced else loss.weighted_sum(values)).backward()

        return convolutions(run)

    one, two = "L1 + perceptual('vgg16', 'relu2_2')", "L1 + perceptual('vgg16', 'relu2_2') + style('vgg16', 'relu2_2')"
    assert cost(one, balanced=True) == cost(one, balanced=False)
    assert cost(two, balanced=False) == cost(one, balanced=False)
    forward = convolutions(
        lambda: with_random_weights(parse(one)).evaluate(dict.fromkeys(("pred", "target"), torch.rand(1, 3, 32, 32)))
    )
    backward = cost(one, balanced=False) - forward
    assert cost(two, balanced=True) == forward + 2 * backward


def work(rank, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=WITHIN))

    def average(tensor):
        all_reduce(tensor, ReduceOp.SUM)
        return tensor / 2

    try:
        torch.save(measured(slice(2 * rank, 2 * rank + 2), average), Path(folder) / f"{rank}.pt")
    finally:
        destroy_process_group()


def measured(rows, average=None):
    """The state after two measured steps on some pictures of a batch, of which one is not finite for a term."""
    loss, model = parse("0.6*L1 + 0.3*L2 + 0.1*TV").double(), network()
    balancing = LossBalancer(GradNorm(every=1), loss.names)
    for at in range(2):
        given, target = pair(n=4, seed=at)
        pred = model(given[rows])
        views = {"pred": pred, "target": target[rows]}
        values = loss.evaluate(views)
        balancing(loss, values, views, step=at, average=average)
    return balancing.state_dict()


def test_two_processes_measure_as_one_does(tmp_path):
    workers = torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2, join=False)
    end = monotonic() + WITHIN
    try:
        while not workers.join(timeout=1):
            assert monotonic() < end, f"two processes did not end within {WITHIN} s"
    finally:
        for process in workers.processes:
            process.kill()
            process.join()
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    alone = measured(slice(None))
    for name, kept in alone.items():
        assert torch.equal(first[name], second[name])
        assert_close(first[name], kept, rtol=1e-5, atol=1e-7)


def test_a_term_that_one_process_cannot_measure_is_the_others():
    loss, model = (0.5 * L1() + 0.5 * TV()).double(), network()
    balancing = LossBalancer(Share(), loss.names)

    def average(mine):  # as if another process had no finite L1, and TV as here
        other = mine.clone()
        other[0] = other[1] = other[2] = other[4] = other[5] = other[6] = 0
        return (mine + other) / 2

    step(loss, balancing, model, average=average)
    alone = LossBalancer(Share(), loss.names)
    step(loss, alone, model)
    assert_close(balancing.held, alone.held)


def test_half_precision_networks_are_balanced_as_others(with_random_weights):
    found = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        loss = 0.5 * L1() + 0.5 * TV()
        pred, target = pair(torch.float32)
        pred = pred.to(dtype).requires_grad_()
        views = {"pred": pred, "target": target}
        balancing, values = LossBalancer(Share(), loss.names), loss.evaluate(views)
        scalar = balancing(loss, values, views) * 1024
        (gradient,) = torch.autograd.grad(scalar, pred)
        assert gradient.dtype == dtype
        found[dtype] = (balancing.held, gradient.float())
    for dtype in (torch.bfloat16, torch.float16):
        assert_close(found[dtype][0], found[torch.float32][0], rtol=2e-2, atol=0)
        off = (found[dtype][1] - found[torch.float32][1]).norm() / found[torch.float32][1].norm()
        assert off < 0.1
