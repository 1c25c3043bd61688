import lightning
import pytest
import torch

from lossmith import L1, L2, SSIM, TV, VGG, Distance
from lossmith.engine.nonfinite import NonFiniteGuard
from lossmith.models import build_network
from lossmith.monitor.nonfinite_monitor import NonFiniteMonitor
from lossmith.monitor.nonfinite_repair import replace_nonfinite_images, zero_nonfinite_gradients
from lossmith.monitor.nonfinite_report import MAX_EMPTY_STEPS, MAX_TERM_STEPS
from lossmith.tasks import SuperResolution
from lossmith.train import NonFiniteError, RunFolder, TrainingModule

from .test_module import SyncCounter

NAN = float("nan")


def is_finite(weights):
    return all(bool(value.isfinite().all()) for value in weights.values())


class Root(Distance):
    """A distance with a non-finite gradient at equal images, infinity times zero, as in LPIPS."""

    def measure(self, pred, target):
        return (pred - target).square().flatten(1).sum(dim=1).sqrt()

    def __repr__(self):
        return "Root()"


class NanAt128Channels(Distance):
    """A distance that is NaN on feature maps of 128 channels."""

    def measure(self, pred, target):
        value = (pred - target).abs().flatten(1).mean(dim=1)
        return value * NAN if pred.shape[1] == 128 else value

    def __repr__(self):
        return "NanAt128Channels()"


def vgg(*layers):
    return VGG("vgg16", layers or ("conv1_1", "conv2_1"), weights="random")


def pair(count=3, side=16):
    torch.manual_seed(0)
    return torch.rand(count, 3, side, side), torch.rand(count, 3, side, side)


def gradient(loss, pred, target, guard=None):
    """Return the gradient of the loss at the prediction; with a guard, without non-finite terms."""
    leaf = pred.clone().requires_grad_()
    values = loss.evaluate({"pred": leaf, "target": target}, guard=guard)
    loss.weighted_sum(guard.zero_nonfinite(values) if guard else values).backward()
    return leaf.grad


@pytest.mark.parametrize("loss", [L1(), L2() + SSIM(), L1() + 0.1 * L1() @ vgg() + SSIM()], ids=repr)
def test_a_guard_does_not_change_finite_gradients(loss):
    torch.testing.assert_close(gradient(loss, *pair(), NonFiniteGuard()), gradient(loss, *pair()), rtol=0, atol=0)


@pytest.mark.parametrize("bad", [L1(), L2(), L1() @ vgg(), L2() @ vgg()], ids=repr)
def test_an_image_with_a_nonfinite_term_is_excluded_from_that_term_only(bad):
    pred, target = pair()
    good = TV()
    expected = gradient(good, pred, target)
    expected[[0, 2]] += gradient(bad, pred[[0, 2]], target[[0, 2]]) * 2 / 3  # of three images
    target[1, 0, 0, 0] = NAN
    torch.testing.assert_close(gradient(bad + good, pred, target, NonFiniteGuard()), expected)


def test_a_nonfinite_gradient_of_a_finite_value_is_stopped():
    pred, target = pair()
    expected = gradient(TV(), pred, target)
    expected[[0, 2]] += gradient(Root(), pred[[0, 2]], target[[0, 2]]) * 2 / 3
    pred[1] = target[1]
    expected[1] = gradient(TV(), pred, target)[1]
    guard = NonFiniteGuard()
    torch.testing.assert_close(gradient(Root() + TV(), pred, target, guard), expected)
    assert [hit.tolist() for hit in guard.nonfinite_samples("Root")] == [[False, True, False]]
    assert not any(bool(hit.any()) for hit in guard.nonfinite_samples("TV"))


def test_with_a_scaler_an_overflow_passes_but_a_nonfinite_value_does_not():
    pred, target = pair()
    pred[1] = target[1]
    target[2, 0, 0, 0] = NAN
    found = gradient(Root(), pred, target, NonFiniteGuard(scaled=True))
    assert [bool(each.isfinite().all()) for each in found] == [True, False, True]


def test_the_message_names_the_layer():
    loss, guard = NanAt128Channels() @ vgg(), NonFiniteGuard()
    gradient(loss, *pair(), guard)
    monitor = NonFiniteMonitor(loss.names)
    monitor.record_micro_step(guard, loss.names, 6)
    monitor.record_step(None)
    messages = monitor.read([torch.cat(monitor.packed()).tolist()], 1).messages
    assert "at step 7 (conv2_1; image 1 of the batch, image 2" in messages[loss.names[0]]


