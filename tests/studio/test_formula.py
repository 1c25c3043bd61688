"""The computations of the formula tab, and the rules for formulas of unknown users."""

import struct
import sys
import zlib

import numpy as np
import pytest

pytest.importorskip("gradio")

from PIL import Image

from lossmith import calibrate, parse
from lossmith.studio.formula import describe_formula, examine_formula, measure_gradients
from lossmith.studio.formula_rules import MAX_CHARACTERS, MAX_TERMS, parse_untrusted


@pytest.fixture
def files(tmp_path):
    dice = np.random.default_rng(0)
    found = []
    for name in ("one.png", "<img src=x onerror=alert(1)>.png"):
        smooth = Image.fromarray(dice.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((64, 48))
        smooth.save(tmp_path / name)
        found.append(tmp_path / name)
    return found


def test_a_formula_is_described_by_the_library():
    text = describe_formula("lam*L1 + TV", size=32, batch=2)
    assert [term["name"] for term in text.explanation["terms"]] == ["L1", "TV"]
    assert text.explanation["shape"] == (2, 3, 32, 32)
    assert 'Knob("lam") * L1() + TV()' in text.python
    assert "--loss" in text.command
    assert "# L1 is not expressible" in text.basicsr


def test_the_findings_are_those_of_the_doctor():
    report = examine_formula("-1*L1")
    assert report["loss"] == "-1.0 * L1()"
    assert isinstance(report["findings"], list)


def test_the_shares_are_those_of_the_calibration_and_every_term_has_an_image(files):
    result = measure_gradients("30%*L1 + 70%*TV", files, scale=2, device="cpu")
    assert [term["share"] for term in result.report["terms"]] == pytest.approx([0.3, 0.7])
    assert result.crop == 48
    assert [caption.split(":")[0] for _, caption in result.images] == [
        "target",
        "x2 by bicubic, crops of 48 px",
        "L1",
        "TV",
    ]
    assert {pixels.shape for pixels, _ in result.images} == {(48, 48, 3)}
    assert {pixels.dtype for pixels, _ in result.images} == {np.dtype(np.uint8)}


def test_a_common_scale_shows_a_weak_term_paler(files):
    def contrast(*, has_common_white):
        images = measure_gradients(
            "L1 + 0.001*L2", files, scale=2, device="cpu", has_common_white=has_common_white
        ).images
        return images[3][0].std()

    assert contrast(has_common_white=True) < 1 < 10 < contrast(has_common_white=False)


def write_bomb(path):
    """Write a PNG of a few bytes whose header promises 144 million pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in (chunk, data)]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def test_files_that_are_no_usable_images_are_named_and_left_out(files, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(files[0].read_bytes()[:60])
    (tmp_path / "empty.jpg").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    write_bomb(tmp_path / "bomb.png")
    bad = [tmp_path / name for name in ("text.png", "cut.png", "empty.jpg", "small.png", "bomb.png", "missing.png")]
    result = measure_gradients("L1 + TV", [*bad, files[0]], scale=2, device="cpu")
    assert {line.split(":")[0] for line in result.skipped} == {file.name for file in bad}, result.skipped
    with pytest.raises(ValueError, match="None of the images can be used"):
        measure_gradients("L1 + TV", bad, scale=2, device="cpu")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("L1 @ VGG('vgg16', 'conv1_1', weights='/etc/passwd')", "reads no file that a formula names"),
        ("lpips(weights='x.pth')", "reads no file that a formula names"),
        ("L1 @ CLIP(weights='folder')", "reads no file"),
        ("+".join(["L1"] * (MAX_TERMS + 1)), f"up to {MAX_TERMS} terms; the formula has {MAX_TERMS + 1}"),
        ("(" * 300 + "L1" + ")" * 300, "cannot be parsed: too many nested parentheses"),
        ("-" * 3000 + "L1", "nested too deeply"),
        ("+".join(["L1"] * 1330), "too many terms"),
        ("L1 + " * MAX_CHARACTERS, "up to 4,000 characters; got 20,000"),
        ("+".join(["L1"] * 10_000), "up to 4,000 characters"),
        ("9" * 3900 + "*L1", "weight must be"),
        ("L1\x00", "cannot be parsed"),
        ("\ud800", "cannot be parsed|Unknown name"),
        ("__import__('os')", "Unknown name"),
    ],
)
def test_a_formula_beyond_the_rules_is_refused_in_one_line(formula, message):
    with pytest.raises(ValueError, match=message) as raised:
        parse_untrusted(formula)
    assert len(str(raised.value)) < MAX_CHARACTERS + 500


def test_a_refused_formula_opens_no_file():
    opened = []
    is_watching = True

    def watch(event, arguments):
        if is_watching and event == "open" and "passwd" in str(arguments[0]):
            opened.append(arguments[0])

    sys.addaudithook(watch)
    lenses = [
        "VGG('vgg16', 'conv1_1', {})",
        "AlexNet('conv1', {})",
        "Embedded('conv1_1', {})",
        "Calibrated('alex', {})",
    ]
    lenses += ["Distilled({})", "Sensitivity({})", "SqueezeNet('fire2_squeeze', {})", "PooledVGG('relu1_2', {})"]
    for lens in lenses:
        formula = f"L1 @ {lens.format('weights=chr')}".replace("chr", '"/etc/passwd"')
        with pytest.raises(ValueError, match=r"no file|lens|layer"):
            parse_untrusted(formula)
    is_watching = False
    assert opened == []


def test_every_formula_of_the_rules_is_that_of_the_parser():
    for formula in ("L1", "30%*L1 + 70%*perceptual", "L1 @ VGG('vgg16', 'conv1_1', weights='random')", "lam*esrgan()"):
        assert repr(parse_untrusted(formula)) == repr(parse(formula))


def test_the_measurement_is_that_of_calibrate(files):
    import torch

    result = measure_gradients("L1 + TV", files[:1], scale=2, device="cpu")
    target, pred = (torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255 for pixels, _ in result.images[:2])
    again = calibrate(parse("L1 + TV"), {"pred": pred, "target": target}).terms[0].value
    assert result.report["terms"][0]["value"] == pytest.approx(again, rel=0.2)
