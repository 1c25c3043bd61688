import math

import numpy as np
import pytest
from scipy import stats

from lossmith.knob.certificate import INTERPOLATED_OUTPUTS, certify_knob
from lossmith.knob.certificate_statistics import EvaluatedPoint, rank_correlation

VALUES = (0.1, 1.0, 10.0)
CURVE_VALUES = (0.1, math.sqrt(0.1), 1.0, math.sqrt(10.0), 10.0)


def make_point(value, psnr, swd, images=12, noise=0.3):
    """Return a network's metrics: images differ, by the same amounts for all networks."""
    offsets = np.random.default_rng(0).normal(0, noise, images)
    rows = {f"{i}": {"psnr_y": psnr + d, "swd": swd - d / 2} for i, d in enumerate(offsets.tolist())}
    return EvaluatedPoint(value, rows)


def make_curve(values, psnr_gain=0.0, bend=0.2):
    """Return a trade-off over two decades: accuracy and distance fall; `psnr_gain` dB above that of 0."""
    points = []
    for value in values:
        t = (math.log10(value) + 1) / 2
        points.append(make_point(value, 28 - t + bend * t * (1 - t) + psnr_gain, 4 - 2 * t))
    return points


def make_series(psnr_gain=0.1, **other):
    knob, separate = make_curve(CURVE_VALUES, psnr_gain), make_curve(VALUES)
    return {"no network": [make_point(1.0, 26.5, 5.0)], "separate": separate, "knob": knob, **other}


def certify(series, **options):
    return certify_knob(series, **{"realism": ["swd"], "draws": 200, **options})


def failed_checks(record):
    return [check["name"] for check in record["checks"] if not check["passes"]]


def test_a_knob_equal_to_the_separate_networks_has_a_ratio_of_one():
    record = certify(make_series(0.0))
    ratio = record["realism"]["swd"]["hypervolume_ratio"]["knob at the same values"]
    assert ratio == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert record["certified"] is True


def test_hypervolumes_are_measured_beyond_the_output_without_a_network():
    record = certify(make_series(0.0))
    first = 0.5 * (28 - 26.5) * (5 - 4) * 2  # at t=0: 1.5 dB by 1
    middle, end = (28 - 0.5 + 0.05 - 26.5) * 1.0, 0.5 * 1.0  # and what the other points add
    assert record["realism"]["swd"]["hypervolume"]["separate"] == pytest.approx(first + middle + end)


def test_a_better_knob_is_certified_with_an_interval_above_one():
    record = certify(make_series(0.1))
    ratio = record["realism"]["swd"]["hypervolume_ratio"]["knob at the same values"]
    assert 1 < ratio["low"] < ratio["value"] < ratio["high"]
    assert record["certified"] is True and not failed_checks(record)


def test_rank_correlations_have_the_sign_of_the_metrics_change():
    record = certify(make_series())
    assert record["accuracy"]["spearman"] == pytest.approx(-1)  # PSNR falls
    assert record["realism"]["swd"]["spearman"] == pytest.approx(-1)  # and so does the distance
    assert record["realism"]["swd"]["spearman_with_accuracy"] == pytest.approx(-1)  # with the negated accuracy


def test_a_knob_of_the_opposite_direction_is_as_monotonic():
    knob = [EvaluatedPoint(1 / p.knob_value, p.image_metrics) for p in make_curve(CURVE_VALUES, 0.1)[::-1]]
    separate = [EvaluatedPoint(1 / p.knob_value, p.image_metrics) for p in make_curve(VALUES)[::-1]]
    record = certify(make_series(knob=knob, separate=separate))
    assert record["accuracy"]["spearman"] == pytest.approx(1) and record["certified"] is True


def test_a_worse_knob_is_not_certified():
    record = certify(make_series(-0.1))
    (coverage,) = [check for check in record["checks"] if check["name"] == "coverage swd"]
    assert not coverage["passes"] and record["certified"] is False
    assert coverage["text"].startswith("it covers 0.9")


def test_coverage_is_compared_at_equally_many_points():
    ratios = certify(make_series(0.0))["realism"]["swd"]["hypervolume_ratio"]
    assert ratios["knob"]["value"] > ratios["knob at the same values"]["value"] == 1


def test_a_knob_that_interpolation_beats_is_not_certified():
    record = certify(make_series(0.1) | {"output interpolation": make_curve(CURVE_VALUES, 0.11)})
    assert failed_checks(record) == ["beats output interpolation swd"]
    results = (record["meets_thresholds"], record["beats_interpolation"], record["certified"])
    assert results == (True, False, False)


def test_thresholds_and_interpolation_are_independent_results():
    record = certify(make_series(-0.1) | {"weight interpolation": make_curve(CURVE_VALUES, -0.2)})
    results = (record["meets_thresholds"], record["beats_interpolation"], record["certified"])
    assert results == (False, True, False)
    assert certify(make_series())["beats_interpolation"] is None  # without interpolations


