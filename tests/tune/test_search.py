import json

import pytest

from lossmith.tune.cost import count_step_operations
from lossmith.tune.objectives import parse_constraints, parse_objectives
from lossmith.tune.pruning import count_dominating
from lossmith.tune.search import Search, read_search, settings_digest
from lossmith.tune.space import (
    Choice,
    Range,
    evenly_spread_points,
    grid_points,
    parse_choice,
    parse_range,
    parse_space,
    substitute,
)


def test_a_value_replaces_a_name_but_no_string_keyword_or_number():
    formula = "L1 + a*perceptual('a', layers=a) + 1e3*SSIM(a=a)"
    assert substitute(formula, {"a": 0.5}) == "L1 + 0.5*perceptual('a', layers=0.5) + 1e3*SSIM(a=0.5)"


def test_an_option_of_a_choice_is_a_string_a_list_or_a_number():
    layers = parse_choice("conv3_4,conv1_2+conv5_4")
    assert [layers.to_literal(option) for option in layers.options] == ["conv3_4", ["conv1_2", "conv5_4"]]
    assert parse_choice("1,0.5,true").to_literal("0.5") == 0.5


@pytest.mark.parametrize("count", [1, 5, 40])
def test_evenly_spread_points_are_distinct_and_inside_the_space(count):
    points = evenly_spread_points({"a": Range(0.01, 10), "b": Range(1, 2)}, count)
    assert len({tuple(point.values()) for point in points}) == count
    assert all(0.01 <= point["a"] <= 10 and 1 <= point["b"] <= 2 for point in points)


def test_a_grid_has_both_ends_of_a_range_and_every_option():
    points = grid_points({"a": Range(0.1, 10), "c": Choice(("u", "v"))}, 3)
    assert [(round(p["a"], 6), p["c"]) for p in points] == [(a, c) for a in (0.1, 1.0, 10.0) for c in "uv"]


def test_a_search_survives_writing_and_reading(make_search, tmp_path):
    space = {"a": Range(0.01, 10), "b": Choice(("0.1", "0.2")), "lr": Range(1e-4, 1e-3)}
    search = make_search(space=space, prune_at=(1 / 3, 1))
    (tmp_path / "study.json").write_text(json.dumps(search.to_record()))
    assert read_search(tmp_path / "study.json") == search
    assert read_search(tmp_path / "study.json").digest == search.digest


def test_run_folders_are_named_by_the_rounded_parameters(make_search):
    search = make_search()
    first, equal, other = ({"a": a, "b": 0.1} for a in (0.3, 0.300001, 0.31))
    assert settings_digest(search.settings(first)) == settings_digest(search.settings(equal))
    assert settings_digest(search.settings(first)) != settings_digest(search.settings(other))


def test_the_learning_rate_can_be_searched(make_search):
    search = make_search(loss="L1 + a*TV", space={"a": Range(0.1, 1), "lr": Range(1e-4, 1e-2)})
    settings = search.settings({"a": 0.5, "lr": 0.002})
    assert (settings.loss, settings.lr) == ("L1 + 0.5*TV", 0.002)


LAZY = "L1 + 0.1*Every(k)*Part(p)*perceptual('vgg16', 'conv2_2', weights='random')"
LAZY_SPACE = {"k": parse_choice("1,4"), "p": parse_choice("1,0.5")}


def test_the_period_of_a_lazy_term_and_the_part_of_a_sparse_term_can_be_searched(make_search):
    search = make_search(loss=LAZY, space=LAZY_SPACE)
    formulas = {search.settings(point).loss for point in grid_points(LAZY_SPACE, 1)}
    assert formulas == {LAZY.replace("(k)", f"({k})").replace("(p)", f"({p})") for k in (1, 4) for p in (1, 0.5)}
    assert {search.settings(point).steps for point in grid_points(LAZY_SPACE, 1)} == {6}


