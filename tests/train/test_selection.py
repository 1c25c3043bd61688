"""The best checkpoint of a run: the rule, the file, and the commands that use it."""

import pytest
import torch
from safetensors.torch import load_file

from lossmith.inference.networks import select_weights
from lossmith.models.files import read_header
from lossmith.train.selection_rule import parse_rule

ROWS = [
    {"step": 1, "lpips_alex": 0.40, "grid": 0.2},
    {"step": 2, "lpips_alex": 0.30, "grid": 0.6},
    {"step": 3, "lpips_alex": 0.25, "grid": 1.4},
    {"step": 4, "grid": 0.1},
    {"step": 5, "lpips_alex": 0.30, "grid": 0.6},
]


@pytest.mark.parametrize(
    ("rule", "best"),
    [
        ("lpips_alex", 3),
        ("lpips_alex, grid<=0.7", 2),
        ("grid", 4),
        ("lpips_alex, grid>=1", 3),
        ("lpips_alex, grid<=0.05", 4),  # no row meets the bound: the least violation
        ("grid, lpips_alex<=0.2", 3),
        ("psnr_y", 1),
    ],
)
def test_a_rule_selects_the_first_of_the_best_rows(rule, best):
    assert max(ROWS, key=parse_rule(rule).rank)["step"] == best


def test_a_row_that_violates_the_bounds_is_described_as_the_least_violation():
    rule = parse_rule("lpips_alex, grid<=0.05")
    assert "no validation meets grid<=0.05, this is the least violation" in rule.describe(ROWS[0])
    assert "violation" not in parse_rule("lpips_alex").describe(ROWS[0])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("lpips_alx", "unknown metric 'lpips_alx'. Did you mean 'lpips_alex'"),
        ("psnr_y, gird<=1", "unknown metric 'gird'. Did you mean 'grid'"),
        ("grid<=0.7", "must begin with the metric to optimise"),
        ("", "must begin with the metric to optimise"),
        ("psnr_y, grid<0.7", "METRIC<=NUMBER or METRIC>=NUMBER"),
        ("psnr_y, grid<=inf", "finite number as the bound of grid; got 'inf'"),
        ("psnr_y, grid<=x", "finite number as the bound of grid; got 'x'"),
    ],
)
def test_a_text_that_is_no_rule_is_refused_in_one_line(rule, message):
    with pytest.raises(ValueError, match="select") as caught:
        parse_rule(rule)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


WORSENING = {"val_every": 1, "checkpoint_every": 2, "ema": 0.0, "lr": 0.01, "schedule": "constant", "loss": "-1*L1"}
"""Settings that maximise the error, so that later steps are worse, and whose weights are those of the step."""


def best_step(rows, rule="psnr_y"):
    return max(rows, key=parse_rule(rule).rank)["step"]


def test_the_best_checkpoint_is_kept_beside_the_last(run, lines, capsys):
    folder = run(select="psnr_y", **WORSENING)
    rows = lines(folder, "validation.jsonl")
    best = best_step(rows)
    assert best < 6, rows
    header = read_header(folder.best)
    assert header["step"] == best
    assert header["selected"] == rows[best - 1]
    kept, last = load_file(folder.best), load_file(folder.model)
    assert any(not torch.equal(kept[name], last[name]) for name in kept)
    assert f"best so far by psnr_y: step {best} (psnr_y" in " ".join(capsys.readouterr().out.split())


def test_a_resumed_run_keeps_the_best_so_far(run, lines):
    folder = run(select="psnr_y", steps=3, **WORSENING)
    before = read_header(folder.best)["selected"]
    run(select="psnr_y", steps=6, **WORSENING)
    rows = lines(folder, "validation.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    after = read_header(folder.best)["selected"]
    assert after["step"] == best_step(rows)
    assert after["psnr_y"] >= before["psnr_y"]


def test_without_a_validation_in_the_bounds_the_least_violation_is_kept_and_said(run, lines, capsys):
    folder = run(select="ssim_y, psnr_y>=99", **WORSENING)
    rows = lines(folder, "validation.jsonl")
    assert read_header(folder.best)["step"] == best_step(rows)  # the nearest to 99 dB
    assert "no validation meets psnr_y>=99, this is the least violation" in " ".join(capsys.readouterr().out.split())


def test_the_metrics_of_the_rule_are_computed_besides_those_of_metric(run, lines):
    folder = run(select="swd, texture<=2", metrics="psnr_rgb")
    assert set(lines(folder, "validation.jsonl")[0]) == {"step", "n", "psnr_rgb", "swd", "texture"}


def test_a_run_without_a_rule_writes_no_best_weights(run):
    assert not run().best.exists()


def test_a_rule_needs_validation_images(run, photos, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "a.png").write_bytes((photos / "00.png").read_bytes())
    with pytest.raises(ValueError, match="select needs validation images"):
        run(images=alone, select="psnr_y")


def test_the_commands_use_the_best_weights_of_a_run_with_a_rule_and_say_so(run, capsys):
    folder = run(select="psnr_y", **WORSENING)
    capsys.readouterr()
    assert select_weights(str(folder.path), None) == str(folder.best)
    assert "the best by 'psnr_y'; --weights last uses the last" in capsys.readouterr().err
    assert select_weights(str(folder.path), "last") == str(folder.model)
    assert select_weights(str(folder.path), "best") == str(folder.best)
    assert capsys.readouterr().err == ""


def test_the_commands_use_the_last_weights_of_a_run_without_a_rule(run):
    folder = run()
    assert select_weights(str(folder.path), None) == str(folder.model)
    with pytest.raises(ValueError, match="has no best weights: it was trained without --select"):
        select_weights(str(folder.path), "best")
    with pytest.raises(ValueError, match="--weights best needs a run folder"):
        select_weights(str(folder.model), "best")
