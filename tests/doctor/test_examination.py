"""The examination has no side effects, reports missing inputs, and works on the first batch of a run."""

import copy
import json
from typing import ClassVar

import broken
import pytest
import torch
from torch import nn

from lossmith import L1, L2, MSSSIM, SSIM, TV, Adversarial, Distance, External, InfoNCE, Knob, OnFrom, parse
from lossmith.backbone import clear_backbones
from lossmith.doctor import check
from lossmith.doctor.edge_cases import FINITE_CASES
from lossmith.doctor.example_inputs import make_inputs
from lossmith.formula.example_input import ExampleInput


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(4, 3, 80, 80, generator=generator)
    return {"pred": (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1), "target": target}


def test_a_correct_loss_has_no_findings(batch):
    assert str(check(L1() + 0.1 * SSIM(), batch)) == "L1() + 0.1 * SSIM(): no problems found."


@pytest.mark.slow
def test_the_loss_the_inputs_and_the_random_state_are_unchanged(batch):
    loss = (L1() + Adversarial("patch", width=4) + broken.TrainingNorm() + External(broken.Casting())).eval()
    state, before = copy.deepcopy(loss.state_dict()), {name: tensor.clone() for name, tensor in batch.items()}
    random_state = torch.get_rng_state()
    check(loss, batch)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not loss.training
    assert not any(part.training for part in loss.modules())
    torch.testing.assert_close(loss.state_dict(), state, rtol=0, atol=0)
    for name, tensor in batch.items():
        assert torch.equal(tensor, before[name])
        assert not tensor.requires_grad


def test_it_works_without_gradients_and_in_inference_mode(batch):
    with torch.no_grad():
        assert not check(L1(), batch).findings
    with torch.inference_mode():
        assert not check(L1()).findings


def test_one_image_with_a_graph_is_enough(batch):
    net = nn.Conv2d(3, 3, 1)
    inputs = {"pred": net(batch["pred"][:1]).sigmoid(), "target": batch["target"][:1]}
    assert not check(L1() + 0.1 * SSIM() + 0.1 * TV(), inputs).raise_if_broken().errors
    assert net.weight.grad is None


def test_terms_on_vectors_or_other_inputs_than_pred_are_examined(batch):
    loss = L1() + InfoNCE().on(pred="image", target="text")
    generator = torch.Generator().manual_seed(0)
    vectors = {name: torch.randn(4, 8, generator=generator) for name in ("image", "text")}
    assert not check(loss, batch | vectors).findings


def test_a_contrast_of_one_image_has_no_gradient():
    loss, vectors = InfoNCE(), {"pred": torch.ones(1, 8), "target": torch.ones(1, 8)}
    assert {finding.check for finding in check(loss, vectors).errors} == {"gradient"}


def test_half_precision_inputs_are_examined(batch):
    assert not check(L1() + SSIM(), {name: tensor.bfloat16() for name, tensor in batch.items()}).errors


def test_a_boolean_input_may_be_the_first():
    inputs = {"conditioned": torch.tensor([True, False])}
    inputs |= {name: torch.randn(2, 3, 16, 16) for name in ("velocity", "clean", "noise")}
    cases = {name: FINITE_CASES[name](inputs) for name in ("opposite", "black on noise")}
    assert all(changed["conditioned"] is inputs["conditioned"] for changed in cases.values())
    assert torch.equal(cases["opposite"]["clean"], 1 - inputs["velocity"])


def test_a_mask_causes_no_finding(batch):
    mask = torch.zeros(4, 1, 80, 80)
    mask[..., 20:60, 20:60] = 1
    assert not check(L1().on(mask="mask"), batch | {"mask": mask}).findings


def test_knobs_and_schedules_cause_no_error():
    assert not check(Knob("lam") * L1() + 1e6 * OnFrom(10) * L2() * 1e-6).errors


def test_a_missing_input_raises():
    with pytest.raises(ValueError, match="reads the input 'target'"):
        check(L1(), {"pred": torch.rand(1, 3, 8, 8)})


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 0, 8)])
def test_an_invalid_shape_raises(shape):
    with pytest.raises(ValueError, match="needs the shape of a batch"):
        check(L1(), shape=shape)


def test_images_too_small_for_a_term_are_an_error():
    (finding,) = check(L1() + MSSSIM(), shape=(2, 3, 64, 64)).errors
    assert "MSSSIM(3) fits" in finding.message
    assert not check(MSSSIM()).errors  # which takes a size that fits


def test_an_untrained_network_replaces_missing_weights_with_a_warning(monkeypatch, tmp_path):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(tmp_path / "nowhere"))
    clear_backbones()  # an earlier test may have found them
    (finding,) = check(parse("L1 @ VGG('vgg16', 'conv1_2')"), shape=(2, 3, 16, 16)).findings
    assert (finding.severity, finding.check) == ("warning", "weights")
    assert str(tmp_path / "nowhere") in finding.suggestion


def test_a_report_is_json_with_errors_first():
    report = check(TV(per="image") + broken.DetachedPatches() + 200 * broken.Scaled(), shape=(2, 3, 16, 16))
    record = json.loads(json.dumps(report.as_dict()))
    ranks = [["error", "warning", "note"].index(finding["severity"]) for finding in record["findings"]]
    assert record["broken"]
    assert ranks == sorted(ranks)
    assert record["findings"][0]["term"] == "DetachedPatches"


class TokenLoss(Distance):
    """A user-defined loss on token probabilities, which its own `example_inputs` describe."""

    reads_images = False
    example_inputs: ClassVar = {
        "tokens": ExampleInput("softmax", (5, 7)),
        "labels": ExampleInput("binary", (5,), requires_grad=False),
        "vocabulary": ExampleInput("normal", (7,), requires_grad=False, is_batched=False),
    }

    def measure(self, tokens, labels, vocabulary):
        return ((tokens @ vocabulary[0]).square() * labels.detach()).mean(dim=1)

    def __repr__(self):
        return "TokenLoss()"


def test_a_user_defined_loss_describes_its_inputs():
    inputs = make_inputs(TokenLoss(), (16, 16), batch_size=2)
    assert {name: tuple(tensor.shape) for name, tensor in inputs.items()} == {
        "tokens": (2, 5, 7),
        "labels": (2, 5),
        "vocabulary": (2, 7),
    }
    torch.testing.assert_close(inputs["tokens"].sum(dim=-1), torch.ones(2, 5))
    assert not check(TokenLoss()).errors


def test_a_user_defined_loss_explains_its_gradient():
    class Weighted(broken.PartlyDetached):
        gradient_note = "the patches are held constant"

    report = check(Weighted(), shape=(2, 3, 16, 16))
    assert not report.errors
    assert "the patches are held constant" in {f.check: f.message for f in report.findings}["derivative"]
