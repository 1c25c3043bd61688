import lightning
import pytest
import torch

from lossmith import L1, L2, SSIM, TV, VGG, Distance
from lossmith.data import SuperResolutionCrops
from lossmith.engine.nonfinite import NonFiniteGuard
from lossmith.models import build_network
from lossmith.tasks import SuperResolution
from lossmith.train import NonFiniteError, RunFolder, TrainingModule
from lossmith.train.nonfinite import (
    COLLAPSE,
    PATIENCE,
    NonFiniteMonitor,
    zero_nonfinite_gradients,
    replace_nonfinite_images,
)

from .test_module import Questions

NAN = float("nan")


def poison(crop, view="target"):
    """The same crop with a pixel that is no number."""
    bad = crop[view].clone()
    bad[0, 0, 0] = NAN
    return {**crop, view: bad}


@pytest.fixture
def poisoned(monkeypatch):
    """Spoils some items of every run from here on."""

    def arrange(which, view="target"):
        get = SuperResolutionCrops.__getitem__
        monkeypatch.setattr(SuperResolutionCrops, "__getitem__", lambda s, i: poison(get(s, i), view) if which(i) else get(s, i))

    return arrange


def finite(weights):
    return all(bool(value.isfinite().all()) for value in weights.values())


class Root(Distance):
    """As LPIPS and others have it: its gradient at equal pictures is infinity times zero."""

    def measure(self, pred, target):
        return (pred - target).square().flatten(1).sum(dim=1).sqrt()

    def __repr__(self):
        return "Root()"


class Fussy(Distance):
    """It likes no maps of 128 channels."""

    def measure(self, pred, target):
        value = (pred - target).abs().flatten(1).mean(dim=1)
        return value * NAN if pred.shape[1] == 128 else value

    def __repr__(self):
        return "Fussy()"


def deep(*layers):
    return VGG("vgg16", layers or ("conv1_1", "conv2_1"), weights="random")


def pair(count=3, side=16):
    torch.manual_seed(0)
    return torch.rand(count, 3, side, side), torch.rand(count, 3, side, side)


def gradient(loss, pred, target, guard=None):
    """At the prediction, of the whole loss; with a guard, of what it leaves."""
    leaf = pred.clone().requires_grad_()
    values = loss.evaluate({"pred": leaf, "target": target}, guard=guard)
    loss.weighted_sum(guard.zero_nonfinite(values) if guard else values).backward()
    return leaf.grad


@pytest.mark.parametrize("loss", [L1(), L2() + SSIM(), L1() + 0.1 * L1() @ deep() + SSIM()], ids=repr)
def test_a_guard_changes_no_bit_of_what_is_finite(loss):
    torch.testing.assert_close(gradient(loss, *pair(), NonFiniteGuard()), gradient(loss, *pair()), rtol=0, atol=0)


@pytest.mark.parametrize("bad", [L1(), L2(), L1() @ deep(), L2() @ deep()], ids=repr)
def test_a_picture_that_is_bad_for_a_term_is_absent_from_that_term_alone(bad):
    pred, target = pair()
    good = TV()
    expected = gradient(good, pred, target)
    expected[[0, 2]] += gradient(bad, pred[[0, 2]], target[[0, 2]]) * 2 / 3  # of three pictures
    target[1, 0, 0, 0] = NAN
    torch.testing.assert_close(gradient(bad + good, pred, target, NonFiniteGuard()), expected)


def test_a_bad_gradient_of_a_finite_value_is_stopped():
    pred, target = pair()
    expected = gradient(TV(), pred, target)
    expected[[0, 2]] += gradient(Root(), pred[[0, 2]], target[[0, 2]]) * 2 / 3
    pred[1] = target[1]
    expected[1] = gradient(TV(), pred, target)[1]
    guard = NonFiniteGuard()
    torch.testing.assert_close(gradient(Root() + TV(), pred, target, guard), expected)
    assert [hit.tolist() for hit in guard.nonfinite_samples("Root")] == [[False, True, False]]
    assert not any(bool(hit.any()) for hit in guard.nonfinite_samples("TV"))


def test_under_a_scaler_an_overflow_passes_and_what_comes_of_values_does_not():
    pred, target = pair()
    pred[1] = target[1]
    target[2, 0, 0, 0] = NAN
    found = gradient(Root(), pred, target, NonFiniteGuard(scaled=True))
    assert [bool(each.isfinite().all()) for each in found] == [True, False, True]


