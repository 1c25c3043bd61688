"""The examination of losses for images with other bands, depths and ranges than photographs."""

import pytest
import torch

from lossmith import check, parse

CORRECT = ["L1 + 0.1*SSIM", "Charbonnier(bands='joint') + 0.01*TV('isotropic', bands='joint')", "L1 + wavelet_l1"]


@pytest.mark.parametrize("channels", [1, 4, 13])
@pytest.mark.parametrize("text", CORRECT)
def test_a_correct_loss_has_no_findings(text, channels):
    report = check(parse(text), channels=channels)
    assert not report.errors, report
    assert not [finding for finding in report.findings if finding.check != "balance"], report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("L1 + 0.01*perceptual", 1),
        ("L1 + 0.01*perceptual @ Bands(4, 3, 2)", 13),
        ("L1 + 0.01*perceptual @ Bands('each')", 4),
        ("L1 + 0.01*perceptual @ Bands('mean')", 13),
        ("L1 + 0.1*SpectralAngle", 13),
    ],
)
def test_a_network_on_some_bands_has_no_findings(text, channels):
    report = check(parse(text), channels=channels)
    assert not [finding for finding in report.findings if finding.check != "balance"], report


@pytest.mark.parametrize(
    ("text", "channels", "cure"),
    [
        ("L1 + perceptual", 4, r"Bands(3, 2, 1), ... @ Bands("),
        ("L1 + perceptual", 13, r"say which bands are red, green and blue"),
        ("L1 + colour", 1, "a grey image has no colours: remove the term"),
        ("L1 + colour", 13, "Bands(3, 2, 1)"),
        ("L1 + SpectralAngle", 1, "at least 2 bands"),
        ("L1 + L1 @ Bands(8, 4, 2)", 4, "needs images of at least 8 bands; got 4 bands"),
    ],
)
def test_a_term_for_other_bands_is_found_with_its_cure(text, channels, cure):
    (error,) = check(parse(text), channels=channels).errors
    assert cure.lower() in f"{error.message} {error.suggestion}".lower() and error.check == "exception"


def test_bands_without_any_gradient_are_found():
    report = check(parse("L1 @ Bands(2, 1)"), channels=4)
    (finding,) = [finding for finding in report.findings if finding.check == "coverage"]
    assert "channel(s) 2, 3 of 4" in finding.message and "a term on all bands" in finding.suggestion


@pytest.mark.parametrize(
    ("values", "cure"),
    [
        (lambda x: 255 * x, "Divide by 255."),
        (lambda x: (65535 * x).round(), "65535 for 16 bits"),
        (lambda x: (4095 * x).round(), "4095 for 12 bits"),
        (lambda x: (1000 * x - 400).round(), "(x - low) / (high - low)"),
        (lambda x: 40 * x**8, "HDR or physical"),
        (lambda x: 2 * x - 1, "(x + 1) / 2"),
        (lambda x: (x - 0.5) / 0.2, "Undo the normalisation"),
        (lambda x: torch.where(x < 0.01, torch.nan, x), "use mask_no_data"),
    ],
)
def test_a_range_is_found_with_its_cure(values, cure):
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    findings = check(parse("L1"), {"pred": image, "target": values(image)}).findings
    (finding,) = [finding for finding in findings if finding.check == "range"]
    assert finding.severity == "error" and cure in finding.suggestion


@pytest.mark.parametrize("channels", [1, 13])
@pytest.mark.parametrize(("top", "count"), [(65535, 1), (1, 0)])
def test_sixteen_bits_are_found_in_any_number_of_bands(channels, top, count):
    image = torch.rand(2, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    findings = check(parse("L1"), {"pred": image, "target": (top * image).round() if count else image}).findings
    assert sum(finding.check == "range" for finding in findings) == count


def test_a_target_without_any_data_is_no_error():
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    inputs = {"pred": image, "target": 1 - image, "valid": torch.zeros(2, 1, 32, 32)}
    assert not check(parse("L1").on(mask="valid"), inputs).errors
