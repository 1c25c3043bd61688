"""What the commands say of networks that make pictures of texts."""

import io
import json

import pytest
from PIL import Image
from rich.console import Console

from lossmith.cli import main
from lossmith.cli.evaluate_captions import show
from lossmith.train import Settings, train

DIRECT = {"name": "direct", "channels": [8, 4], "latents": 3}
COMMON = {"scale": 1, "crop": 16, "batch": 3, "val_count": 2, "steps": 1, "options": {"encoder": "words"}}


@pytest.fixture(scope="module")
def ours(captioned, tmp_path_factory):
    """Sixteen pictures of two captions each, and two that cannot be used."""
    folder = tmp_path_factory.mktemp("pictures") / "ours"
    captioned(folder, 16)
    (folder / "alone.txt").write_text("no picture")
    (folder / "0.txt").unlink()
    return folder


@pytest.fixture(scope="module")
def direct(ours, tmp_path_factory):
    """The folder of a run of the direct decoder, and what it said."""
    out, said = tmp_path_factory.mktemp("runs") / "direct", io.StringIO()
    settings = Settings(**COMMON, task="direct-text-to-image", images=str(ours), loss="L1", model=DIRECT)
    train(settings, out, console=Console(file=said, width=200), accelerator="cpu", workers=0)
    return out, said.getvalue()


def test_a_training_says_how_many_captions_there_are_whatever_was_skipped(direct):
    assert "26 captions, 2 skipped\n" in direct[1]  # of 15 pictures two are held out


def test_calibrate_wants_a_network_that_knows_noise(direct, ours, capsys):
    assert main(["calibrate", "L1", "--captions", str(ours), "--model", str(direct[0])]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].endswith("knows no noise. Give a run of lossmith train text-to-image.")


def test_calibrate_shortens_nothing_in_a_pipe(tmp_path, run, capsys, monkeypatch):
    run(tmp_path / "run", steps=1)
    monkeypatch.setenv("COLUMNS", "80")
    formula = "imagen + 1e-5 * AttentionMask + Dispersive"
    words = ["--captions", "shapes", "--batches", "1", "--batch", "2", "--device", "cpu"]
    assert main(["calibrate", formula, "--model", str(tmp_path / "run"), *words]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert out.count("AttentionMask") == 2


def test_evaluate_shortens_nothing_in_a_pipe(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = ["background", "position", "colour", "shape", "size", "joint", "r_precision"]
    figures = dict.fromkeys(names, 0.125)
    row = {"guidance": 2.0, **figures, "kid": {"value": 0.5}, "diversity": {"vendi": 1.5}}
    row |= {"memorisation": {"ratio": 1.0, "copies": 0.25}}
    record = {"what": "runs/a", "n": 8, "captions": 4, "captions_of": "shapes", "held": None, "remarks": []}
    show(record | {"guidance": [row], "chance": figures, "ceiling": figures, "floor": {"value": 0.25}})
    lines = capsys.readouterr().out.splitlines()
    assert not any("…" in line for line in lines)
    assert next(line for line in lines if "guidance" in line).split()[1:8] == names
    assert next(line for line in lines if line.startswith("2 ")).split()[1:8] == ["0.125"] * 7


def test_a_decoder_without_guidance_has_one_row(direct, ours, captioned, tmp_path, capsys):
    words = ["evaluate", str(direct[0]), "--captions", str(ours), "--val", captioned(tmp_path / "others", 6)]
    words += ["--count", "16", "--device", "cpu", "--json"]
    assert main([*words, "--guidance", "1,3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["guidance"] for row in found["guidance"]] == [1.0]
    assert "no guidance changes" in found["remarks"][-1]
    assert main([*words, "--guidance", "1"]) == 0
    assert not json.loads(capsys.readouterr().out)["remarks"]


def test_too_few_pictures_to_judge_by_get_one_line(direct, ours, capsys):
    assert main(["evaluate", str(direct[0]), "--captions", str(ours), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "2 were held out. Give more pictures, or others to judge by with --val DIR.\n" in said


@pytest.mark.parametrize(("name", "form"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.webp", "WEBP")])
def test_a_sample_is_written_as_its_name_says(direct, tmp_path, name, form):
    words = ["sample", str(direct[0]), "a page", "--grid", "1x1", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / name)]) == 0
    with Image.open(tmp_path / name) as picture:
        assert picture.format == form


@pytest.mark.parametrize("name", ["a.pdf", "a"])
def test_a_sample_of_an_unknown_kind_is_refused(direct, tmp_path, name, capsys):
    assert main(["sample", str(direct[0]), "a page", "--out", str(tmp_path / name), "--device", "cpu"]) == 2
    assert "--out wants a name that ends in one of .png, " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
