import math

import numpy as np
import pytest

from lossmith.knob.certificate import (
    OWN_ENDS,
    EvaluatedPoint,
    certify_knob,
    rank_correlation,
)

PLACES = (0.1, 1.0, 10.0)
FINE = (0.1, math.sqrt(0.1), 1.0, math.sqrt(10.0), 10.0)


def point(at, psnr, swd, pictures=12, noise=0.3):
    """A network's figures: pictures differ, and by the same for all networks."""
    apart = np.random.default_rng(0).normal(0, noise, pictures)
    rows = {f"{i}": {"psnr_y": psnr + d, "swd": swd - d / 2} for i, d in enumerate(apart.tolist())}
    return EvaluatedPoint(at, rows)


def line(places, ahead=0.0, bend=0.2):
    """A trade-off over three decades: accuracy falls, and the distance with it; `ahead` dB above that of 0."""
    found = []
    for at in places:
        t = (math.log10(at) + 1) / 2
        found.append(point(at, 28 - t + bend * t * (1 - t) + ahead, 4 - 2 * t))
    return found


def series(ahead=0.1, **other):
    return {"plain": [point(1.0, 26.5, 5.0)], "separate": line(PLACES), "knob": line(FINE, ahead), **other}


def certified(ways, **other):
    return certify_knob(ways, **{"axes": ["swd"], "draws": 200, **other})


def test_a_knob_that_is_its_networks_covers_as_much_as_they_do():
    found = certified(series(0.0))
    ratio = found["axes"]["swd"]["hypervolume_ratio"]["knob at these places"]
    assert ratio == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["certified"] is True


def test_hypervolumes_are_those_of_the_stairs_over_the_plain_answer():
    found = certified(series(0.0))
    stairs = 0.5 * (28 - 26.5) * (5 - 4) * 2  # at t=0: 1.5 dB by 1
    middle, end = (28 - 0.5 + 0.05 - 26.5) * 1.0, 0.5 * 1.0  # and what the others add
    assert found["axes"]["swd"]["hypervolume"]["separate"] == pytest.approx(stairs + middle + end)


def test_a_better_knob_is_certified_with_an_interval_above_one():
    ratio = (found := certified(series(0.1)))["axes"]["swd"]["hypervolume_ratio"]["knob at these places"]
    assert 1 < ratio["low"] < ratio["value"] < ratio["high"]
    assert found["certified"] is True and all(check["holds"] for check in found["checks"])


def test_ranks_are_signed_by_what_happens_to_the_figures_themselves():
    found = certified(series())
    assert found["accuracy"]["spearman"] == pytest.approx(-1)  # PSNR falls
    assert found["axes"]["swd"]["spearman"] == pytest.approx(-1)  # and so does the distance
    assert found["axes"]["swd"]["against_accuracy"] == pytest.approx(-1)  # what is lost on one is won on the other


def test_a_knob_that_is_turned_the_other_way_is_as_monotone():
    turned = [EvaluatedPoint(1 / point.at, point.figures) for point in line(FINE, 0.1)[::-1]]
    alone = [EvaluatedPoint(1 / point.at, point.figures) for point in line(PLACES)[::-1]]
    found = certified(series(knob=turned, separate=alone))
    assert found["accuracy"]["spearman"] == pytest.approx(1) and found["certified"] is True


def test_a_worse_knob_is_told_so():
    found = certified(series(-0.1))
    (coverage,) = [check for check in found["checks"] if check["name"] == "coverage swd"]
    assert not coverage["holds"] and found["certified"] is False
    assert coverage["words"].startswith("it covers 0.9")


def test_more_places_of_the_knob_are_not_counted_against_fewer_networks():
    found = certified(series(0.0))["axes"]["swd"]["hypervolume_ratio"]
    assert found["knob"]["value"] > found["knob at these places"]["value"] == 1


def test_a_knob_that_interpolation_beats_is_not_certified():
    ways = series(0.1) | {"output interpolation": line(FINE, 0.11)}
    found = certified(ways)
    assert [check["name"] for check in found["checks"] if not check["holds"]] == ["beats output interpolation swd"]
    assert (found["meets_bars"], found["beats_interpolation"], found["certified"]) == (True, False, False)


def test_the_bars_and_what_is_free_are_two_questions():
    found = certified(series(-0.1) | {"weight interpolation": line(FINE, -0.2)})
    assert (found["meets_bars"], found["beats_interpolation"], found["certified"]) == (False, True, False)
    assert certified(series())["beats_interpolation"] is None  # nothing to beat


