"""Invalid input: one clear line, status 2, and no file lost."""

import json
import sys

import pytest
from PIL import Image

from lossmith.backbone import clear_backbones


def one_line(text):
    assert text.startswith("lossmith: ")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    return text


def test_an_empty_folder_raises(train, tmp_path):
    (tmp_path / "none").mkdir()
    status, _, error = train(images=tmp_path / "none")
    assert status == 2
    assert "contains no images" in one_line(error)
    assert not (tmp_path / "run").exists()


def test_a_missing_folder_raises(train, tmp_path):
    status, _, error = train(images=tmp_path / "nowhere")
    assert status == 2
    assert "does not exist" in one_line(error)


@pytest.mark.slow
def test_unreadable_images_are_skipped_counted_and_listed(train, photos, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for i in range(4):
        turned = Image.open(photos / f"{i}.png").transpose(Image.Transpose.ROTATE_90)  # the photos are validated on
        turned.save(folder / f"{i}.png")
    Image.open(photos / "0.png").save(tmp_path / "whole.jpg")
    (folder / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:700])
    (folder / "notes.png").write_text("dear diary")
    status, out, _ = train("--val", photos, images=folder)
    skipped = json.loads((tmp_path / "run" / "skipped.json").read_text())
    assert status == 0
    assert "skipped" in out
    assert {entry["file"].rsplit("/", 1)[-1] for entry in skipped} == {"cut.jpg", "notes.png"}
    assert all(entry["reason"] for entry in skipped)


def test_images_smaller_than_the_crop_raise(train):
    status, _, error = train("--crop", "128")
    assert status == 2
    assert "64x64 px is too small; the minimum is 128x128 px" in one_line(error)


def test_missing_weights_raise_with_instructions(train, tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    clear_backbones()  # an earlier test may have loaded the weights
    status, _, error = train(loss="L1 + 0.1*perceptual('vgg19')")
    assert status == 2
    assert "No weights for vgg19 were found. Do one of these" in one_line(error)
    assert not (tmp_path / "run").exists()


def test_an_invalid_formula_raises_with_a_caret(train, tmp_path):
    status, _, error = train(loss="L1 + 0.1*perceptua")
    assert status == 2
    assert "did you mean 'perceptual'?" in error
    assert error.splitlines()[-1].strip() == "^"
    assert not (tmp_path / "run").exists()


def test_an_input_that_the_task_does_not_provide_raises(train, tmp_path):
    status, _, error = train(loss="L1 + L1.on(pred='filled')")
    assert status == 2
    assert "reads the input 'filled', which super-resolution does not provide; it provides pred, target" in one_line(
        error
    )
    assert not (tmp_path / "run").exists()


def test_a_knob_without_a_value_raises(train):
    status, _, error = train(loss="L1 + lam*TV")
    assert status == 2
    assert "The knob 'lam' has no value" in one_line(error)


def test_a_crop_too_small_for_the_network_of_a_term_raises(train):
    status, _, error = train("--crop", "8", loss="L1 + perceptual('vgg19', 'conv5_4', weights='random')")
    assert status == 2
    assert "vgg19 needs images of at least 16 px" in one_line(error)


def test_an_unknown_network_raises(train):
    status, _, error = train("--model", "esdr")
    assert status == 2
    assert "Did you mean 'edsr'?" in one_line(error)


@pytest.mark.slow
def test_another_scale_than_that_of_the_checkpoint_raises(run_cli, photos, trained):
    status, _, error = run_cli("evaluate", trained, "--scale", "4", "--images", photos)
    assert status == 2
    assert "has the upscaling factor 2; the required factor is 4" in one_line(error)


def test_a_folder_that_is_not_a_run_raises(run_cli, photos, tmp_path):
    for words in (["evaluate", tmp_path, "--images", photos], ["report", tmp_path]):
        status, _, error = run_cli(*words)
        assert status == 2
        assert "has no" in one_line(error) or "has none" in one_line(error)
    status, _, error = run_cli("evaluate", tmp_path / "nowhere", "--images", photos)
    assert status == 2
    assert "There is no run or file" in one_line(error)


def test_a_file_that_is_not_a_checkpoint_raises(run_cli, photos, tmp_path):
    (tmp_path / "w.safetensors").write_text("hello")
    status, _, error = run_cli("evaluate", tmp_path / "w.safetensors", "--images", photos)
    assert status == 2
    assert "w.safetensors" in one_line(error)


def test_a_file_as_run_folder_raises(train, tmp_path):
    (tmp_path / "run").write_text("mine")
    status, _, error = train()
    assert status == 2
    assert "is a file" in one_line(error)
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_an_unwritable_run_folder_raises(train):
    status, _, error = train(out="/proc/run")
    assert status == 2
    assert "'/proc/run' cannot be written" in one_line(error)


def test_other_settings_than_those_of_the_run_raise(train):
    assert train()[0] == 0
    status, _, error = train("--lr", "0.1")
    assert status == 2
    assert "was started with lr 0.0005, but 0.1 is given now" in one_line(error)


def test_a_damaged_checkpoint_raises(train, tmp_path):
    train()
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_bytes(b"half")
    status, _, error = train("--steps", "6")
    assert status == 2
    assert "last.ckpt' cannot be read" in one_line(error)


def test_an_unreadable_input_of_restore_raises(run_cli, trained, tmp_path):
    (tmp_path / "notes.png").write_text("dear diary")
    status, _, error = run_cli("restore", trained, tmp_path / "notes.png", tmp_path / "big.png")
    assert status == 2
    assert "notes.png' cannot be read as an image" in one_line(error)


def test_an_output_of_restore_without_a_format_raises(run_cli, photos, trained, tmp_path):
    status, _, error = run_cli("restore", trained, photos / "0.png", tmp_path / "big")
    assert status == 2
    assert "must end in one of .png" in one_line(error)


def test_transparency_in_an_opaque_format_raises(run_cli, trained, tmp_path):
    Image.new("RGBA", (20, 20), (9, 9, 9, 99)).save(tmp_path / "glass.png")
    status, _, error = run_cli("restore", trained, tmp_path / "glass.png", tmp_path / "big.jpg")
    assert status == 2
    assert "and an alpha channel; use .png" in one_line(error)


@pytest.mark.parametrize("words", [["--precision", "half"], ["--schedule", "step"], ["--ema", "1"], ["--crop", "17"]])
def test_an_option_out_of_range_raises(train, words):
    status, _, error = train(*words)
    assert status == 2
    assert words[0].removeprefix("--") in one_line(error)


def test_an_unavailable_precision_raises(train):
    status, _, error = train("--precision", "16-mixed")
    assert status == 2
    assert "bf16-mixed" in one_line(error)


@pytest.mark.parametrize("words", [["--images", ""], ["--val="], ["--cache", ""]])
def test_an_empty_path_is_not_the_working_folder(train, words):
    status, _, error = train(*words)
    assert status == 2
    assert f"{words[0].rstrip('=')} is empty" in one_line(error)