def test_the_layer_is_named():
    loss, guard = Fussy() @ deep(), NonFiniteGuard()
    gradient(loss, *pair(), guard)
    quarantine = NonFiniteMonitor(loss.names)
    quarantine.passed(guard, loss.names, 6)
    quarantine.stepped(None, 6)
    news = quarantine.read([torch.cat(quarantine.packed()).tolist()], 1).news
    assert "at step 7 (conv2_1; picture 1 of the batch, picture 2" in news[loss.names[0]]


def test_a_term_that_shares_the_network_of_a_bad_one_is_not_blamed():
    loss, guard = Fussy() @ deep() + TV() @ deep("conv1_1"), NonFiniteGuard()
    gradient(loss, *pair(), guard)
    quarantine = NonFiniteMonitor(loss.names)
    quarantine.passed(guard, loss.names, 0)
    quarantine.stepped(None, 0)
    totals = quarantine.read([torch.cat(quarantine.packed()).tolist()], 1).totals
    assert list(totals.values()) == [1, 0, 0]


def test_gradients_that_the_network_spoils_are_set_to_zero():
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    for weight, value in zip(weights, (1.0, NAN), strict=True):
        weight.grad = torch.tensor([value, 2.0])
    assert zero_nonfinite_gradients(weights)
    assert all(bool((weight.grad == 0).all()) for weight in weights)


def test_a_critic_learns_from_sound_pictures():
    pred, target = pair()
    good = pred.clone()
    pred[0, 0, 0, 0] = NAN
    out = replace_nonfinite_images({"pred": pred, "target": target})
    torch.testing.assert_close(out["pred"], good[[1, 1, 2]], rtol=0, atol=0)
    torch.testing.assert_close(out["target"], target[[1, 1, 2]], rtol=0, atol=0)


def test_a_bad_picture_is_left_out_counted_and_named_and_the_run_goes_on(run, poisoned, lines, weights, capsys):
    poisoned(lambda index: index == 5)
    folder = run(log_every=2)
    assert finite(weights(folder))
    assert [line.get("spared") for line in lines(folder)] == [None, None, {"L1": 1}, None]
    assert all(isinstance(line["terms"]["L1"], float) for line in lines(folder))
    said = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert len(said) == 1
    assert said[0].startswith("The term 'L1' was not a finite number at step 3 (")
    assert said[0].count(".png") == 1


def test_the_file_of_a_crop_is_the_one_it_is_cut_from(photos):
    items = SuperResolution(2).training_set(sorted(photos.glob("*.png")), crop=16, seed=0)
    asked = []

    class Asked(type(items.pictures)):
        def _decoded(self, place):
            asked.append(str(self.files[place]))
            return super()._decoded(place)

    items.pictures.__class__ = Asked
    items.pictures._broken[3] = 1
    for index in range(20):
        asked.clear()
        items[index]
        assert items.source(index) == asked[-1]


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_a_picture_that_the_network_itself_cannot_bear_leaves_the_weights_finite(
    run, poisoned, lines, weights, precision
):
    poisoned(lambda index: index == 4, view="input")
    folder = run(precision=precision)
    assert finite(weights(folder))
    (spared,) = [line["spared"] for line in lines(folder) if "spared" in line]
    assert spared == {"L1": 1, "TV": 1, "network": 1}


def test_a_step_of_bad_pictures_alone_leaves_a_gap_in_the_record(run, poisoned, lines):
    poisoned(lambda index: index in (6, 7))
    found = {line["step"]: line for line in lines(run())}
    assert found[4]["terms"]["L1"] is None
    assert isinstance(found[6]["terms"]["L1"], float)


def test_a_term_that_stays_bad_stops_the_run_with_the_words(run, poisoned):
    poisoned(lambda index: index > 0)  # the first is looked at before the run
    words = (
        rf"The term 'L1' was not a finite number at step 1 \(.*png.*\); so it went in {PATIENCE} steps in a row; the"
    )
    with pytest.raises(NonFiniteError, match=words):
        run(steps=30, log_every=PATIENCE)


