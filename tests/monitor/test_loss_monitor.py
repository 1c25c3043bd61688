"""One loss in any loop: steps, gradient accumulation, non-finite values, state, processes."""

import copy
import io
import pickle
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from lossmith import L1, TV, LossMonitor
from lossmith.monitor import NonFiniteError, StepReport
from lossmith.monitor.nonfinite_repair import zero_nonfinite_gradients

NAN = float("nan")
ADVERSARIAL = "L1 + 0.1*Adversarial('patch', width=4)"


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1)).to(dtype)


def pair(count=4, side=24, seed=1):
    return torch.rand(2, count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def make(loss="L1 + 0.1*TV", lr=0.1, **options):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return model, optimizer, LossMonitor(loss, optimizer, **options)


def train(model, optimizer, monitor, steps=3, bad=None, rows=slice(None)):
    """Train for some steps; with `bad`, the target of one image is NaN in that step."""
    for step in range(steps):
        x, y = (each[rows] for each in pair(seed=step))
        if step == bad:
            y = y.clone()
            y[1, 0, 0, 0] = NAN
        optimizer.zero_grad()
        monitor(model(x), y).backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_a_training_equals_that_with_the_loss_alone():
    model, optimizer, monitor = make()
    plain, loss = network(), L1() + 0.1 * TV()
    other = torch.optim.SGD(plain.parameters(), lr=0.1)
    for step in range(3):
        x, y = pair(seed=step)
        other.zero_grad()
        loss(plain(x), y).backward()
        other.step()
    assert_close(train(model, optimizer, monitor), [p.detach() for p in plain.parameters()], rtol=0, atol=0)


def test_the_metrics_are_those_of_the_last_step():
    model, optimizer, monitor = make(log_every=1)
    train(model, optimizer, monitor, steps=2)
    x, y = pair(seed=2)
    loss = L1() + 0.1 * TV()
    values = {name: value.mean().item() for name, value in loss.evaluate({"pred": model(x), "target": y}).items()}
    optimizer.zero_grad()
    monitor(model(x), y).backward()
    optimizer.step()
    metrics = monitor.metrics()
    assert metrics["terms/TV"] == pytest.approx(values["TV"])
    assert metrics["loss"] == pytest.approx(values["L1"] + 0.1 * values["TV"])
    assert metrics["weights/TV"] == pytest.approx(0.1)
    assert metrics["gradient_shares/L1"] + metrics["gradient_shares/TV"] == pytest.approx(1)


def test_a_step_is_logged_once():
    model, optimizer, monitor = make(log_every=2)
    logged = []
    for step in range(4):
        for _ in range(2):  # micro-batches
            x, y = pair()
            monitor(model(x), y).backward()
            logged += [step] * monitor.should_log
        optimizer.step()
        if monitor.should_log:
            logged.append(monitor.steps)
            monitor.metrics()
            assert not monitor.should_log
    assert logged == [1, 2, 4]


def test_uneven_gradient_accumulation_counts_optimizer_steps_and_averages_images():
    model, optimizer, monitor = make("L1 + OnFrom(2)*TV", lr=0.0, log_every=1)
    x, y = pair(5)
    for rows in ([slice(0, 4)], [slice(0, 4), slice(4, 5)], [slice(0, 2), slice(2, 3), slice(3, 5)]):
        for each in rows:
            monitor(model(x[each]), y[each]).backward()
        optimizer.step()
    assert monitor.steps == 3
    metrics = monitor.metrics()
    assert metrics["terms/L1"] == pytest.approx((model(x) - y).abs().mean().item(), rel=1e-5)
    assert metrics["weights/TV"] == 1


def test_a_nonfinite_term_of_an_image_is_kept_out_of_the_weights_and_named():
    model, optimizer, monitor = make(log_every=3)
    found = train(model, optimizer, monitor, bad=1)
    assert all(bool(each.isfinite().all()) for each in found)
    with pytest.warns(
        UserWarning, match=r"^The term 'L1' was non-finite at step 2 \(image 2 of the batch\); it was exc"
    ):
        assert monitor.metrics()["nonfinite/L1"] == 1
    assert monitor.metrics()["nonfinite/L1"] == 1  # and no second warning


def test_a_network_that_overflows_takes_no_step_and_is_counted():
    model, optimizer, monitor = make()
    before = [p.detach().clone() for p in model.parameters()]
    x, y = pair()
    monitor(model(x), y).backward()
    model[0].weight.grad[0] = NAN  # as if the network's own backward pass overflowed
    optimizer.step()
    assert_close([p.detach() for p in model.parameters()], before, rtol=0, atol=0)
    assert monitor.read().nonfinite.totals["network"] == 1


def test_a_term_that_stays_nonfinite_raises():
    model, optimizer, monitor = make("L1")
    for _ in range(3):
        x, y = pair()
        monitor(model(x), y * NAN).backward()
        optimizer.step()
    with pytest.raises(NonFiniteError, match=r"The term 'L1' was not finite for any image in 3 consecutive steps"):
        monitor.metrics()


def test_a_discriminator_takes_a_step_with_each_optimizer_step():
    model, optimizer, monitor = make(ADVERSARIAL, log_every=1)
    discriminator = monitor.loss.terms[1].distance.discriminator_trainer
    for _ in range(2):
        for _ in range(2):
            x, y = pair()
            monitor(model(x), y).backward()
        optimizer.step()
    assert discriminator.steps == 2
    assert {"discriminators/Adversarial.loss", "discriminators/Adversarial.gradient_norm"} <= set(monitor.metrics())


@pytest.mark.parametrize("mode", ["evaluation", "no_grad"])
def test_an_evaluation_returns_the_weighted_sum_and_counts_nothing(mode):
    model, optimizer, monitor = make()
    train(model, optimizer, monitor)
    before = monitor.metrics()
    x, y = pair(seed=9)
    with torch.set_grad_enabled(mode == "evaluation"):
        monitor.train(mode != "evaluation")
        assert_close(monitor(model(x), y), (L1() + 0.1 * TV())(model(x), y))
    assert monitor.metrics() == before


def test_a_copy_and_a_pickle_continue_without_the_optimizer():
    model, optimizer, monitor = make("60% * L1 + 40% * TV", balance="share")
    train(model, optimizer, monitor)
    x, y = pair()
    monitor(model(x), y)  # a graph is pending
    others = copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))
    expected = monitor(model(x), y)
    for other in others:
        assert_close(other(model(x), y), expected)
    optimizer.step()
    assert [each.steps for each in (monitor, *others)] == [4, 3, 3]