def test_mixed_ends_are_compared_as_the_knob_is():
    ways = series(-0.1, **{"equal length": line([1.0], 0.25)})
    found = certified({**ways, OWN_ENDS: line(FINE, 0.1)})
    alone = certified({**ways, "knob": line(FINE, 0.1)})
    assert found["ends_mixed"] == {key: value for key, value in alone.items() if key != "pictures"}
    assert found["certified"] is found["ends_mixed"]["certified"] is False  # by coverage, and by a network's 0.15 dB
    assert {key: found[key] for key in found if key != "ends_mixed"} == certified(ways)


def test_a_knob_that_turns_back_is_not_monotone():
    turned = line(FINE, 0.1)
    turned[1], turned[3] = EvaluatedPoint(FINE[1], turned[3].figures), EvaluatedPoint(FINE[3], turned[1].figures)
    found = certified(series(0.1, knob=turned))
    assert found["axes"]["swd"]["inversions"] == 2 and found["axes"]["swd"]["spearman"] == pytest.approx(-0.6)
    assert "monotone swd" in [check["name"] for check in found["checks"] if not check["holds"]]


def test_a_knob_that_does_nothing_is_not_monotone():
    found = certified(series(knob=[EvaluatedPoint(at, line((1.0,), 0.1)[0].figures) for at in FINE]))
    assert found["axes"]["swd"]["spearman"] == 0 and found["axes"]["swd"]["range_ratio"] == 0
    assert found["certified"] is False


def test_ranges_are_compared_with_those_of_the_networks():
    found = certified(series(knob=line([0.1 ** (1 - i / 2) * 10 ** (i / 2) * 1.0 for i in (0.5, 1, 1.5)], 0.1)))
    assert found["axes"]["swd"]["range_ratio"] == pytest.approx(0.5)


def test_gaps_are_taken_at_the_networks_own_places():
    found = certified(series(0.1))
    assert [gap["at"] for gap in found["gaps"]] == list(PLACES)
    assert all(gap["psnr_y"] == pytest.approx(0.1) and gap["low"] == pytest.approx(0.1) for gap in found["gaps"])


@pytest.mark.parametrize(("behind", "holds"), [(0.09, True), (0.11, False)])
def test_a_tenth_of_a_decibel_may_be_lost_to_a_network_of_equal_length(behind, holds):
    found = certified(series(0.1) | {"equal length": line([1.0], 0.1 + behind)})
    (check,) = [check for check in found["checks"] if check["name"] == "accuracy"]
    assert check["holds"] is holds and found["certified"] is holds
    assert f"at 1 it is -{behind:.3f} dB" in check["words"]


def test_a_curve_alone_is_neither_certified_nor_refused():
    found = certified({name: points for name, points in series().items() if name != "separate"})
    assert found["certified"] is None and len(found["curve"]) == 5
    assert found["curve"][0]["psnr_y"] == pytest.approx(28.1, abs=0.2)


def test_networks_no_better_than_nothing_leave_nothing_to_cover():
    found = certified(series() | {"plain": [point(1.0, 30.0, 5.0)]})
    assert found["axes"]["swd"]["hypervolume_ratio"]["knob"]["value"] is None
    assert found["certified"] is False and "nothing beyond the plain answer" in found["checks"][0]["words"]


def test_a_picture_without_figures_is_left_out_of_all():
    ways = series()
    ways["knob"][2].figures["3"]["psnr_y"] = math.inf
    assert certified(ways)["pictures"] == 11


def test_a_few_pictures_make_a_wide_interval():
    def noisy(count):
        chance = np.random.default_rng(1)
        ways = {name: [point(p.at, 0, 0, count) for p in points] for name, points in series(0.0).items()}
        for name, points in ways.items():
            for judged, clean in zip(points, series(0.0)[name], strict=True):
                for row in judged.figures.values():
                    row["psnr_y"] = clean.figures["0"]["psnr_y"] + chance.normal(0, 0.1)
                    row["swd"] = clean.figures["0"]["swd"]
        ratio = certified(ways)["axes"]["swd"]["hypervolume_ratio"]["knob at these places"]
        return ratio["high"] - ratio["low"]

    assert noisy(4) > 1.5 * noisy(64)


def test_an_axis_that_shares_a_network_is_marked():
    assert certified(series(), shared={"swd": "vgg16"})["axes"]["swd"]["shares_network"] == "vgg16"
    assert certified(series())["axes"]["swd"]["shares_network"] is None


@pytest.mark.parametrize("left_out", ["plain", "knob"])
def test_without_a_curve_or_a_reference_there_is_no_certificate(left_out):
    with pytest.raises(ValueError, match="the answer without a network, and the knob at two places"):
        certified(series() | {left_out: []})


def test_ties_share_their_rank():
    assert rank_correlation(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 3, 4])) == pytest.approx(0.9486833)  # scipy's value
