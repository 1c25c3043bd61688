import math

import pytest
import torch

from lossmith.models import load_restorer
from lossmith.train import NonFiniteError, RunFolder


def test_a_run_writes_the_files_of_the_report(run):
    folder = run()
    there = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file()}
    assert there >= {"config.json", "loss.json", "plan.json", "skipped.json", "log.jsonl", "validation.jsonl"}
    assert there >= {"bicubic.json", "model.safetensors", "checkpoints/last.ckpt"}
    assert {path.name for path in (folder.path / "sheets").glob("*/*")} == {
        "input.png",
        "bicubic.png",
        "truth.png",
        "step_00000003.png",
        "step_00000006.png",
    }
    assert any(path.startswith("tensorboard/events") for path in there)
    assert not [path for path in there if path.endswith(".partial")]


def test_a_log_line_has_every_unweighted_term_with_its_weight(run, lines):
    first, *_, last = lines(run(loss="L1 + 0.1*TV"))
    assert [first["step"], last["step"]] == [1, 6]
    assert set(last["terms"]) == {"L1", "TV"}
    assert last["weights"] == {"L1": 1.0, "TV": 0.1}
    assert math.isclose(last["loss"], last["terms"]["L1"] + 0.1 * last["terms"]["TV"], rel_tol=1e-6)
    assert last["seconds"] >= first["seconds"]


def test_the_logged_weight_of_a_schedule_is_that_of_the_step(run, lines):
    found = lines(run(loss="L1 + Ramp(0.0, 1.0, steps=4)*TV", log_every=1))
    assert [line["weights"]["TV"] for line in found] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_a_validation_has_the_metrics_and_the_number_of_images(run, lines):
    found = lines(run(), "validation.jsonl")
    assert [line["step"] for line in found] == [3, 6]
    assert found[0]["n"] == 1
    assert set(found[0]) >= {"psnr_y", "psnr_rgb", "ssim_y"}


def test_the_header_of_the_weights_describes_the_training(run):
    folder = run(loss="L1")
    model, header = load_restorer(folder.model)
    assert model.scale == 2
    assert {name: header[name] for name in ("task", "step", "loss")} == {
        "task": "super-resolution",
        "step": 6,
        "loss": "L1()",
    }


def test_the_checkpoint_holds_only_tensors_and_plain_values(run):
    state = torch.load(run().checkpoint, weights_only=True)
    assert state["global_step"] == 6


def test_a_completed_run_stays_unchanged(run, lines, weights):
    before = weights(run())
    again = run()
    assert len(lines(again)) == 4
    torch.testing.assert_close(weights(again), before, rtol=0, atol=0)


@pytest.mark.slow
def test_a_run_continues_with_more_steps(run, lines):
    run(steps=4)
    folder = run(steps=8)
    assert [line["step"] for line in lines(folder)] == [1, 2, 4, 6, 8]


@pytest.mark.slow
def test_a_run_extended_at_a_constant_learning_rate_equals_the_uninterrupted_run(run, weights):
    run("broken", steps=3, schedule="constant")
    broken = run("broken", steps=6, schedule="constant")
    torch.testing.assert_close(weights(broken), weights(run("whole", schedule="constant")), rtol=0, atol=0)


@pytest.mark.slow
def test_data_loading_processes_do_not_change_the_result(run, weights):
    torch.testing.assert_close(weights(run("two", workers=2)), weights(run("none")), rtol=0, atol=0)


@pytest.mark.slow
def test_gradient_accumulation_equals_one_large_batch(run, weights):
    whole = weights(run("whole", batch=4))
    parts = weights(run("parts", batch=2, accumulate=2))
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_without_averaging_the_saved_weights_are_the_last(run, weights):
    folder = run(ema=0.0)
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    for name, value in weights(folder).items():
        torch.testing.assert_close(value, state[f"model.{name}"], rtol=0, atol=0)


def test_the_saved_weights_are_averaged(run, weights):
    folder = run(ema=0.999)
    state = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    assert not torch.equal(weights(folder)["head.weight"], state["model.head.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_the_training_lowers_the_loss(run, precision, lines):
    folder = run(steps=60, precision=precision, val_every=60, loss="L1", lr=5e-3, batch=4, ema=0.9, log_every=60)
    assert lines(folder)[-1]["terms"]["L1"] < 0.8 * lines(folder)[0]["terms"]["L1"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_the_gradient_norm_is_clipped(run, precision, weights):
    def largest_update(name, clip):
        first, last = (weights(run(name, steps=n, precision=precision, clip=clip, ema=0.0)) for n in (1, 4))
        return max((last[key] - value).abs().max().item() for key, value in first.items())

    assert largest_update("clipped", 1e-14) < 1e-3 * largest_update("free", 0.0)  # far below Adam's epsilon


@pytest.mark.slow
def test_fine_tuning_starts_from_a_file_and_resumes_without_the_file(run, tmp_path, lines, weights):
    first = run("first")
    file = tmp_path / "start.safetensors"
    file.write_bytes(first.model.read_bytes())
    second = run("second", steps=1, lr=1e-12, ema=0.0, model={"name": str(file)})
    torch.testing.assert_close(weights(second), weights(first), rtol=1e-4, atol=1e-6)
    file.unlink()
    assert lines(run("second", steps=2, lr=1e-12, ema=0.0, model={"name": str(file)}))[-1]["step"] == 2


def test_a_run_that_diverges_before_its_first_checkpoint_says_so(run, tmp_path):
    with pytest.raises(NonFiniteError, match=r"lower the learning rate .* No checkpoint was saved before\."):
        run(loss="L2", lr=1e30, schedule="constant", steps=50, checkpoint_every=50, log_every=50, clip=0.0)
    assert not RunFolder(tmp_path / "run").checkpoint.is_file()


def test_a_nonfinite_term_is_named_and_does_not_overwrite_the_checkpoint(run, tmp_path):
    message = r"The term 'L2' was not finite for any image in 3 consecutive steps.* The last checkpoint is of step 1\."
    with pytest.raises(NonFiniteError, match=message):
        run(loss="0*TV + L2", lr=1e30, schedule="constant", steps=50, checkpoint_every=1, log_every=50, clip=0.0)
    state = torch.load(RunFolder(tmp_path / "run").checkpoint, weights_only=True)
    assert state["global_step"] == 1  # the last step with finite terms
    assert all(bool(value.isfinite().all()) for value in state["state_dict"].values())
