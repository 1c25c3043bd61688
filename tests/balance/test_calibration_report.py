"""The card: norms in units of L1's, shares, and the losses that it makes."""

import json

import pytest
import torch
from torch.testing import assert_close

from lossmith import L1, L2, TV, Distance, Knob, GradientShare, Ramp, calibrate, parse


class Dark(Distance):
    """A regulariser that reads no prediction."""

    def measure(self, code):
        return code.square().mean(dim=1)

    def __repr__(self):
        return "Dark()"


@pytest.fixture
def views(image_pair):
    pred, target = image_pair(2, 16)
    return {"pred": pred, "target": target}


def test_l1_has_norm_1_and_l2_twice_its_root(views):
    views["pred"] = views["target"] + 0.1 * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    first, second = calibrate(L1() + L2(), views).terms
    assert first.norm == pytest.approx(1, rel=1e-6)
    error = (views["pred"] - views["target"]).square().mean().sqrt()
    assert second.norm == pytest.approx(2 * float(error), rel=1e-5)


def test_norms_do_not_mind_the_size_of_batch_or_picture(views):
    larger = {name: view.repeat(2, 1, 3, 2) for name, view in views.items()}
    loss = L1() + L2()
    for row, other in zip(calibrate(loss, views).terms, calibrate(loss, larger).terms, strict=True):
        assert other.norm == pytest.approx(row.norm, rel=1e-5)


def test_shares_and_cosines_are_those_of_the_gradients(views):
    loss = L1() + 3 * L2() + 0.01 * TV()
    card = calibrate(loss, views)
    gradients = [weight.scale * g for weight, g in zip(loss.weights, loss.gradients(views).values(), strict=True)]
    norms = torch.stack([g.norm() for g in gradients])
    assert_close(torch.tensor([row.share for row in card.terms]), norms / norms.sum())
    cosine = torch.cosine_similarity(gradients[0].flatten(), gradients[2].flatten(), dim=0)
    assert card.cosines[0][2] == card.cosines[2][0] == pytest.approx(float(cosine), abs=1e-5)


def test_rescaled_pulls_by_its_numbers(views):
    card = calibrate(2 * L1() + 0.5 * L2() + 0.1 * TV(), views)
    again = calibrate(card.rescale(), views)
    assert_close(torch.tensor([r.share for r in again.terms]), torch.tensor([2, 0.5, 0.1]) / 2.6, rtol=1e-3, atol=0)
    assert card.rescale().weights[0].scale == 2


def test_shares_become_numbers_and_the_others_stay(views):
    card = calibrate(parse("2*L1 + 30%*L2 + 0.1*TV"), views)
    loss = card.resolve_shares()
    assert [loss.weights[0].scale, loss.weights[2].scale] == [2, 0.1]
    assert calibrate(loss, views).terms[1].share == pytest.approx(0.3, rel=1e-3)
    assert card.terms[1].share == pytest.approx(0.3, rel=1e-6)
    assert calibrate(card.rescale(), views).terms[1].share == pytest.approx(0.3, rel=1e-3)


def test_shares_of_all_terms_come_to_l1(views):
    rows = calibrate(calibrate(parse("70%*L1 + 30%*L2"), views).resolve_shares(), views).terms
    assert [row.share for row in rows] == pytest.approx([0.7, 0.3], rel=1e-3)
    loss = calibrate(parse("70%*L1 + 30%*L2"), views).resolve_shares()
    pull = sum(w.scale * row.norm for w, row in zip(loss.weights, rows, strict=True))
    assert pull == pytest.approx(1, rel=1e-3)


def test_a_recipes_numbers_become_shares_for_any_pictures(views):
    card = calibrate(L1() - 20 * L2(), views)
    shares = card.to_shares()
    assert all(weight.share is not None for weight in shares.weights)
    assert shares.weights[1].share < 0
    assert_close(
        torch.tensor([row.share for row in calibrate(shares, views).terms]),
        torch.tensor([row.share for row in card.terms]),
        rtol=1e-3,
        atol=0,
    )


