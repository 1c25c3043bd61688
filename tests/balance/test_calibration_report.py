"""The calibration report: gradient norms in units of L1's, shares, and the resulting losses."""

import json

import pytest
import torch
from torch.testing import assert_close

from lossmith import L1, L2, TV, Distance, GradientShare, Knob, Ramp, calibrate, parse


class Unconnected(Distance):
    """A regulariser that reads no prediction."""

    reads_images = False

    def measure(self, code):
        return code.square().mean(dim=1)

    def __repr__(self):
        return "Unconnected()"


@pytest.fixture
def inputs(image_pair):
    pred, target = image_pair(2, 16)
    return {"pred": pred, "target": target}


def test_l1_has_norm_1_and_l2_twice_its_root(inputs):
    inputs["pred"] = inputs["target"] + 0.1 * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    first, second = calibrate(L1() + L2(), inputs).terms
    assert first.norm == pytest.approx(1, rel=1e-6)
    error = (inputs["pred"] - inputs["target"]).square().mean().sqrt()
    assert second.norm == pytest.approx(2 * float(error), rel=1e-5)


def test_norms_do_not_depend_on_the_size_of_batch_and_image(inputs):
    larger = {name: image.repeat(2, 1, 3, 2) for name, image in inputs.items()}
    loss = L1() + L2()
    for term, other in zip(calibrate(loss, inputs).terms, calibrate(loss, larger).terms, strict=True):
        assert other.norm == pytest.approx(term.norm, rel=1e-5)


def test_shares_and_cosines_are_those_of_the_gradients(inputs):
    loss = L1() + 3 * L2() + 0.01 * TV()
    report = calibrate(loss, inputs)
    gradients = [weight.scale * g for weight, g in zip(loss.weights, loss.gradients(inputs).values(), strict=True)]
    norms = torch.stack([g.norm() for g in gradients])
    assert_close(torch.tensor([term.share for term in report.terms]), norms / norms.sum())
    cosine = torch.cosine_similarity(gradients[0].flatten(), gradients[2].flatten(), dim=0)
    assert report.cosines[0][2] == report.cosines[2][0] == pytest.approx(float(cosine), abs=1e-5)


def test_rescaled_weights_are_ratios_of_gradient_norms(inputs):
    report = calibrate(2 * L1() + 0.5 * L2() + 0.1 * TV(), inputs)
    rescaled = calibrate(report.rescale(), inputs)
    assert_close(torch.tensor([r.share for r in rescaled.terms]), torch.tensor([2, 0.5, 0.1]) / 2.6, rtol=1e-3, atol=0)
    assert report.rescale().weights[0].scale == 2


def test_shares_become_numbers_and_other_weights_are_unchanged(inputs):
    report = calibrate(parse("2*L1 + 30%*L2 + 0.1*TV"), inputs)
    loss = report.resolve_shares()
    assert [loss.weights[0].scale, loss.weights[2].scale] == [2, 0.1]
    assert calibrate(loss, inputs).terms[1].share == pytest.approx(0.3, rel=1e-3)
    assert report.terms[1].share == pytest.approx(0.3, rel=1e-6)
    assert calibrate(report.rescale(), inputs).terms[1].share == pytest.approx(0.3, rel=1e-3)


def test_norms_of_shares_of_all_terms_add_up_to_l1s(inputs):
    rows = calibrate(calibrate(parse("70%*L1 + 30%*L2"), inputs).resolve_shares(), inputs).terms
    assert [term.share for term in rows] == pytest.approx([0.7, 0.3], rel=1e-3)
    loss = calibrate(parse("70%*L1 + 30%*L2"), inputs).resolve_shares()
    total = sum(w.scale * term.norm for w, term in zip(loss.weights, rows, strict=True))
    assert total == pytest.approx(1, rel=1e-3)


def test_numbers_become_shares(inputs):
    report = calibrate(L1() - 20 * L2(), inputs)
    shares = report.to_shares()
    assert all(weight.share is not None for weight in shares.weights)
    assert shares.weights[1].share < 0
    assert_close(
        torch.tensor([term.share for term in calibrate(shares, inputs).terms]),
        torch.tensor([term.share for term in report.terms]),
        rtol=1e-3,
        atol=0,
    )


