import json
import sys

import pytest

from lossmith._files import write_atomically
from lossmith.train import RunFolder, Settings


def make_settings(**other):
    return Settings(**{"images": "photos", "loss": "L1", "steps": 100, **other})


def file_names(folder):
    return sorted(path.name for path in folder.iterdir())


def started_run(path, **other):
    folder = RunFolder(path)
    folder.claim(make_settings(**other), "0")
    folder.checkpoint.parent.mkdir()
    folder.checkpoint.write_bytes(b"state")
    return folder


def test_settings_read_back_as_they_were_written(tmp_path):
    settings = make_settings(model={"name": "rlfn", "channels": 8}, val="Set5", clip=0.5)
    settings.write(tmp_path / "config.json", "1.2.3")
    assert Settings.read(tmp_path / "config.json") == settings
    assert json.loads((tmp_path / "config.json").read_text())["lossmith"] == "1.2.3"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("steps", 0, "steps must be an integer at least 1; got 0"),
        ("batch", 2.5, "batch must be an integer"),
        ("crop", 50, "crop must be a multiple of the scale, 4; got 50. Use 48"),
        ("lr", -1, "lr must be at least 0; got -1"),
        ("lr", float("nan"), "lr must be a finite number"),
        ("ema", 1, "ema must be less than 1; got 1"),
        ("precision", "bf16", "precision must be one of '32', 'bf16-mixed', '16-mixed'; got 'bf16'"),
        ("schedule", "step", "schedule must be one of 'cosine', 'constant'"),
    ],
)
def test_a_setting_out_of_range_raises_by_name(name, value, words):
    with pytest.raises(ValueError, match=words):
        make_settings(**{name: value})


def test_a_new_folder_is_created_without_a_checkpoint(tmp_path):
    assert RunFolder(tmp_path / "a" / "b").claim(make_settings(), "0") is False
    assert (tmp_path / "a" / "b" / "config.json").is_file()


def test_a_run_with_the_same_settings_resumes(tmp_path):
    assert started_run(tmp_path / "run").claim(make_settings(), "0") is True


def test_other_settings_raise_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"was started with lr 0\.0005, but 0\.1 is given now"):
        started_run(tmp_path / "run").claim(make_settings(lr=0.1), "0")


def test_steps_may_grow_but_not_shrink(tmp_path):
    folder = started_run(tmp_path / "run")
    assert folder.claim(make_settings(steps=200), "0") is True
    with pytest.raises(ValueError, match=r"steps 200, but 100 is given now: steps can only grow"):
        folder.claim(make_settings(steps=100), "0")


def test_the_checkpoint_interval_may_change(tmp_path):
    assert started_run(tmp_path / "run").claim(make_settings(checkpoint_every=7), "0") is True


def test_a_run_that_logged_no_steps_restarts_with_other_settings(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(make_settings(), "0")
    assert folder.claim(make_settings(lr=0.1), "0") is False


@pytest.mark.parametrize("other", [{}, {"lr": 0.1}, {"steps": 200}])
def test_weights_without_a_checkpoint_are_never_overwritten(tmp_path, other):
    folder = started_run(tmp_path / "run")
    folder.append("log.jsonl", {"step": 10})
    folder.model.write_bytes(b"weights")
    folder.checkpoint.unlink()
    with pytest.raises(ValueError, match=r"holds the weights of a run, .*last\.ckpt' is missing\. Use another --out"):
        folder.claim(make_settings(**other), "0")
    assert folder.model.read_bytes() == b"weights"
    assert (folder.path / "log.jsonl").read_text() == '{"step": 10}\n'
    assert Settings.read(folder.path / "config.json") == make_settings()


def test_a_run_that_was_killed_within_its_first_checkpoint_starts_again(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(make_settings(), "0")
    folder.append("log.jsonl", {"step": 10})
    folder.mark_first_checkpoint()
    folder.model.write_bytes(b"weights")
    with pytest.warns(UserWarning, match="starts again from step 0"):
        assert folder.claim(make_settings(), "0") is False


@pytest.mark.parametrize("log", ["log.jsonl", "validation.jsonl"])
def test_logged_steps_without_a_checkpoint_are_discarded_only_by_the_same_settings(tmp_path, log):
    folder = RunFolder(tmp_path / "run")
    folder.claim(make_settings(), "0")
    folder.append(log, {"step": 10})
    with pytest.raises(ValueError, match=r"was started with lr 0\.0005, but 0\.1 is given now"):
        folder.claim(make_settings(lr=0.1), "0")
    assert (folder.path / log).read_text() == '{"step": 10}\n'
    with pytest.warns(UserWarning, match=r"cannot resume because .* the run starts again from step 0"):
        assert folder.claim(make_settings(), "0") is False
    assert not (folder.path / log).exists()


def test_a_file_as_folder_raises(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        RunFolder(tmp_path / "run").claim(make_settings(), "0")
    assert (tmp_path / "run").read_text() == "mine"


def test_a_folder_with_other_files_raises_and_stays_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        RunFolder(tmp_path).claim(make_settings(), "0")
    assert file_names(tmp_path) == ["thesis.tex"]


def test_rewind_deletes_later_and_incomplete_log_lines(tmp_path):
    folder = started_run(tmp_path / "run")
    for step in (10, 20, 30):
        folder.append("log.jsonl", {"step": step})
    with (folder.path / "log.jsonl").open("a") as file:
        file.write('{"step": 4')
    folder.rewind(20)
    assert [json.loads(line)["step"] for line in (folder.path / "log.jsonl").read_text().splitlines()] == [10, 20]


def test_rewind_deletes_later_sheets(tmp_path):
    folder = started_run(tmp_path / "run")
    sheet = folder.path / "sheets" / "baby"
    sheet.mkdir(parents=True)
    for name in ("step_00000010.png", "step_00000030.png", "truth.png"):
        (sheet / name).touch()
    folder.rewind(20)
    assert file_names(sheet) == ["step_00000010.png", "truth.png"]


def test_a_log_line_with_a_nonfinite_number_raises(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        started_run(tmp_path / "run").append("log.jsonl", {"step": 1, "loss": float("nan")})


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    (tmp_path / "model").write_text("good")

    def fail_halfway(partial):
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"model' cannot be written: No space left on device\. Earlier files are intact"):
        write_atomically(tmp_path / "model", fail_halfway)
    assert file_names(tmp_path) == ["model"]
    assert (tmp_path / "model").read_text() == "good"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_raises_one_line(tmp_path):
    folder = started_run(tmp_path / "run")
    (folder.path / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        folder.append("log.jsonl", {"step": 1})