def test_a_saved_and_loaded_monitor_continues_to_the_bit():
    whole = train(*make(ADVERSARIAL, balance="share(every=2)"), steps=4, rows=slice(2, 4))
    model, optimizer, monitor = make(ADVERSARIAL, balance="share(every=2)")
    for step in range(4):
        if step == 2:
            file = io.BytesIO()
            torch.save(monitor.state_dict(), file)
            monitor = LossMonitor(ADVERSARIAL, optimizer, balance="share(every=2)")
            file.seek(0)
            monitor.load_state_dict(torch.load(file, weights_only=True))
        x, y = (each[2:4] for each in pair(seed=step))
        optimizer.zero_grad()
        monitor(model(x), y).backward()
        optimizer.step()
    assert_close([p.detach() for p in model.parameters()], whole, rtol=0, atol=0)


def test_knobs_weight_each_image_as_in_the_command():
    monitor = LossMonitor("L1 + lam*TV")
    x, y = pair(2)
    lam = torch.tensor([1.0, 3.0])
    values = monitor.loss.evaluate({"pred": x, "target": y})
    expected = ((values["L1"] + lam * values["TV"]) / (1 + lam)).mean()
    assert_close(monitor(x.requires_grad_(), y, lam=lam), expected)


def test_a_pinned_target_is_read_at_every_call():
    monitor = LossMonitor("L1")
    x, y = pair()
    monitor.pin(target=y[:1])
    assert_close(monitor(x.requires_grad_()), (x - y[:1]).abs().mean())