def test_knobs_and_schedules_are_kept(inputs):
    loss = L1() + Knob("lam") * Ramp(0, 0.5, steps=10) * L2()
    report = calibrate(loss, inputs)
    assert report.rescale().weights[1].factors == loss.weights[1].factors
    assert report.terms[1].share == pytest.approx(calibrate(L1() + 0.5 * L2(), inputs).terms[1].share)


def test_batches_are_averaged(inputs, image_pair):
    pred, target = image_pair(2, 16, seed=1)
    batches = [inputs, {"pred": pred, "target": target}]
    joint = {name: torch.cat([batch[name] for batch in batches]) for name in inputs}
    report, whole = calibrate(L1() + L2(), iter(batches)), calibrate(L1() + L2(), joint)
    assert report.num_images == 4
    for term, other in zip(report.terms, whole.terms, strict=True):
        assert (term.norm, term.value) == pytest.approx((other.norm, other.value), rel=1e-5)
    assert report.terms[1].relative_std > 0


def test_a_term_with_no_path_to_the_output_keeps_its_weight(inputs):
    loss = L1() + 5 * Unconnected() + L2()
    report = calibrate(loss, {**inputs, "code": torch.rand(2, 4)})
    assert report.terms[1].norm is report.terms[1].share is None
    assert report.rescale().weights[1].scale == report.to_shares().weights[1].scale == 5
    assert report.notes == ("Unconnected has no path to the output and keeps its weight.",)
    assert sum(term.share for term in report.terms if term.share) == pytest.approx(1)
    assert calibrate(report.to_shares(), {**inputs, "code": torch.rand(2, 4)}).terms[0].share == pytest.approx(
        report.terms[0].share, rel=1e-3
    )


def test_an_input_computed_from_the_output_contributes_to_the_gradient(inputs):
    pred = inputs["pred"].requires_grad_()
    mask = torch.zeros(2, 1, 16, 16)
    mask[..., 8:] = 1
    composed = {**inputs, "filled": mask * pred + (1 - mask) * inputs["target"]}
    report = calibrate(L1() + 0.5 * L1().on(pred="filled"), composed)
    assert report.terms[1].norm == pytest.approx(0.5**0.5, rel=1e-2)


def test_the_report_is_available_as_json_and_text(inputs):
    report = calibrate(parse("L1 + 0.1*TV"), inputs, source="x4 by bicubic")
    record = json.loads(json.dumps(report.as_dict()))
    assert record["source"] == "x4 by bicubic"
    assert [term["name"] for term in record["terms"]] == ["L1", "TV"]
    assert parse(record["rescaled"])
    assert "x4 by bicubic: 2 images" in str(report)
    assert report.proportion.startswith("L1 ")
    assert report.proportion.endswith(" % of the gradient")


def test_calibration_leaves_no_gradient_at_its_inputs(inputs):
    with torch.no_grad():
        calibrate(L1() + L2(), inputs)
    assert inputs["pred"].grad is None
    assert not inputs["pred"].requires_grad


def test_a_share_of_a_term_without_a_gradient_raises(inputs):
    equal = {"pred": inputs["target"], "target": inputs["target"]}
    with pytest.raises(ValueError, match="The term 'L2' has no gradient at the output on these images: no weight"):
        calibrate(TV() + GradientShare(30) * L2(), equal)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("60%*L1 + 30%*L2", "The gradient shares add up to 90%, but no other term has a weight"),
        ("60%*L1 + 50%*L2", "The gradient shares add up to 110%, but they must not exceed 100%"),
        ("60%*L1 + 0*TV", "The gradient shares add up to 60%, but no other term has a weight"),
        ("100%*L1 + L2", "The shares add up to 100%, but terms without a share have a gradient"),
    ],
)
def test_shares_that_do_not_add_up_raise(text, message, inputs):
    with pytest.raises(ValueError, match=message):
        calibrate(parse(text), inputs)


def test_a_nonfinite_term_raises(inputs):
    inputs["pred"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="The term 'L1' is not finite on these images"):
        calibrate(L1() + L2(), inputs)


def test_missing_batches_and_inputs_raise():
    with pytest.raises(ValueError, match="at least one batch of inputs"):
        calibrate(L1(), [])
    with pytest.raises(ValueError, match="Calibration needs the input 'pred'; the inputs are target"):
        calibrate(L1(), {"target": torch.rand(1, 3, 8, 8)})