def test_a_finite_term_that_shares_the_network_of_a_nonfinite_term_is_not_counted():
    loss, guard = NanAt128Channels() @ vgg() + TV() @ vgg("conv1_1"), NonFiniteGuard()
    gradient(loss, *pair(), guard)
    monitor = NonFiniteMonitor(loss.names)
    monitor.record_micro_step(guard, loss.names, 0)
    monitor.record_step(None)
    totals = monitor.read([torch.cat(monitor.packed()).tolist()], 1).totals
    assert list(totals.values()) == [1, 0, 0]


def test_nonfinite_gradients_of_the_network_become_zero():
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    for weight, value in zip(weights, (1.0, NAN), strict=True):
        weight.grad = torch.tensor([value, 2.0])
    assert zero_nonfinite_gradients(weights)
    assert all(bool((weight.grad == 0).all()) for weight in weights)


def test_a_discriminator_trains_on_finite_images():
    pred, target = pair()
    good = pred.clone()
    pred[0, 0, 0, 0] = NAN
    out = replace_nonfinite_images({"pred": pred, "target": target})
    torch.testing.assert_close(out["pred"], good[[1, 1, 2]], rtol=0, atol=0)
    torch.testing.assert_close(out["target"], target[[1, 1, 2]], rtol=0, atol=0)


def test_a_nonfinite_image_is_excluded_counted_and_named_and_the_run_continues(run, put_nan, lines, weights, capsys):
    put_nan(lambda index: index == 5)
    folder = run(log_every=2)
    assert is_finite(weights(folder))
    assert [line.get("nonfinite") for line in lines(folder)] == [None, None, {"L1": 1}, None]
    assert all(isinstance(line["terms"]["L1"], float) for line in lines(folder))
    messages = [line for line in capsys.readouterr().out.splitlines() if "excluded" in line]
    assert len(messages) == 1
    assert messages[0].startswith("The term 'L1' was non-finite at step 3 (")
    assert messages[0].count(".png") == 1


def test_the_source_of_a_crop_is_its_file(photos):
    items = SuperResolution(2).training_set(sorted(photos.glob("*.png")), crop=16, seed=0)
    decoded = []

    class RecordingFolder(type(items.images)):
        def _decode(self, index):
            decoded.append(str(self.files[index]))
            return super()._decode(index)

    items.images.__class__ = RecordingFolder
    items.images._damaged[3] = 1
    for index in range(20):
        decoded.clear()
        items[index]
        assert items.source(index) == decoded[-1]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_an_image_on_which_the_network_overflows_leaves_the_weights_finite(run, put_nan, lines, weights, precision):
    put_nan(lambda index: index == 4, name="input")
    folder = run(precision=precision)
    assert is_finite(weights(folder))
    (counts,) = [line["nonfinite"] for line in lines(folder) if "nonfinite" in line]
    assert counts == {"L1": 1, "TV": 1, "network": 1}


def test_a_step_with_only_nonfinite_images_is_logged_as_none(run, put_nan, lines):
    put_nan(lambda index: index in (6, 7))
    found = {line["step"]: line for line in lines(run())}
    assert found[4]["terms"]["L1"] is None
    assert isinstance(found[6]["terms"]["L1"], float)


def test_a_term_that_stays_nonfinite_stops_the_run(run, put_nan):
    put_nan(lambda index: index > 0)  # the first sample is checked before the run
    message = rf"The term 'L1' was non-finite at step 1 \(.*png.*\), and in {MAX_TERM_STEPS} consecutive steps; check"
    with pytest.raises(NonFiniteError, match=message):
        run(steps=30, log_every=MAX_TERM_STEPS)


@pytest.mark.slow
def test_a_streak_between_two_logged_steps_counts(run, put_nan):
    put_nan(lambda index: 4 <= index < 4 + 2 * MAX_TERM_STEPS)
    with pytest.raises(NonFiniteError, match=r"at step 3 .* 10 consecutive steps"):
        run(steps=30, log_every=30, checkpoint_every=30)