def test_trials_of_equal_cost_have_steps_in_inverse_proportion_to_the_operations_of_a_step(make_search):
    search = make_search(loss=LAZY, space=LAZY_SPACE, steps=100, equal_cost=True)
    settings = {(point["k"], point["p"]): search.settings(point) for point in grid_points(LAZY_SPACE, 1)}
    assert settings["1", "1"].steps == 100
    totals = [each.steps * count_step_operations(each) for each in settings.values()]
    assert max(totals) / min(totals) < 1.01
    assert 300 < settings["4", "1"].steps < 400  # the network that is trained is not lazy


def test_a_search_with_equal_cost_has_a_digest_of_its_own_and_survives_writing_and_reading(make_search, tmp_path):
    search = make_search(loss=LAZY, space=LAZY_SPACE, equal_cost=True)
    (tmp_path / "study.json").write_text(json.dumps(search.to_record()))
    assert read_search(tmp_path / "study.json") == search
    assert search.digest != make_search(loss=LAZY, space=LAZY_SPACE).digest


def test_a_trial_that_is_best_in_an_objective_is_never_pruned():
    objectives = parse_objectives("psnr_y,lpips_alex")
    others = [{"psnr_y": 27 + i, "lpips_alex": 0.2} for i in range(9)]
    assert count_dominating({"psnr_y": 20.0, "lpips_alex": 0.19}, others, objectives) == 0
    assert count_dominating({"psnr_y": 20.0, "lpips_alex": 0.2}, others, objectives) == 0  # within 2 % of the best
    assert count_dominating({"psnr_y": 20.0, "lpips_alex": 0.21}, others, objectives) == 9


BOTH = "psnr_y,ssim_y"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda s: s(space={"a": Range(0.1, 1)}), r"'b' in the formula has no range.*--range b=LOW:HIGH"),
        (lambda s: s(space={}), "needs a search space"),
        (lambda s: s(loss="L1 + a*TV"), "'b' has a range but is not a free name"),
        (lambda s: s(prune_at=(0.5, 1.5)), "between 0 and 1"),
        (lambda s: s(training={"schedule": "cosine"}), "--schedule constant"),
        (lambda s: s(constraints={"lpips_alex": 1}), "a metric of the objectives"),
        (lambda s: s(sampler="magic"), "sampler must be one of 'tpe', 'nsga2'"),
        (lambda s: parse_objectives("psnr_y"), "two or three"),
        (lambda s: parse_objectives("psnr_y,texture"), "texture cannot be an objective"),
        (lambda s: parse_objectives("psnr_y,lpips"), "Did you mean 'lpips_"),
        (lambda s: parse_objectives("psnr_y:min,ssim_y"), "write psnr_y:max"),
        (lambda s: parse_objectives("psnr_y,psnr_y"), "twice"),
        (lambda s: parse_constraints(["lpips_alex=1"], parse_objectives(BOTH), "--constraint"), "of --objectives"),
        (lambda s: parse_constraints(["psnr_y=x"], parse_objectives(BOTH), "--constraint"), "must be a number"),
        (lambda s: parse_space(["a=1"], "--range", parse_range), "--range a: a range must be LOW:HIGH"),
        (lambda s: parse_space(["a=2:1"], "--range", parse_range), "0 < LOW < HIGH"),
        (lambda s: parse_space(["L1=1:2"], "--range", parse_range), "new lower-case name"),
        (lambda s: parse_space(["style=1:2"], "--range", parse_range), "new lower-case name"),
        (lambda s: parse_space(["a=1:2", "a=1:3"], "--range", parse_range), "new lower-case name"),
        (lambda s: parse_space(["a=x"], "--choice", parse_choice), "at least two different values"),
        (lambda s: Search.from_record({}), "not the record of a study"),
    ],
)
def test_an_invalid_search_is_rejected(make_search, call, message):
    with pytest.raises(ValueError, match=message):
        call(make_search)
