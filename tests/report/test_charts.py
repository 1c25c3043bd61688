import json
import math
import re
from itertools import pairwise

import pytest

from lossmith.report.plot.axis import PlotAxis, fit_axis, format_tick
from lossmith.report.plot.charts import Curve, line_chart, share_chart, smooth
from lossmith.report.plot.labels import separate_labels


def data_of(chart):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', chart)[1])


@pytest.mark.parametrize(
    "axis",
    [PlotAxis(0, 2000, 0, 1), PlotAxis(27.93, 30.41, 0, 1), PlotAxis(-3e-5, 4e-5, 1, 0), PlotAxis(0, 7, 0, 1)],
)
def test_ticks_are_few_and_round_and_lie_on_the_axis(axis):
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 6
    assert all(axis.low <= tick <= axis.high for tick in ticks)
    assert len({format_tick(tick, ticks[1] - ticks[0]) for tick in ticks}) == len(ticks)


def test_ticks_of_an_integer_axis_are_integers():
    assert PlotAxis(0, 12, 0, 1, is_integer=True).ticks() == [0, 5, 10]


@pytest.mark.parametrize(("low", "high"), [(1e-4, 1.0), (0.02, 0.3), (3, 3000), (1e-9, 1e9)])
def test_a_logarithmic_axis_has_ticks(low, high):
    assert 1 <= len(PlotAxis(low, high, 0, 1, is_log=True).ticks()) <= 6


def test_an_axis_of_one_value_has_a_range():
    for value in (0.0, 5.0, -5.0):
        axis = fit_axis([value], 0, 1)
        assert axis.low < value < axis.high


def test_zeros_stand_at_the_lower_end_of_an_axis_to_one():
    axis = fit_axis([0.0, 0.0], 0, 1)
    assert axis.ticks(6)[0] == 0 and axis.ticks(6)[-1] == 1
    assert 0 < axis.position(0.0) < 0.1


@pytest.mark.parametrize("values", [(0.6, 0.600003), (30.0, 30.0001), (-5.0, -5.00001), (1e-7, 1.0001e-7)])
def test_nearly_equal_values_stand_in_the_middle_of_an_axis(values):
    axis = fit_axis(values, 0, 1)
    assert axis.high - axis.low >= 0.005 * max(map(abs, values))
    assert all(0.4 < axis.position(value) < 0.6 for value in values)


@pytest.mark.parametrize("values", [(0.59, 0.61), (27.9, 30.4), (0.0, 1e-9)])
def test_values_that_differ_fill_their_axis(values):
    axis = fit_axis(values, 0, 1)
    assert [axis.position(value) for value in values] == pytest.approx([0.06 / 1.12, 1.06 / 1.12])


@pytest.mark.parametrize("low", [0.0, 0.6, -0.3, 28.0, 12345.0])
@pytest.mark.parametrize("length", [1e-4, 7e-4, 2.6e-3, 0.013, 0.9, 7.0, 1234.0])
def test_the_texts_of_ticks_are_the_values_of_the_ticks(low, length):
    ticks = PlotAxis(low, low + length, 0, 1).ticks()
    step = ticks[1] - ticks[0]
    for tick in ticks:
        text = format_tick(tick, step).replace("\u2212", "-").replace("k", "e3").replace("M", "e6")
        assert float(text) == pytest.approx(tick, abs=0.01 * step)


def test_separated_labels_keep_their_distance_and_their_order():
    moved = separate_labels([100, 101, 102, 200], 14, 264)
    assert moved == sorted(moved)
    assert all(b - a >= 15 - 1e-9 for a, b in pairwise(moved))


def test_values_that_span_decades_have_a_logarithmic_scale():
    decaying = [(float(i), math.exp(-i / 20)) for i in range(100)]
    level = [(float(i), 1 + 0.1 * (i % 2)) for i in range(100)]
    assert data_of(line_chart("a", [Curve("a", 0, decaying)], is_noisy=True))["y"]["is_log"]
    assert not data_of(line_chart("a", [Curve("a", 0, level)], is_noisy=True))["y"]["is_log"]


def test_negative_values_never_have_a_logarithmic_scale():
    points = [(float(i), (-1) ** i * 10.0**i) for i in range(60)]
    assert not data_of(line_chart("a", [Curve("a", 0, points)], is_noisy=True))["y"]["is_log"]


def test_one_outlier_does_not_flatten_the_curve_and_is_counted():
    points = [(float(i), 1.0 + 0.1 * (i % 3)) for i in range(400)]
    points[100] = (100.0, 5.0)
    chart = line_chart("a", [Curve("a", 0, points)], is_noisy=True)
    assert data_of(chart)["y"]["high"] < 3
    assert "1 outlier drawn" in chart


def test_a_chart_of_a_hundred_thousand_points_is_small():
    points = [(float(i), 1 / (1 + i)) for i in range(100_000)]
    assert len(line_chart("a", [Curve("a", 0, points)], is_noisy=True)) < 40_000


def test_smoothing_keeps_a_constant():
    assert [value for _, value in smooth([(float(i), 3.0) for i in range(200)])] == pytest.approx([3.0] * 200)


def test_smoothing_keeps_the_first_value():
    assert smooth([(float(i), 100.0 - i) for i in range(100)])[0] == (0.0, 100.0)


def test_stacked_shares_add_up_to_one():
    series = data_of(share_chart("s", 0, ["a", "b"], [(1.0, [0.25, 0.75]), (2.0, [0.5, 0.5])]))["series"]
    assert [a[1] + b[1] for a, b in zip(series[0]["points"], series[1]["points"], strict=True)] == [1.0, 1.0]
