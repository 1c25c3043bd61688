"""Output and errors of the commands for text-to-image networks."""

import io
import json

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lossmith.cli import main
from lossmith.cli.evaluate_captions import print_caption_metrics
from lossmith.train import Settings, train

DECODER = {"name": "direct-decoder", "channels": [8, 4], "latent_dim": 3}
COMMON = {"scale": 1, "crop": 16, "batch": 3, "val_count": 2, "steps": 1, "options": {"encoder": "words"}}


@pytest.fixture(scope="module")
def images(write_captioned_images, tmp_path_factory):
    """A folder of sixteen images with two captions each, and two unusable files."""
    folder = tmp_path_factory.mktemp("images") / "ours"
    write_captioned_images(folder, 16)
    (folder / "alone.txt").write_text("no image")
    (folder / "0.txt").unlink()
    return folder


@pytest.fixture(scope="module")
def direct_run(images, tmp_path_factory):
    """The folder and the output of a run of the direct decoder."""
    out, printed = tmp_path_factory.mktemp("runs") / "direct", io.StringIO()
    settings = Settings(**COMMON, task="direct-text-to-image", images=str(images), loss="L1", model=DECODER)
    train(settings, out, console=Console(file=printed, width=200), device="cpu", workers=0)
    return out, printed.getvalue()


def test_a_run_prints_the_numbers_of_captions_and_of_skipped_files(direct_run):
    assert "26 captions, 2 skipped\n" in direct_run[1]  # two of 15 images are held out


def test_sample_writes_no_image_of_a_network_that_gives_nan(direct_run, tmp_path, capsys):
    weights = tmp_path / "broken.safetensors"
    with safe_open(direct_run[0] / "model.safetensors", "pt") as opened:
        metadata = opened.metadata()
    state = load_file(direct_run[0] / "model.safetensors")
    save_file({name: torch.full_like(value, float("nan")) for name, value in state.items()}, weights, metadata)
    arguments = ["sample", str(weights), "a red ring", "--grid", "1x2", "--out", str(tmp_path / "out.png")]
    assert main([*arguments, "--device", "cpu"]) == 2
    assert "The network's output for 'a red ring, seed 0' is not finite" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def test_calibrate_raises_on_a_network_that_is_no_diffusion_model(direct_run, images, capsys):
    assert main(["calibrate", "L1", "--captions", str(images), "--model", str(direct_run[0])]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("is not a diffusion model. Give a run of lossmith train text-to-image.")


@pytest.mark.slow
def test_calibrate_truncates_nothing_in_a_pipe(tmp_path, run_training, capsys, monkeypatch):
    run_training(tmp_path / "run", steps=1)
    monkeypatch.setenv("COLUMNS", "80")
    formula = "imagen + 1e-5 * AttentionMask + Dispersive"
    options = ["--captions", "shapes", "--batches", "1", "--batch", "2", "--device", "cpu"]
    assert main(["calibrate", formula, "--model", str(tmp_path / "run"), *options]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert out.count("AttentionMask") == 2


def test_evaluate_truncates_nothing_in_a_pipe(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = ["background", "position", "colour", "shape", "size", "joint", "r_precision"]
    metrics = dict.fromkeys(names, 0.125)
    row = {"guidance": 2.0, **metrics, "kid": {"value": 0.5}, "diversity": {"vendi": 1.5}}
    row |= {"memorisation": {"ratio": 1.0, "copies": 0.25}}
    record = {"what": "runs/a", "n": 8, "captions": 4, "captions_source": "shapes", "val_source": None, "remarks": []}
    bounds = {"chance": metrics, "ceiling": metrics, "floor": {"value": 0.25}}
    print_caption_metrics(record | bounds | {"guidance": [row]})
    lines = capsys.readouterr().out.splitlines()
    assert not any("…" in line for line in lines)
    assert next(line for line in lines if "guidance" in line).split()[1:8] == names
    assert next(line for line in lines if line.startswith("2 ")).split()[1:8] == ["0.125"] * 7


def test_a_decoder_without_guidance_has_one_row(direct_run, images, write_captioned_images, tmp_path, capsys):
    arguments = ["evaluate", str(direct_run[0]), "--captions", str(images)]
    arguments += ["--val", write_captioned_images(tmp_path / "others", 6), "--count", "16", "--device", "cpu", "--json"]
    assert main([*arguments, "--guidance", "1,3"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["guidance"] for row in record["guidance"]] == [1.0]
    assert "without guidance" in record["remarks"][-1]
    assert main([*arguments, "--guidance", "1"]) == 0
    assert not json.loads(capsys.readouterr().out)["remarks"]


def test_too_few_held_out_images_give_one_line(direct_run, images, capsys):
    assert main(["evaluate", str(direct_run[0]), "--captions", str(images), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "got 2 held-out images. Give more images, or others with --val DIR.\n" in error


@pytest.mark.parametrize(("name", "form"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.webp", "WEBP")])
def test_the_format_of_a_sample_follows_its_file_name(direct_run, tmp_path, name, form):
    arguments = ["sample", str(direct_run[0]), "a page", "--grid", "1x1", "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path / name)]) == 0
    with Image.open(tmp_path / name) as image:
        assert image.format == form


@pytest.mark.parametrize("name", ["a.pdf", "a"])
def test_a_sample_in_an_unknown_format_raises(direct_run, tmp_path, name, capsys):
    assert main(["sample", str(direct_run[0]), "a page", "--out", str(tmp_path / name), "--device", "cpu"]) == 2
    assert "The output must end in one of .png, " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
