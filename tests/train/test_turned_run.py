"""Trainings over the range of a knob, with a balancer, and in calibrated units."""

import json

import pytest
import torch

from lossmith import load as load_loss
from lossmith.models import load_restorer
from lossmith.models.conditioned import ConditionedNetwork

KNOB = {"loss": "L1 + lam*TV", "knobs": {"lam": [0.1, 10.0]}, "schedule": "constant"}
RESCALED = {"plain": "L1 + 0.3*L2 @ Gram", "by589824": "L1 + 0.3*L2 @ Gram('none')"}  # (3 * 16 * 16) ** 2
BALANCE = {"loss": "L1 + 0.1*TV", "balance": "share", "schedule": "constant"}


@pytest.mark.slow
def test_a_run_with_a_knob_saves_a_conditioned_network(run):
    folder = run(**KNOB)
    model, header = load_restorer(folder.model)
    assert isinstance(model, ConditionedNetwork)
    assert model.knobs == {"lam": (0.1, 10.0)}
    assert header["loss"] == 'L1() + Knob("lam") * TV()'


@pytest.mark.slow
def test_a_run_with_a_knob_validates_at_the_midpoint_and_both_ends(run, lines):
    rows = lines(run(**KNOB), "validation.jsonl")
    assert all(set(row["at"]) == {"low", "high"} for row in rows)
    assert all(row["at"]["low"]["psnr_y"] != row["at"]["high"]["psnr_y"] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("options", [KNOB, BALANCE, {**KNOB, "balance": "share"}, {**KNOB, "calibrate": True}])
def test_a_resumed_run_equals_the_uninterrupted_run_to_the_bit(run, weights, options):
    whole = weights(run("whole", **options))
    run("broken", **{**options, "steps": 3})
    assert_same(whole, weights(run("broken", **options)))


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_balancer_makes_the_training_invariant_to_the_scale_of_a_term(run, weights):
    one, other = (weights(run(name, **{**BALANCE, "loss": loss})) for name, loss in RESCALED.items())
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-6)


def test_the_log_contains_the_balanced_weights_and_their_gradient_shares(run, lines):
    rows = lines(run(**BALANCE))
    assert all(set(row["weights"]) == set(row["gradient_shares"]) == {"L1", "TV"} for row in rows)
    assert rows[-1]["gradient_shares"]["TV"] == pytest.approx(1 / 11, abs=0.03)
    assert rows[-1]["weights"]["TV"] != 0.1  # the weight of the formula


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [BALANCE, {**BALANCE, "balance": "uncertainty"}, {"loss": "L1 + 0.1*TV"}, {"accumulate": 2}]
)
def test_the_logged_loss_is_the_sum_of_the_terms_with_the_logged_weights(run, lines, options):
    for row in lines(run(**options)):
        assert row["loss"] == pytest.approx(
            sum(row["weights"][n] * value for n, value in row["terms"].items()), rel=1e-5
        )


@pytest.mark.slow
def test_the_logged_weights_of_a_knob_are_normalized_and_averaged_over_the_images(run, lines):
    rows = lines(run(**KNOB, batch=4))
    assert all(sum(row["weights"].values()) == pytest.approx(1, rel=1e-6) for row in rows)
    assert all(0 < share < 1 for row in rows for share in row["gradient_shares"].values())


def test_gradient_shares_are_those_of_the_weighted_terms(run, lines):
    shares = [row["gradient_shares"] for row in lines(run(loss="1*L1 + 3*L1 + 0*L2"))]
    assert shares == [pytest.approx({"L1#1": 0.25, "L1#2": 0.75, "L2": 0.0}, abs=1e-6)] * len(shares)


@pytest.mark.slow
@pytest.mark.parametrize("options", [BALANCE, KNOB, {"loss": "L1 + 0.1*perceptual(weights='random')", "crop": 32}])
def test_measuring_gradient_shares_does_not_change_the_training(run, weights, options):
    assert_same(weights(run("often", **options, log_every=1)), weights(run("seldom", **options, log_every=6)))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"loss": "L1 + 1*TV", "calibrate": True}, {"loss": "50%*L1 + 50%*TV"}])
def test_a_calibrated_run_has_weights_in_units_of_equal_gradient_norms(run, options):
    folder = run(**options)
    record = json.loads((folder.path / "calibration.json").read_text())
    first, second = record["report"]["terms"]
    used = load_loss(folder.path / "loss.json")
    assert record["loss"] == repr(used)
    norms = [weight.value_at(0) * row["norm"] for weight, row in zip(used.weights, (first, second), strict=True)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_a_balancer_keeps_the_shares_of_the_formula(run, lines):
    rows = lines(run(loss="80%*L1 + 20%*TV", balance="share"))
    assert rows[-1]["gradient_shares"]["TV"] == pytest.approx(0.2, abs=0.02)


def test_a_knob_without_a_range_raises(run):
    with pytest.raises(ValueError, match=r"The knob 'lam' has no value.*--knob lam=0\.03:30"):
        run(loss="L1 + lam*TV")


def test_a_range_without_a_knob_raises(run):
    with pytest.raises(ValueError, match="The knob 'lam' has a range, but the formula does not use it"):
        run(loss="L1 + TV", knobs={"lam": [0.1, 10.0]})


@pytest.mark.parametrize("ends", [[1.0], [0.0, 1.0], [2.0, 1.0], ["a", "b"]])
def test_an_invalid_range_raises(run, ends):
    with pytest.raises(ValueError, match="The range of the knob 'lam' must be two positive numbers"):
        run(loss="L1 + lam*TV", knobs={"lam": ends})


@pytest.mark.slow
def test_a_network_with_other_knobs_raises(run, tmp_path):
    run("first", **KNOB)
    with pytest.raises(ValueError, match=r"The network has the knobs .*0\.1.*, but the run asks for .*0\.5"):
        run(
            "second",
            **{**KNOB, "knobs": {"lam": [0.5, 10.0]}, "model": {"name": str(tmp_path / "first" / "model.safetensors")}},
        )
