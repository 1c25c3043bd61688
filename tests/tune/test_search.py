import json

import pytest

from lossmith.tune.objectives import parse_objectives, parse_constraints
from lossmith.tune.pruning import count_dominating
from lossmith.tune.search import Search, settings_digest, read_search
from lossmith.tune.space import Choice, Range, parse_choice, substitute, parse_space, grid_points, parse_range, evenly_spread_points


def test_a_value_takes_the_place_of_a_name_and_of_nothing_else():
    text = "L1 + a*perceptual('a', layers=a) + 1e3*SSIM(a=a)"
    assert substitute(text, {"a": 0.5}) == "L1 + 0.5*perceptual('a', layers=0.5) + 1e3*SSIM(a=0.5)"


def test_a_text_of_a_choice_is_quoted_and_several_are_a_list():
    layers = parse_choice("conv3_4,conv1_2+conv5_4")
    assert [layers.value(text) for text in layers.texts] == ["conv3_4", ["conv1_2", "conv5_4"]]
    assert parse_choice("1,0.5,true").value("0.5") == 0.5


@pytest.mark.parametrize("count", [1, 5, 40])
def test_points_that_fill_the_space_are_all_different_and_inside(count):
    points = evenly_spread_points({"a": Range(0.01, 10), "b": Range(1, 2)}, count)
    assert len({tuple(point.values()) for point in points}) == count
    assert all(0.01 <= point["a"] <= 10 and 1 <= point["b"] <= 2 for point in points)


def test_a_grid_has_both_ends_of_a_range_and_every_choice():
    points = grid_points({"a": Range(0.1, 10), "c": Choice(("u", "v"))}, 3)
    assert [(round(p["a"], 6), p["c"]) for p in points] == [(a, c) for a in (0.1, 1.0, 10.0) for c in "uv"]


def test_a_study_is_the_same_after_it_was_written(search, tmp_path):
    one = search(space={"a": Range(0.01, 10), "b": Choice(("0.1", "0.2")), "lr": Range(1e-4, 1e-3)}, rungs=(1 / 3, 1))
    (tmp_path / "study.json").write_text(json.dumps(one.record))
    assert read_search(tmp_path / "study.json") == one
    assert read_search(tmp_path / "study.json").digest == one.digest


def test_a_trial_is_named_by_what_it_trains(search):
    one = search()
    first, same, other = ({"a": a, "b": 0.1} for a in (0.3, 0.300001, 0.31))
    assert settings_digest(one.settings(first)) == settings_digest(one.settings(same))  # as one reads it in the formula
    assert settings_digest(one.settings(first)) != settings_digest(one.settings(other))


def test_the_learning_rate_may_be_drawn(search):
    one = search(loss="L1 + a*TV", space={"a": Range(0.1, 1), "lr": Range(1e-4, 1e-2)})
    settings = one.settings({"a": 0.5, "lr": 0.002})
    assert (settings.loss, settings.lr) == ("L1 + 0.5*TV", 0.002)


def test_what_is_best_at_anything_is_never_given_up():
    both = parse_objectives("psnr_y,lpips_alex")
    others = [{"psnr_y": 27 + i, "lpips_alex": 0.2} for i in range(9)]
    assert count_dominating({"psnr_y": 20.0, "lpips_alex": 0.19}, others, both) == 0
    assert count_dominating({"psnr_y": 20.0, "lpips_alex": 0.2}, others, both) == 0  # within the margin of 2 %
    assert count_dominating({"psnr_y": 20.0, "lpips_alex": 0.21}, others, both) == 9


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda s: s(space={"a": Range(0.1, 1)}), r"'b' is free in the formula.*--range b=LOW:HIGH"),
        (lambda s: s(space={}), "something to choose"),
        (lambda s: s(loss="L1 + a*TV"), "range for 'b'"),
        (lambda s: s(rungs=(0.5, 1.5)), "between 0 and 1"),
        (lambda s: s(training={"schedule": "cosine"}), "--schedule constant"),
        (lambda s: s(floors={"lpips_alex": 1}), "an axis of the study"),
        (lambda s: s(sampler="magic"), "sampler is one of tpe, nsga2"),
        (lambda s: parse_objectives("psnr_y"), "two or three"),
        (lambda s: parse_objectives("psnr_y,texture"), "texture is no axis"),
        (lambda s: parse_objectives("psnr_y,lpips"), "did you mean lpips_alex"),
        (lambda s: parse_objectives("psnr_y:min,ssim_y"), "write psnr_y:max"),
        (lambda s: parse_objectives("psnr_y,psnr_y"), "twice"),
        (lambda s: parse_constraints(["lpips_alex=1"], parse_objectives("psnr_y,ssim_y"), "--constraint"), "a figure of --objectives"),
        (lambda s: parse_constraints(["psnr_y=x"], parse_objectives("psnr_y,ssim_y"), "--constraint"), "wants a number"),
        (lambda s: parse_space(["a=1"], "--range", parse_range), "--range a: a range is LOW:HIGH"),
        (lambda s: parse_space(["a=2:1"], "--range", parse_range), "0 < LOW < HIGH"),
        (lambda s: parse_space(["L1=1:2"], "--range", parse_range), "new lower-case name"),
        (lambda s: parse_space(["style=1:2"], "--range", parse_range), "new lower-case name"),
        (lambda s: parse_space(["a=1:2", "a=1:3"], "--range", parse_range), "new lower-case name"),
        (lambda s: parse_space(["a=x"], "--choice", parse_choice), "at least two different values"),
        (lambda s: Search.of({}), "no record of a study"),
    ],
)
def test_what_cannot_be_a_study_is_refused(search, wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong(search)
