import json
import sys

import pytest

from lossmith.train import RunFolder, Settings
from lossmith._files import write_atomically


def asked(**other):
    return Settings(**{"images": "photos", "loss": "L1", "steps": 100, **other})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def begun(path, **other):
    folder = RunFolder(path)
    folder.claim(asked(**other), "0")
    folder.checkpoint.parent.mkdir()
    folder.checkpoint.write_bytes(b"state")
    return folder


def test_settings_read_back_as_they_were_written(tmp_path):
    settings = asked(model={"name": "rlfn", "channels": 8}, val="Set5", clip=0.5)
    settings.write(tmp_path / "config.json", "1.2.3")
    assert Settings.read(tmp_path / "config.json") == settings
    assert json.loads((tmp_path / "config.json").read_text())["lossmith"] == "1.2.3"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("steps", 0, "steps wants a whole number of at least 1; got 0"),
        ("batch", 2.5, "batch wants a whole number"),
        ("crop", 50, "crop wants a multiple of the scale, 4; got 50. Take 48"),
        ("lr", -1, "lr wants a number"),
        ("lr", float("nan"), "lr wants a number"),
        ("ema", 1, "ema wants a number from 0 to below 1"),
        ("precision", "bf16", "precision is one of 32, bf16-mixed, 16-mixed; got 'bf16'"),
        ("schedule", "step", "schedule is one of cosine, constant"),
    ],
)
def test_a_setting_out_of_its_range_is_named(name, value, words):
    with pytest.raises(ValueError, match=words):
        asked(**{name: value})


def test_a_new_folder_is_made_and_has_nothing_to_go_on_from(tmp_path):
    assert RunFolder(tmp_path / "a" / "b").claim(asked(), "0") is False
    assert (tmp_path / "a" / "b" / "config.json").is_file()


def test_the_same_settings_go_on(tmp_path):
    assert begun(tmp_path / "run").claim(asked(), "0") is True


def test_other_settings_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"was begun with lr 0\.0005, and is now asked for 0\.1"):
        begun(tmp_path / "run").claim(asked(lr=0.1), "0")


def test_steps_may_grow_but_not_shrink(tmp_path):
    folder = begun(tmp_path / "run")
    assert folder.claim(asked(steps=200), "0") is True
    with pytest.raises(ValueError, match=r"steps 200, and is now asked for 100: it can grow, not shrink"):
        folder.claim(asked(steps=100), "0")


def test_how_often_something_is_written_may_change(tmp_path):
    assert begun(tmp_path / "run").claim(asked(checkpoint_every=7), "0") is True


def test_without_a_checkpoint_there_is_nothing_to_protect(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(asked(), "0")
    assert folder.claim(asked(lr=0.1), "0") is False


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        RunFolder(tmp_path / "run").claim(asked(), "0")
    assert (tmp_path / "run").read_text() == "mine"


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        RunFolder(tmp_path).claim(asked(), "0")
    assert names(tmp_path) == ["thesis.tex"]


def test_lines_after_the_checkpoint_and_half_lines_are_taken_away(tmp_path):
    folder = begun(tmp_path / "run")
    for step in (10, 20, 30):
        folder.append("log.jsonl", {"step": step})
    with (folder.path / "log.jsonl").open("a") as file:
        file.write('{"step": 4')
    folder.rewind(20)
    assert [json.loads(line)["step"] for line in (folder.path / "log.jsonl").read_text().splitlines()] == [10, 20]


def test_pictures_after_the_checkpoint_are_taken_away(tmp_path):
    folder = begun(tmp_path / "run")
    sheet = folder.path / "sheets" / "baby"
    sheet.mkdir(parents=True)
    for name in ("step_00000010.png", "step_00000030.png", "truth.png"):
        (sheet / name).touch()
    folder.rewind(20)
    assert names(sheet) == ["step_00000010.png", "truth.png"]


def test_a_line_that_is_not_finite_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        begun(tmp_path / "run").append("log.jsonl", {"step": 1, "loss": float("nan")})


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path):
    (tmp_path / "model").write_text("good")

    def half(partial):
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"model' cannot be written: No space left on device\. Earlier files are intact"):
        write_atomically(tmp_path / "model", half)
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model").read_text() == "good"


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_is_said_in_one_line(tmp_path):
    folder = begun(tmp_path / "run")
    (folder.path / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        folder.append("log.jsonl", {"step": 1})
