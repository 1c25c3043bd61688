import json
import math
import re
from itertools import pairwise

import pytest

from lossmith.report.axes import Axis, around, brief, spread
from lossmith.report.charts import Curve, curves, shares, smooth


def data_of(figure):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', figure)[1])


@pytest.mark.parametrize(
    "axis", [Axis(0, 2000, 0, 1), Axis(27.93, 30.41, 0, 1), Axis(-3e-5, 4e-5, 1, 0), Axis(0, 7, 0, 1)]
)
def test_ticks_are_few_round_and_inside(axis):
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 6
    assert all(axis.low <= tick <= axis.high for tick in ticks)
    assert len({brief(tick, ticks[1] - ticks[0]) for tick in ticks}) == len(ticks)


def test_steps_are_counted_in_whole_numbers():
    assert Axis(0, 12, 0, 1, whole=True).ticks() == [0, 5, 10]


@pytest.mark.parametrize(("low", "high"), [(1e-4, 1.0), (0.02, 0.3), (3, 3000), (1e-9, 1e9)])
def test_a_logarithmic_axis_has_ticks_too(low, high):
    assert 1 <= len(Axis(low, high, 0, 1, log=True).ticks()) <= 6


def test_an_axis_of_one_value_is_not_empty():
    for value in (0.0, 5.0, -5.0):
        axis = around([value], 0, 1)
        assert axis.low < value < axis.high


def test_labels_keep_their_distance_and_their_order():
    moved = spread([100, 101, 102, 200])
    assert moved == sorted(moved)
    assert all(b - a >= 15 - 1e-9 for a, b in pairwise(moved))


def test_values_that_span_decades_are_drawn_on_a_logarithmic_scale():
    decaying = [(float(i), math.exp(-i / 20)) for i in range(100)]
    level = [(float(i), 1 + 0.1 * (i % 2)) for i in range(100)]
    assert data_of(curves("a", [Curve("a", 0, decaying)], noisy=True))["y"]["log"]
    assert not data_of(curves("a", [Curve("a", 0, level)], noisy=True))["y"]["log"]


def test_negative_values_are_never_drawn_on_a_logarithmic_scale():
    points = [(float(i), (-1) ** i * 10.0**i) for i in range(60)]
    assert not data_of(curves("a", [Curve("a", 0, points)], noisy=True))["y"]["log"]


def test_one_wild_step_does_not_flatten_the_rest_and_is_counted():
    points = [(float(i), 1.0 + 0.1 * (i % 3)) for i in range(400)]
    points[100] = (100.0, 5.0)
    figure = curves("a", [Curve("a", 0, points)], noisy=True)
    assert data_of(figure)["y"]["high"] < 3
    assert "1 outlier drawn" in figure


def test_a_hundred_thousand_points_make_a_small_drawing():
    points = [(float(i), 1 / (1 + i)) for i in range(100_000)]
    assert len(curves("a", [Curve("a", 0, points)], noisy=True)) < 40_000


def test_a_smoothed_constant_is_that_constant():
    assert [value for _, value in smooth([(float(i), 3.0) for i in range(200)])] == pytest.approx([3.0] * 200)


def test_smoothing_begins_with_the_first_value():
    assert smooth([(float(i), 100.0 - i) for i in range(100)])[0] == (0.0, 100.0)


def test_shares_reach_one():
    series = data_of(shares("s", 0, ["a", "b"], [(1.0, [0.25, 0.75]), (2.0, [0.5, 0.5])]))["series"]
    assert [a[1] + b[1] for a, b in zip(series[0]["points"], series[1]["points"], strict=True)] == [1.0, 1.0]