def test_an_overflow_of_a_scaled_gradient_is_left_to_the_scaler():
    scaler = GradScaler("cpu", init_scale=2.0**40)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = LossMonitor("L1", optimizer, scaler=scaler)
    for _ in range(3):
        x, y = pair()
        pred = model(x).half()
        scaler.scale(monitor(pred, y)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert scaler.get_scale() < 2.0**40
    assert monitor.steps == 0  # the scaler skipped the steps


def test_a_loss_under_bfloat16_autocast_has_finite_float32_terms():
    model, optimizer, monitor = make("L1 + 0.1*SSIM", log_every=1)
    x, y = pair()
    with torch.autocast("cpu", torch.bfloat16):
        loss = monitor(model(x), y)
    loss.backward()
    optimizer.step()
    assert loss.dtype == torch.float32
    assert monitor.metrics()["terms/SSIM"] > 0


def test_an_optimizer_with_a_closure_is_guarded_after_the_closure():
    model, optimizer, monitor = make()
    before = [p.detach().clone() for p in model.parameters()]
    x, y = pair()

    def closure():
        optimizer.zero_grad()
        loss = monitor(model(x), y)
        loss.backward()
        model[0].weight.grad[0] = NAN
        return loss

    optimizer.step(closure)
    assert_close([p.detach() for p in model.parameters()], before, rtol=0, atol=0)
    assert monitor.steps == 1


def test_a_step_follows_the_last_of_several_optimizers_once():
    model = network()
    first, second = (torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (model[0], model[2]))
    monitor = LossMonitor("L1")
    monitor.attach(first, second)
    monitor.attach(first, second)  # replaces the first
    x, y = pair()
    monitor(model(x), y).backward()
    first.step()
    second.step()
    assert monitor.steps == 1


def test_metrics_before_the_first_step_are_empty():
    assert LossMonitor("L1").metrics() == {}
    assert LossMonitor("L1").read() == StepReport()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LossMonitor(3), "LossMonitor loss must be a loss or a formula; got a int"),
        (lambda: LossMonitor("L1", log_every=0), "log_every must be"),
        (lambda: LossMonitor("30% * L1 + TV"), 'A gradient share in .* needs balance="share"'),
        (lambda: LossMonitor("L1", balance="shares"), "Unknown balancer 'shares'"),
        (lambda: LossMonitor("L1", network()), "needs an optimizer of torch.optim; got a Sequential"),
        (lambda: LossMonitor("L1").attach(), "needs the optimizer of the network; got none"),
        (lambda: LossMonitor("L1")(pair()[0]), "reads the input 'target'"),
        (lambda: LossMonitor("L1")(*pair(), other=pair()[0]), "'other' is neither a knob nor an input"),
        (lambda: LossMonitor("L1")(pair()[0], pair(side=8)[0]), "the shapes must be equal"),
        (lambda: LossMonitor("L1 + lam*TV")(*pair()), "The knob 'lam' has no value"),
    ],
)
def test_bad_input_raises_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_a_monitor_without_an_optimizer_warns(monkeypatch):
    monkeypatch.setattr("lossmith.monitor.loss_monitor.MANY_CALLS", 3)
    monitor = LossMonitor("L1")
    x, y = pair()
    with pytest.warns(UserWarning, match="called 3 times without an optimizer step"):
        for _ in range(4):
            monitor(x.requires_grad_(), y)


class WaitCounter(TorchDispatchMode):
    """A counter of reads of a tensor's value, each of which would synchronize with a GPU."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("balance", [None, "share(every=1)"])
def test_no_step_waits_for_the_device_and_metrics_wait_once(monkeypatch, balance):
    model, optimizer, monitor = make(ADVERSARIAL, balance=balance, log_every=1)
    train(model, optimizer, monitor, steps=2)
    counter, tolist, waits = WaitCounter(), torch.Tensor.tolist, []
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: waits.append(1) or tolist(tensor))
    monkeypatch.setattr("lossmith.device.HOST_TYPES", ())  # the CPU stands for a GPU
    with counter:
        train(model, optimizer, monitor, steps=2, bad=1)
    assert (counter.count, len(waits)) == (0, 0)
    with counter, pytest.warns(UserWarning, match="non-finite"):
        monitor.metrics()
    assert (counter.count, len(waits)) == (0, 1)


class OperatorCounter(TorchDispatchMode):
    """A counter of operators, each of which launches a kernel on a GPU, or is a view."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("formula", "limit"), [("L1", 75), ("L1 + 0.1*TV", 90), ("L1 + 0.1*TV + L2", 105)])
def test_a_step_takes_few_operators_more_than_with_the_loss_alone(monkeypatch, formula, limit):
    monkeypatch.setattr("lossmith.device.HOST_TYPES", ())  # the CPU stands for a GPU
    counts = []
    for monitored in (True, False):
        model, optimizer, monitor = make(formula, log_every=1000)
        if not monitored:
            monitor.detach()
        loss = monitor if monitored else monitor.loss
        for _ in range(2):
            x, y = pair()
            with OperatorCounter() as counter:
                optimizer.zero_grad()
                loss(model(x), y).backward()
                optimizer.step()
        counts.append(counter.count)
    assert counts[0] - counts[1] <= limit


