"""The doctor's check of the balance of a loss: shares of the gradient at the prediction with the weights as used."""

import pytest
import torch

from lossmith import calibrate, check, parse
from lossmith._format import format_percent
from lossmith.doctor import examine
from lossmith.doctor.balance_checks import find_preset, measure_gradient_shares

SHALLOW = "perceptual('vgg16', 'conv1_2', weights='random')"


def balance_findings(text, inputs=None):
    """Return the findings about the balance as (severity, term)."""
    found = check(parse(text), inputs).findings
    return [(each.severity, each.term) for each in found if each.check == "balance"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("L1 + 0.1*perceptual", [("warning", "L1")]),
        ("L1 + 0.002*perceptual", []),
        ("L1 + 0.002*perceptual + 0.05*SSIM", []),
        ("70%*L1 + 30%*perceptual", []),
        ("L1 + 30%*perceptual", []),
        ("99.5%*L1 + 0.5%*perceptual", []),
        ("30%*perceptual + L1 + 0.00001*TV", [("warning", "TV")]),
        ("L1 + 0*TV", []),
        ("L1 + 1e9*lam*TV", []),
        ("L1 + OnFrom(10)*0.1*perceptual", [("warning", "L1")]),
        ("L1 + 0.1*perceptual + 1e6*Adversarial('patch', width=8)", [("warning", "L1")]),
        ("60%*L1 + 30%*perceptual + 10%*Adversarial('patch', width=8)", []),
    ],
)
def test_a_term_below_one_percent_of_the_gradient_is_reported(text, expected):
    assert balance_findings(text) == expected


def test_the_check_of_a_batch_measures_what_calibrate_measures():
    target = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    inputs = {"pred": (target * 0.9 + 0.05), "target": target}
    loss = parse("L1 + 0.001*TV")
    (finding,) = [each for each in check(loss, inputs).findings if each.check == "balance"]
    share = calibrate(loss, inputs).terms[1].share
    assert f"It has {format_percent(share)}% of the gradient" in finding.message


@pytest.mark.slow
def test_published_weights_are_a_note():
    text = f"0.001*L1 + {SHALLOW}"
    assert find_preset(parse(text)) == ""
    assert find_preset(parse("esrgan(width=8, warmup=100)")) == "esrgan"
    assert find_preset(parse(repr(parse("esrgan()")))) == "esrgan"
    assert find_preset(parse("2*esrgan()")) == ""


@pytest.mark.slow
def test_the_note_on_published_weights_names_their_function(monkeypatch):
    from lossmith.losses import presets_restoration

    monkeypatch.setattr(presets_restoration, "esrgan", lambda: parse(f"0.00001*L1 + {SHALLOW}"))
    (note,) = [each for each in check(parse(f"0.00001*L1 + {SHALLOW}")).findings if each.check == "balance"]
    assert (note.severity, note.term) == ("note", "L1")
    assert "the weights are those of esrgan()" in note.message


@pytest.mark.slow
def test_an_untrained_network_in_place_of_missing_weights_is_not_compared(monkeypatch):
    text = f"1e-6*L1 + {SHALLOW}"
    assert balance_findings(text) == [("warning", "L1")]
    monkeypatch.setattr(examine, "with_untrained_networks", lambda loss: (loss, ["No weights for vgg16 were found."]))
    assert balance_findings(text) == []


def test_a_loss_without_a_prediction_has_no_shares():
    assert measure_gradient_shares(parse("KL")) is None
