"""The console of a training: gradient shares, validations, and what is trained and validated on."""

import json
import re
import time
from io import StringIO

import pytest
from rich.console import Console

from lossmith.train import Settings, train
from lossmith.train.module import TrainingModule
from lossmith.train.validation import ValidationCallback
from lossmith.train.validation_text import describe_validation

from .conftest import TINY


@pytest.fixture
def output(photos, tmp_path):
    """Train with tiny settings and return what was printed."""

    def make(name="run", images=photos, **other) -> str:
        file = StringIO()
        settings = Settings(**{**TINY, "images": str(images), **other})
        train(settings, tmp_path / name, device="cpu", workers=0, console=Console(file=file, width=300))
        return file.getvalue()

    return make


def test_the_console_shows_the_shares_of_the_gradient_that_a_balancer_keeps(output):
    text = output(loss="0.7*L1 + 0.3*TV", balance="share(ema=0.0, every=1)")
    assert "gradient L1 70.0%, TV 30.0%" in text


def test_the_console_shows_no_share_of_a_single_term(output):
    assert "gradient" not in output(loss="L1")


def test_each_validation_has_a_line_with_its_metrics(output):
    found = re.findall(r"^validation at step (\d+).*: psnr_y \d+\.\d\d \(best", output(), flags=re.MULTILINE)
    assert found == ["3", "6"]


def test_a_resumed_run_prints_only_its_own_validations(output):
    output(steps=3)
    assert re.findall(r"validation at step (\d+)", output(steps=6)) == ["6"]


def test_the_best_value_follows_the_direction_of_the_metric():
    values = [(1, 20.0, 0.1), (2, 30.0, 0.3), (3, 25.0, 0.2)]
    rows = [{"step": i, "n": 2, "psnr_y": psnr, "lpips_alex": lpips} for i, psnr, lpips in values]
    line = "validation at step 3 (2 images): psnr_y 25.00 (best 30.00 at step 2), lpips_alex 0.2 (best 0.1 at step 1)"
    assert describe_validation(rows) == line
    assert describe_validation(rows[:1]).count("(best)") == 2
    assert describe_validation([{"step": 1, "psnr_y": float("nan"), "own": 3.0}]) == "validation at step 1: own 3"


def test_the_start_says_what_is_trained_and_validated_on(output, photos, tmp_path_factory):
    assert re.search(rf"11 training images, 0 skipped\nValidation on 1 images? held out of {photos}, every 3", output())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "L1 + 1e-5*TV"}, "warning: TV: It has 0.00"),
        ({"loss": "L1 + 1e-5*TV", "balance": "share"}, None),
        ({"loss": "L1 + 1e-5*TV", "balance": "fixed"}, "warning: TV: It has 0.00"),
        ({"loss": "70%*L1 + 30%*TV"}, None),
        ({"loss": "L1 + lam*TV", "knobs": {"lam": [1e-5, 1.0]}}, "warning: TV at lam=1e-05: It has 0.00"),
        ({"loss": "L1 + lam*TV", "knobs": {"lam": [0.1, 1.0]}}, None),
    ],
)
def test_a_term_with_hardly_any_effect_is_reported_before_the_first_step(output, options, words):
    text = output(**options, steps=1)
    assert (words in text) if words else ("hardly any effect" not in text)


def test_the_speed_does_not_count_the_time_of_validations(output, tmp_path, monkeypatch):
    now = [0.0]

    def take(seconds, function):
        def run(*args, **kwargs):
            now[0] += seconds
            return function(*args, **kwargs)

        return run

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ValidationCallback, "evaluate", take(1000.0, ValidationCallback.evaluate))
    monkeypatch.setattr(TrainingModule, "training_step", take(0.5, TrainingModule.training_step))
    text = output(log_every=1)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["images_per_second"] for line in lines] == [2 * TINY["batch"]] * TINY["steps"]
    assert text.count(f"{2 * TINY['batch']:.1f} images/s") == TINY["steps"] - 1  # the first step has no time left