def test_knobs_and_schedules_stay(views):
    loss = L1() + Knob("lam") * Ramp(0, 0.5, steps=10) * L2()
    card = calibrate(loss, views)
    assert card.rescale().weights[1].factors == loss.weights[1].factors
    assert card.terms[1].share == pytest.approx(calibrate(L1() + 0.5 * L2(), views).terms[1].share)


def test_batches_are_averaged(views, image_pair):
    pred, target = image_pair(2, 16, seed=1)
    many = [views, {"pred": pred, "target": target}]
    joint = {name: torch.cat([each[name] for each in many]) for name in views}
    card, whole = calibrate(L1() + L2(), iter(many)), calibrate(L1() + L2(), joint)
    assert card.pictures == 4
    for row, other in zip(card.terms, whole.terms, strict=True):
        assert (row.norm, row.value) == pytest.approx((other.norm, other.value), rel=1e-5)
    assert card.terms[1].spread > 0


def test_a_term_with_no_path_to_the_output_keeps_its_weight(views):
    loss = L1() + 5 * Dark() + L2()
    card = calibrate(loss, {**views, "code": torch.rand(2, 4)})
    assert card.terms[1].norm is card.terms[1].share is None
    assert card.rescale().weights[1].scale == card.to_shares().weights[1].scale == 5
    assert card.notes == ("Dark has no path to the output, and keeps its weight.",)
    assert sum(row.share for row in card.terms if row.share) == pytest.approx(1)
    assert calibrate(card.to_shares(), {**views, "code": torch.rand(2, 4)}).terms[0].share == pytest.approx(
        card.terms[0].share, rel=1e-3
    )


def test_a_view_that_is_made_of_the_output_counts(views):
    pred = views["pred"].requires_grad_()
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., 8:] = 1
    made = {**views, "filled": mask * pred + (1 - mask) * views["target"]}
    card = calibrate(L1() + 0.5 * L1().on(pred="filled"), made)
    assert card.terms[1].norm == pytest.approx(0.5**0.5, rel=1e-2)


def test_the_card_tells_json_and_people_what_was_looked_at(views):
    card = calibrate(parse("L1 + 0.1*TV"), views, source="x4 by bicubic")
    record = json.loads(json.dumps(card.as_dict()))
    assert record["source"] == "x4 by bicubic"
    assert [row["name"] for row in record["terms"]] == ["L1", "TV"]
    assert parse(record["rescaled"])
    assert "x4 by bicubic: 2 pictures" in str(card)
    assert card.proportion.startswith("L1 ")
    assert card.proportion.endswith(" % of the gradient")


def test_calibrating_takes_no_gradient_from_whoever_calls_it(views):
    with torch.no_grad():
        calibrate(L1() + L2(), views)
    assert views["pred"].grad is None
    assert not views["pred"].requires_grad


def test_calibrated_weights_that_are_percent_of_a_term_without_gradient_are_refused(views):
    equal = {"pred": views["target"], "target": views["target"]}
    with pytest.raises(ValueError, match="The term 'L2' has no gradient at the output on these pictures, so that no"):
        calibrate(TV() + GradientShare(30) * L2(), equal)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("60%*L1 + 30%*L2", "The gradient shares add up to 90%, but no other term has a weight"),
        ("60%*L1 + 50%*L2", "The gradient shares add up to 110%, but they must not exceed 100%"),
        ("60%*L1 + 0*TV", "The gradient shares add up to 60%, but no other term has a weight"),
        ("100%*L1 + L2", "The shares come to 100%, and terms without one pull, too"),
    ],
)
def test_shares_that_do_not_add_up_are_refused(text, said, views):
    with pytest.raises(ValueError, match=said):
        calibrate(parse(text), views)


def test_a_term_that_is_not_finite_is_named(views):
    views["pred"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="The term 'L1' is not a finite number on these pictures"):
        calibrate(L1() + L2(), views)


def test_nothing_to_look_at_is_said():
    with pytest.raises(ValueError, match="at least one batch of views"):
        calibrate(L1(), [])
    with pytest.raises(ValueError, match="Calibrating looks at the view 'pred'; the views are target"):
        calibrate(L1(), {"target": torch.rand(1, 3, 8, 8)})
