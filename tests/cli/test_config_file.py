import json

import pytest

from lossmith.cli import main
from lossmith.cli.config_file import options_of, read_record
from lossmith.train import Settings

RUN = """
task = "super-resolution"
scale = 2
loss = "L1"
steps = 2
batch = 2
crop = 16
log-every = 2
workers = 0
device = "cpu"
milestones = [1]
schedule = "multistep"
optimizer = "adam"

[model]
name = "edsr"
channels = 4
blocks = 1

[optimizer_options]
betas = [0.9, 0.99]
"""


@pytest.mark.slow
def test_a_run_starts_from_a_file_and_from_the_config_of_a_run(photos, tmp_path):
    (tmp_path / "run.toml").write_text(f'images = "{photos}"\n{RUN}')
    first, second = tmp_path / "a", tmp_path / "b"
    assert main(["train", "super-resolution", "--config", str(tmp_path / "run.toml"), "--out", str(first)]) == 0
    settings = Settings.read(first / "config.json")
    assert (settings.scale, settings.steps, settings.milestones) == (2, 2, "1")
    assert (settings.optimizer, settings.optimizer_options) == ("adam", {"betas": [0.9, 0.99]})
    assert settings.model == {"name": "edsr", "channels": 4, "blocks": 1}
    assert main(["train", "super-resolution", "--config", str(first), "--steps", "1", "--out", str(second)]) == 0
    assert settings.differences(Settings.read(second / "config.json")) == {"steps": (2, 1)}


def test_ranges_knobs_and_arguments_are_written_as_on_the_command_line():
    record = {"knobs": {"lam": [0.03, 30.0]}, "sigma": [5, 50], "milestones": [3, 5], "model-options": {"blocks": 2}}
    assert options_of(record, {"knob", "sigma", "milestones", "model_option"}, task="denoising", source="f") == {
        "knob": ["lam=0.03:30"],
        "sigma": "5:50",
        "milestones": "3,5",
        "model_option": ["blocks=2"],
    }


def test_settings_of_a_run_that_are_no_options_are_left_out():
    record = {"lossmith": "0.1", "plugins": {"my.py": "ab"}, "scale": 1, "val": None, "steps": 3}
    assert options_of(record, {"steps"}, task="denoising", source="f") == {"steps": 3}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.toml", "stepss = 3", "has the key 'stepss', which is no option. Did you mean 'steps'?"),
        ("run.toml", 'task = "jpeg"', "is for the task jpeg; use lossmith train jpeg."),
        ("run.toml", "x = [", "cannot be read: "),
        ("run.json", "[1]", "must be a table of options; got a list."),
        ("run.toml", "steps = 'many'", "Invalid value for '--steps'"),
        (
            "run.json",
            json.dumps({"lossmith": "0.1", "options": {"odd": True}}),
            "has the key 'odd', which is no option",
        ),
    ],
)
def test_a_wrong_file_ends_in_one_line(name, text, message, tmp_path, run_cli):
    (tmp_path / name).write_text(text)
    required = ["--loss", "L1", "--images", tmp_path, "--out", tmp_path / "run"]
    status, _, error = run_cli(
        "train", "denoising", "--config", tmp_path / name, *([] if "many" in text else ["--steps", 1]), *required
    )
    assert status == 2
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"The --config '.*nope\.toml' cannot be read: No such file or directory\."):
        read_record(tmp_path / "nope.toml")
