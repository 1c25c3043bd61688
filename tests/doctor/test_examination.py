"""The examination itself: it changes nothing, says what it is given, and takes a run's first batch."""

import copy
import json

import broken
import pytest
import torch
from torch import nn

from lossmith import L1, L2, MSSSIM, SSIM, TV, Adversarial, External, InfoNCE, Knob, OnFrom, parse
from lossmith.doctor import check
from lossmith.doctor.inputs import STRESS_INPUTS
from lossmith.lens import clear_backbones


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(4, 3, 80, 80, generator=generator)
    return {"pred": (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1), "target": target}


def test_a_sound_loss_has_no_findings(batch):
    assert str(check(L1() + 0.1 * SSIM(), batch)) == "L1() + 0.1 * SSIM(): sound."


def test_it_changes_neither_the_loss_nor_the_views_nor_the_random_numbers(batch):
    loss = (L1() + Adversarial("patch", width=4) + broken.Normed() + External(broken.Recast())).eval()
    state, before = copy.deepcopy(loss.state_dict()), {name: view.clone() for name, view in batch.items()}
    chance = torch.get_rng_state()
    check(loss, batch)
    assert torch.equal(torch.get_rng_state(), chance)
    assert not loss.training
    assert not any(part.training for part in loss.modules())
    torch.testing.assert_close(loss.state_dict(), state, rtol=0, atol=0)
    for name, view in batch.items():
        assert torch.equal(view, before[name])
        assert not view.requires_grad


def test_it_works_without_gradients_and_in_inference_mode(batch):
    with torch.no_grad():
        assert not check(L1(), batch).findings
    with torch.inference_mode():
        assert not check(L1()).findings


def test_the_first_batch_of_a_run_is_enough_even_with_one_image_and_a_graph(batch):
    net = nn.Conv2d(3, 3, 1)
    views = {"pred": net(batch["pred"][:1]).sigmoid(), "target": batch["target"][:1]}
    assert not check(L1() + 0.1 * SSIM() + 0.1 * TV(), views).raise_if_broken().errors
    assert net.weight.grad is None


def test_terms_that_see_no_pictures_or_others_than_pred_are_examined(batch):
    loss = L1() + InfoNCE().on(pred="image", target="text")
    generator = torch.Generator().manual_seed(0)
    vectors = {name: torch.randn(4, 8, generator=generator) for name in ("image", "text")}
    assert not check(loss, batch | vectors).findings


def test_a_contrast_of_one_image_has_nothing_to_follow():
    loss, vectors = InfoNCE(), {"pred": torch.ones(1, 8), "target": torch.ones(1, 8)}
    assert {finding.check for finding in check(loss, vectors).errors} == {"gradient"}


def test_half_precision_views_are_examined(batch):
    assert not check(L1() + SSIM(), {name: view.bfloat16() for name, view in batch.items()}).errors


def test_a_view_of_truth_values_may_stand_first():
    views = {"conditioned": torch.tensor([True, False])}
    views |= {name: torch.randn(2, 3, 16, 16) for name in ("velocity", "clean", "noise")}
    ordered = {name: STRESS_INPUTS[name](views) for name in ("opposite", "black on noise")}
    assert all(changed["conditioned"] is views["conditioned"] for changed in ordered.values())
    assert torch.equal(ordered["opposite"]["clean"], 1 - views["velocity"])


def test_masks_are_no_reason_for_an_alarm(batch):
    mask = torch.zeros(4, 1, 80, 80)
    mask[..., 20:60, 20:60] = 1
    assert not check(L1().on(mask="mask"), batch | {"mask": mask}).findings


def test_knobs_and_schedules_are_no_reason_for_an_alarm():
    assert not check(Knob("lam") * L1() + 1e6 * OnFrom(10) * L2() * 1e-6).errors


def test_a_missing_view_is_refused():
    with pytest.raises(ValueError, match="reads the input 'target'"):
        check(L1(), {"pred": torch.rand(1, 3, 8, 8)})


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 0, 8)])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(ValueError, match="wants the shape of a batch"):
        check(L1(), shape=shape)


def test_pictures_too_small_for_a_term_are_an_error_that_says_so():
    (finding,) = check(L1() + MSSSIM(), shape=(2, 3, 64, 64)).errors
    assert "MSSSIM(3) fits" in finding.seen
    assert not check(MSSSIM()).errors  # which takes a size that fits


def test_missing_weights_are_said_and_an_untrained_network_stands_in(monkeypatch, tmp_path):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(tmp_path / "nowhere"))
    clear_backbones()  # a test before may have found them
    (finding,) = check(parse("L1 @ VGG('vgg16', 'conv1_2')"), shape=(2, 3, 16, 16)).findings
    assert (finding.severity, finding.check) == ("warning", "weights")
    assert "which is no folder" in finding.cure


def test_a_report_is_json_and_the_worst_comes_first():
    report = check(TV(per="image") + broken.Patches() + 200 * broken.Hidden(), shape=(2, 3, 16, 16))
    record = json.loads(json.dumps(report.as_dict()))
    ranks = [["error", "warning", "note"].index(finding["severity"]) for finding in record["findings"]]
    assert record["broken"]
    assert ranks == sorted(ranks)
    assert record["findings"][0]["term"] == "Patches"