def test_a_row_of_bad_steps_between_two_looks_counts(run, poisoned):
    poisoned(lambda index: 4 <= index < 4 + 2 * PATIENCE)
    with pytest.raises(NonFiniteError, match=r"at step 3 .* 10 steps in a row"):
        run(steps=30, log_every=30, checkpoint_every=30)


def test_now_and_then_is_no_reason_to_stop(run, poisoned, lines):
    poisoned(lambda index: index % 6 == 1)
    folder = run(steps=30, log_every=30, checkpoint_every=30)
    assert lines(folder)[-1]["spared"] == {"L1": 9}  # the first of the ten is in the first line


def test_when_nothing_is_finite_any_more_it_stops_sooner_and_saves_nothing(run, poisoned, tmp_path):
    poisoned(lambda index: index >= 4, view="input")
    with pytest.raises(NonFiniteError, match=rf"None of the terms L1, TV .* {COLLAPSE} steps in a row, from step 3 on"):
        run(steps=20, checkpoint_every=1, log_every=20)
    assert torch.load(RunFolder(tmp_path / "run").checkpoint, weights_only=True)["global_step"] == 2


def test_a_step_of_several_passes_counts_once(run, poisoned, lines):
    poisoned(lambda index: index in (9, 10))  # in both passes of step 3
    folder = run(accumulate=2, log_every=3)
    assert [line.get("spared") for line in lines(folder)] == [None, {"L1": 1}, None]


def test_stopped_and_gone_on_it_is_the_unbroken_run(run, poisoned, lines, weights):
    poisoned(lambda index: index in (3, 8))
    whole = run("whole", log_every=1, schedule="constant")
    run("broken", steps=3, log_every=1, schedule="constant")
    broken = run("broken", log_every=1, schedule="constant")
    torch.testing.assert_close(weights(broken), weights(whole), rtol=0, atol=0)
    assert [line.get("spared") for line in lines(broken)] == [line.get("spared") for line in lines(whole)]


@pytest.mark.filterwarnings("ignore:.*")
def test_a_bad_gradient_of_a_finite_value_is_named_and_the_run_goes_on():
    torch.manual_seed(0)
    pairs = [{"input": torch.rand(3, 8, 8), "target": torch.rand(3, 16, 16)} for _ in range(8)]
    task = SuperResolution(2)
    module = TrainingModule(task, build_network("edsr", 2, channels=4, blocks=1), Root() + 0.1 * TV(), steps=4)
    with torch.no_grad():
        pairs[3]["target"] = task.compute_inputs(module.model, {n: each[None] for n, each in pairs[3].items()})["pred"][0]
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_steps=4, accelerator="cpu", enable_model_summary=False, **options)
    module.lr = 0.0  # so that the prediction of step 2 is what it was
    trainer.fit(module, torch.utils.data.DataLoader(pairs, batch_size=2))
    module.terms()
    assert module.reading.totals["Root"] == 1
    assert module.reading.news["Root"] == (
        "The term 'Root' had a finite value, but no finite gradient, at step 2 (picture 2 of the batch)"
    )


def test_what_is_bad_on_another_device_is_told_too():
    found = []
    for bad in (None, 1):
        pred, target = pair()
        if bad is not None:
            target[bad, 0, 0, 0] = NAN
        quarantine, guard = NonFiniteMonitor(["L1"]), NonFiniteGuard()
        quarantine.sources = lambda number, device: [f"{number}-{device}-{i}.png" for i in range(3)]
        gradient(L1(), pred, target, guard)
        quarantine.passed(guard, ["L1"], 4)
        quarantine.stepped(None, 4)
        found.append(torch.cat(quarantine.packed()).tolist())
    reading = quarantine.read(found, 1)
    assert reading.totals == {"L1": 1, "network": 0}
    assert reading.news == {"L1": "The term 'L1' was not a finite number at step 5 (4-1-1.png)"}


def test_a_step_that_goes_well_asks_the_device_for_no_value(run, monkeypatch):
    questions = Questions()
    for name in ("training_step", "on_after_backward", "on_before_optimizer_step"):
        plain = getattr(TrainingModule, name)

        def watched(self, *args, plain=plain):
            with questions:
                return plain(self, *args)

        monkeypatch.setattr(TrainingModule, name, watched)
    run(loss="L1 + 0.1*TV + 0.1*perceptual(weights='random') + Adversarial('unet', width=4)", crop=32)
    assert questions.count == 0