@pytest.mark.slow
def test_single_nonfinite_steps_do_not_stop_the_run(run, put_nan, lines):
    put_nan(lambda index: index % 6 == 1)
    folder = run(steps=30, log_every=30, checkpoint_every=30)
    assert lines(folder)[-1]["nonfinite"] == {"L1": 9}  # the first of ten is in the first line


def test_a_run_without_finite_terms_stops_sooner_and_saves_nothing(run, put_nan, tmp_path):
    put_nan(lambda index: index >= 4, name="input")
    with pytest.raises(
        NonFiniteError, match=rf"None of the terms L1, TV .* {MAX_EMPTY_STEPS} consecutive steps from step 3 on"
    ):
        run(steps=20, checkpoint_every=1, log_every=20)
    assert torch.load(RunFolder(tmp_path / "run").checkpoint, weights_only=True)["global_step"] == 2


def test_a_step_of_several_micro_batches_counts_once(run, put_nan, lines):
    put_nan(lambda index: index in (9, 10))  # in both micro-batches of step 3
    folder = run(accumulate=2, log_every=3)
    assert [line.get("nonfinite") for line in lines(folder)] == [None, {"L1": 1}, None]


@pytest.mark.slow
def test_a_stopped_and_resumed_run_equals_the_uninterrupted_run(run, put_nan, lines, weights):
    put_nan(lambda index: index in (3, 8))
    whole = run("whole", log_every=1, schedule="constant")
    run("broken", steps=3, log_every=1, schedule="constant")
    broken = run("broken", log_every=1, schedule="constant")
    torch.testing.assert_close(weights(broken), weights(whole), rtol=0, atol=0)
    assert [line.get("nonfinite") for line in lines(broken)] == [line.get("nonfinite") for line in lines(whole)]


@pytest.mark.filterwarnings("ignore:.*")
def test_a_nonfinite_gradient_of_a_finite_value_is_named_and_the_run_continues():
    torch.manual_seed(0)
    pairs = [{"input": torch.rand(3, 8, 8), "target": torch.rand(3, 16, 16)} for _ in range(8)]
    task = SuperResolution(2)
    module = TrainingModule(task, build_network("edsr", 2, channels=4, blocks=1), Root() + 0.1 * TV(), steps=4)
    with torch.no_grad():
        pairs[3]["target"] = task.compute_inputs(module.model, {n: each[None] for n, each in pairs[3].items()})["pred"][
            0
        ]
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_steps=4, accelerator="cpu", enable_model_summary=False, **options)
    module.lr = 0.0  # so that the prediction of step 2 is what it was
    trainer.fit(module, torch.utils.data.DataLoader(pairs, batch_size=2))
    report = module.monitor.read().nonfinite
    assert report.totals["Root"] == 1
    assert report.messages["Root"] == (
        "The term 'Root' had a finite value, but a non-finite gradient, at step 2 (image 2 of the batch)"
    )


def test_a_nonfinite_term_on_another_device_is_reported():
    found = []
    for bad in (None, 1):
        pred, target = pair()
        if bad is not None:
            target[bad, 0, 0, 0] = NAN
        monitor, guard = NonFiniteMonitor(["L1"]), NonFiniteGuard()
        monitor.image_names = lambda micro_step, device: [f"{micro_step}-{device}-{i}.png" for i in range(3)]
        gradient(L1(), pred, target, guard)
        monitor.record_micro_step(guard, ["L1"], 4)
        monitor.record_step(None)
        found.append(torch.cat(monitor.packed()).tolist())
    report = monitor.read(found, 1)
    assert report.totals == {"L1": 1, "network": 0}
    assert report.messages == {"L1": "The term 'L1' was non-finite at step 5 (4-1-1.png)"}


@pytest.mark.slow
def test_a_finite_step_does_not_synchronize_with_the_device(run, monkeypatch):
    monkeypatch.setattr("lossmith.device.HOST_TYPES", ())  # the CPU stands for a GPU
    counter = SyncCounter()
    for name in ("training_step", "on_before_optimizer_step"):
        original = getattr(TrainingModule, name)

        def counted(self, *args, original=original):
            with counter:
                return original(self, *args)

        monkeypatch.setattr(TrainingModule, name, counted)
    run(loss="L1 + 0.1*TV + 0.1*perceptual(weights='random') + Adversarial('unet', width=4)", crop=32)
    assert counter.count == 0