def test_interpolated_outputs_are_certified_like_the_knob():
    series = make_series(-0.1, **{"equal length": make_curve([1.0], 0.25)})
    record = certify({**series, INTERPOLATED_OUTPUTS: make_curve(CURVE_VALUES, 0.1)})
    alone = certify({**series, "knob": make_curve(CURVE_VALUES, 0.1)})
    assert record["interpolated_outputs"] == {key: value for key, value in alone.items() if key != "image_count"}
    assert record["certified"] is False  # by its coverage
    assert record["interpolated_outputs"]["certified"] is False  # by 0.15 dB behind the network of equal length
    assert {key: record[key] for key in record if key != "interpolated_outputs"} == certify(series)


def test_a_knob_with_inversions_is_not_monotonic():
    knob = make_curve(CURVE_VALUES, 0.1)
    swapped = knob[3].image_metrics, knob[1].image_metrics
    knob[1], knob[3] = (EvaluatedPoint(CURVE_VALUES[i], m) for i, m in zip((1, 3), swapped, strict=True))
    record = certify(make_series(0.1, knob=knob))
    found = record["realism"]["swd"]
    assert found["inversions"] == 2 and found["spearman"] == pytest.approx(-0.6)
    assert "monotone swd" in failed_checks(record)


def test_a_knob_without_effect_is_not_monotonic():
    constant = make_curve((1.0,), 0.1)[0].image_metrics
    record = certify(make_series(knob=[EvaluatedPoint(value, constant) for value in CURVE_VALUES]))
    assert record["realism"]["swd"]["spearman"] == 0 and record["realism"]["swd"]["range_ratio"] == 0
    assert record["certified"] is False


def test_the_range_is_relative_to_that_of_the_separate_networks():
    values = [0.1 ** (1 - i / 2) * 10 ** (i / 2) for i in (0.5, 1, 1.5)]
    record = certify(make_series(knob=make_curve(values, 0.1)))
    assert record["realism"]["swd"]["range_ratio"] == pytest.approx(0.5)


def test_gaps_are_measured_at_the_networks_knob_values():
    gaps = certify(make_series(0.1))["gaps"]
    assert [gap["knob_value"] for gap in gaps] == list(VALUES)
    assert all(gap["psnr_y"] == pytest.approx(0.1) and gap["low"] == pytest.approx(0.1) for gap in gaps)


@pytest.mark.parametrize(("deficit", "passes"), [(0.09, True), (0.11, False)])
def test_a_deficit_of_a_tenth_of_a_decibel_to_a_network_of_equal_length_is_allowed(deficit, passes):
    record = certify(make_series(0.1) | {"equal length": make_curve([1.0], 0.1 + deficit)})
    (check,) = [check for check in record["checks"] if check["name"] == "accuracy"]
    assert check["passes"] is passes and record["certified"] is passes
    assert f"at 1 it differs by -{deficit:.3f} dB" in check["text"]


def test_without_separate_networks_the_certificate_has_no_result():
    record = certify({name: points for name, points in make_series().items() if name != "separate"})
    assert record["certified"] is None and len(record["curve"]) == 5
    assert record["curve"][0]["psnr_y"] == pytest.approx(28.1, abs=0.2)


def test_separate_networks_worse_than_no_network_leave_the_ratio_undefined():
    record = certify(make_series() | {"no network": [make_point(1.0, 30.0, 5.0)]})
    assert record["realism"]["swd"]["hypervolume_ratio"]["knob"]["value"] is None
    assert record["certified"] is False and "nothing beyond the output without" in record["checks"][0]["text"]


def test_an_image_with_a_non_finite_metric_is_left_out():
    series = make_series()
    series["knob"][2].image_metrics["3"]["psnr_y"] = math.inf
    assert certify(series)["image_count"] == 11


def test_the_interval_is_wider_for_fewer_images():
    def interval_width(count):
        rng = np.random.default_rng(1)
        clean = make_series(0.0)
        noisy = {name: [make_point(p.knob_value, 0, 0, count) for p in points] for name, points in clean.items()}
        for name, points in noisy.items():
            for point, original in zip(points, clean[name], strict=True):
                for row in point.image_metrics.values():
                    row["psnr_y"] = original.image_metrics["0"]["psnr_y"] + rng.normal(0, 0.1)
                    row["swd"] = original.image_metrics["0"]["swd"]
        ratio = certify(noisy)["realism"]["swd"]["hypervolume_ratio"]["knob at the same values"]
        return ratio["high"] - ratio["low"]

    assert interval_width(4) > 1.5 * interval_width(64)


def test_a_metric_that_shares_a_network_with_the_loss_is_marked():
    assert certify(make_series(), shared={"swd": "vgg16"})["realism"]["swd"]["shared_network"] == "vgg16"
    assert certify(make_series())["realism"]["swd"]["shared_network"] is None


@pytest.mark.parametrize("missing", ["no network", "knob"])
def test_a_certificate_without_a_curve_or_a_reference_is_rejected(missing):
    with pytest.raises(ValueError, match="the output without a network, and the knob at two or more values"):
        certify(make_series() | {missing: []})


@pytest.mark.parametrize("seed", range(10))
def test_the_rank_correlation_equals_scipys(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 6, 12).astype(float), rng.normal(size=12)  # with ties, and without
    assert rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)
