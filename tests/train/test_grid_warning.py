"""The grid of upscalers in validations: its period, small images, and the warning."""

import json

import pytest
import torch

from lossmith.data import Example
from lossmith.metrics import compute_metrics, describe_protocol
from lossmith.tasks import SuperResolution
from lossmith.train import RunFolder
from lossmith.train.evaluation import evaluate_images
from lossmith.train.validation import ValidationCallback
from lossmith.train.validation_text import describe_last_validation


def stripes(period, strength=8, side=72):
    image = torch.full((1, 3, side, side), 0.5)
    image[..., ::period] += strength / 255
    return image


def validation(folder, target):
    folder.mkdir()
    example = Example("a", {"input": torch.rand(1, 3, 18, 18), "target": target})
    return ValidationCallback(RunFolder(folder), SuperResolution(4), [example], every=1, metrics=["grid_p90"])


@pytest.mark.parametrize(("period", "scale", "is_seen"), [(3, 3, True), (3, 4, False), (4, 4, True), (2, 2, True)])
def test_the_grid_of_a_scale_has_its_period(period, scale, is_seen):
    image = stripes(period)
    found = compute_metrics(image, torch.full_like(image, 0.5), border=0, metrics=["grid"], scale=scale)["grid"]
    assert (found > 1) == is_seen


def test_the_protocol_names_the_period_of_the_grid():
    assert "repeats every 3 px" in describe_protocol(3, ["grid"], scale=3)["grid"]
    assert "repeats every 4 px" in describe_protocol(1, ["grid"], scale=1)["grid"]


def test_an_image_too_small_for_an_optional_metric_keeps_the_others():
    small, large = ({"target": torch.rand(1, 3, side, side)} for side in (24, 48))
    examples = [Example("small", small), Example("large", large)]
    rows = list(
        evaluate_images(examples, lambda batch: batch["target"], border=0, which=["ssim_y", "grid"], optional=["grid"])
    )
    assert [set(row.metrics) for row in rows] == [{"ssim_y"}, {"ssim_y", "grid"}]


@pytest.mark.parametrize(
    ("rows", "found", "is_last", "warns"),
    [
        ([], 2.0, False, False),  # untrained networks have a grid
        ([2.0], 2.0, False, True),
        ([], 2.0, True, True),
        ([0.1], 2.0, False, False),
        ([2.0], 0.6, True, False),
    ],
)
def test_a_repeated_or_a_last_grid_warns(tmp_path, rows, found, is_last, warns):
    callback = validation(tmp_path / "run", torch.full((1, 3, 72, 72), 0.5))
    for step, value in enumerate(rows, start=1):
        callback.folder.append("validation.jsonl", {"step": step, "grid_p90": value})
    warning = callback.grid_warning({"grid_p90": found}, torch.device("cpu"), is_last=is_last, has_features=True)
    assert bool(warning) == warns
    if warns:
        assert "a grid of 4 px: grid_p90 is 2.00 grey levels, in the targets 0.00" in warning["warning"]


def test_the_warning_is_given_once_in_a_run_and_printed(tmp_path):
    callback = validation(tmp_path / "run", torch.full((1, 3, 72, 72), 0.5))
    callback.folder.append("validation.jsonl", {"step": 1, "grid_p90": 2.0, "warning": "a grid"})
    assert callback.grid_warning({"grid_p90": 2.0}, torch.device("cpu"), is_last=True, has_features=True) == {}
    assert describe_last_validation(callback.folder.path / "validation.jsonl", 1).endswith("\na grid")


@pytest.mark.parametrize(("has_features", "cure"), [(True, "Lower the weight of terms"), (False, "Train for more")])
def test_the_cure_depends_on_the_formula(tmp_path, has_features, cure):
    callback = validation(tmp_path / "run", torch.full((1, 3, 72, 72), 0.5))
    warning = callback.grid_warning({"grid_p90": 2.0}, torch.device("cpu"), is_last=True, has_features=has_features)
    assert cure in warning["warning"]


def test_a_grid_of_the_targets_does_not_warn(tmp_path):
    callback = validation(tmp_path / "run", stripes(4))
    own = compute_metrics(stripes(4), stripes(4), border=4, metrics=["grid_p90"])["grid_p90"]
    assert own > 1
    assert callback.grid_warning({"grid_p90": 1.5 * own}, torch.device("cpu"), is_last=True, has_features=True) == {}
    assert callback.grid_warning({"grid_p90": 2.5 * own}, torch.device("cpu"), is_last=True, has_features=True)


def test_a_validation_of_an_upscaler_measures_grid_and_colour(run, lines, photos):
    row = lines(run(), "validation.jsonl")[0]
    assert {"grid", "grid_p90", "colour"} <= row.keys()
    assert {"grid", "grid_p90", "colour"} <= json.loads((run().path / "bicubic.json").read_text()).keys()