@pytest.mark.parametrize("device_types", [("cpu",), ()], ids=["on_host", "on_device"])
def test_an_excluded_image_gives_the_weights_of_the_training_without_it(monkeypatch, device_types):
    monkeypatch.setattr("lossmith.device.HOST_TYPES", device_types)
    model, optimizer, monitor = make("L1")
    x, y = pair()
    y[1, 0, 0, 0] = NAN
    monitor(model(x), y).backward()
    optimizer.step()
    expected, kept = network(), [0, 2, 3]
    other = torch.optim.SGD(expected.parameters(), lr=0.1)
    (L1()(expected(x[kept]), y[kept]) * 3 / 4).backward()  # of four images
    other.step()
    assert_close([p.detach() for p in model.parameters()], [p.detach() for p in expected.parameters()])


def test_a_finite_gradient_whose_squares_overflow_in_half_precision_is_kept():
    weight = nn.Parameter(torch.zeros(4, dtype=torch.float16))
    weight.grad = torch.full((4,), 4e4, dtype=torch.float16)
    assert not zero_nonfinite_gradients([weight])
    assert bool((weight.grad == 4e4).all())


def run_process(rank, folder, loss, balance):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=120))
    try:
        model = DistributedDataParallel(network())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        monitor = LossMonitor(loss, optimizer, balance=balance, log_every=1)
        found = train(model, optimizer, monitor, rows=slice(2 * rank, 2 * rank + 2))
        torch.save([found, monitor.metrics()], Path(folder) / f"{rank}.pt")
    finally:
        destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_and_log_as_one(tmp_path):
    loss, balance = ADVERSARIAL, "share(every=1)"
    torch.multiprocessing.spawn(run_process, (str(tmp_path), loss, balance), nprocs=2)
    model, optimizer, monitor = make(loss, balance=balance, log_every=1)
    expected, metrics = train(model, optimizer, monitor), monitor.metrics()
    for rank in range(2):
        found, logged = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert logged == pytest.approx(metrics, rel=1e-3, abs=1e-5)


def run_lazy_steps(text, steps, *, log_every=1, balance=None):
    """Return the monitor's metrics after each logged step of a small training."""
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 3, 3, padding=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    monitor = LossMonitor(text, optimizer, log_every=log_every, balance=balance)
    x, y = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    logs = {}
    for step in range(1, steps + 1):
        monitor(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        if monitor.should_log:
            logs[step] = monitor.metrics()
    return logs


def test_a_lazy_term_is_logged_with_its_last_step_and_its_mean_weight():
    logs, plain = run_lazy_steps("L1 + 0.5*Every(4)*L2", 8), run_lazy_steps("L1 + 0.5*L2", 1)[1]
    for metrics in logs.values():
        assert {name: value for name, value in metrics.items() if name != "loss"} == pytest.approx(
            {name: value for name, value in plain.items() if name != "loss"}
        )
    assert logs[1]["loss"] > logs[2]["loss"]


def test_a_lazy_term_that_rests_in_all_logged_steps_is_measured_before():
    logs = run_lazy_steps("L1 + 0.5*Every(4)*L2", 12, log_every=3)
    assert all(set(metrics) >= {"terms/L2", "gradient_shares/L2"} for metrics in logs.values())
    assert all(metrics["gradient_shares/L2"] > 0 for metrics in logs.values())


def test_a_balancer_measures_where_all_lazy_terms_act_and_balances_their_mean():
    logs = run_lazy_steps("70%*L1 + 30%*Every(4)*L2", 41, balance="share(every=10)")
    for step in (5, 6, 21, 41):
        assert logs[step]["gradient_shares/L2"] == pytest.approx(0.3, abs=0.01)
        assert logs[step]["gradient_shares/L1"] == pytest.approx(0.7, abs=0.01)


def test_a_balancer_refuses_lazy_terms_that_never_meet():
    with pytest.raises(ValueError, match="'L1' and 'L2' never act in the same step"):
        LossMonitor("Every(2)*L1 + Every(4, phase=1)*L2 + TV", balance="share")
