import json

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith import parse
from lossmith.cli import main
from lossmith.cli.tasks import USUAL
from lossmith.metrics import DEFAULT_METRICS
from lossmith.models import EDSR, save_network
from lossmith.style_transfer.feedforward import StyleNetwork
from lossmith.style_transfer.task import StyleTransfer

FORMULA = 'L2.on(target="content") + 10 * (L2 @ Gram).on(target="style")'


@pytest.fixture
def files(tmp_path):
    chance = np.random.default_rng(0)
    for name, size in (("content.png", (56, 84)), ("one.png", (48, 48)), ("two.png", (40, 44)), ("tiny.png", (8, 8))):
        Image.fromarray(chance.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


def size_of(file):
    with Image.open(file) as image:
        return image.size


def style(files, *words, out="out.png"):
    there = [str(files / word) if word.endswith((".png", ".safetensors")) else word for word in words]
    return main(["style", *there, "--out", str(files / out)])


def test_a_picture_is_painted_and_its_growth_shown(files, capsys):
    stages = files / "stages.png"
    words = ("content.png", "one.png", "two.png", "--weights", ".7,.3", "--loss", FORMULA, "--steps", "3")
    assert style(files, *words, "--stages", str(stages), "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert size_of(files / "out.png") == (84, 56) == (figures["width"], figures["height"])
    assert stages.is_file() and figures["stages"][0]["steps"] == 3 and figures["peak_mb"] > 0


def test_the_embedded_network_paints_without_a_download(files, monkeypatch, capsys):
    monkeypatch.setattr("lossmith.style_transfer.loss.at_hand", lambda name: False)
    assert style(files, "content.png", "one.png", "--steps", "1") == 0
    assert "No weights of VGG-19 are at hand: painting by the embedded network." in capsys.readouterr().err


def test_a_trained_network_paints_at_once_at_any_size(files):
    torch.manual_seed(0)
    save_network(StyleNetwork(channels=4, blocks=1), files / "net.safetensors", {"task": "style"})
    assert style(files, "content.png", "--run", "net.safetensors", "--size", "90") == 0
    assert size_of(files / "out.png") == (90, 60)


def test_a_trained_network_may_leave_the_colours(files):
    torch.manual_seed(0)
    model = StyleNetwork(channels=4, blocks=1)
    torch.nn.init.constant_(model.tail.bias, 1.0)
    model.tail.bias.data[2] = -1.0  # it paints yellow
    save_network(model, files / "net.safetensors", {"task": "style"})
    Image.new("RGB", (40, 32), (90, 90, 90)).save(files / "grey.png")
    for words, yellow in (((), True), (("--preserve-colour",), False)):
        assert style(files, "grey.png", "--run", "net.safetensors", *words) == 0
        with Image.open(files / "out.png") as image:
            red, _, blue = np.asarray(image, dtype=float).reshape(-1, 3).mean(axis=0)
        assert (red - blue > 50) == yellow


@pytest.mark.parametrize("words", [("--strength", "0.5"), ("--weights", "1")])
def test_what_a_run_cannot_turn_is_refused(files, capsys, words):
    assert style(files, "content.png", "--run", "net.safetensors", *words) == 2
    assert "leave --weights and --strength out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("content.png",), "wants at least one style, or --run"),
        (("content.png", "one.png", "--weights", ".7,.3", "--loss", FORMULA), "1 style wants as many weights; got 2"),
        (("content.png", "one.png", "--weights", "much", "--loss", FORMULA), "--weights wants numbers"),
        (("content.png", "tiny.png", "--loss", FORMULA), "wants a style of at least 32 px a side; there are 8x8 px"),
        (("content.png", "none.png"), "none.png' cannot be read as an image"),
        (("content.png", "one.png", "--network", "resnet"), "--network is vgg19, vgg16 or embedded; got 'resnet'"),
        (("content.png", "one.png", "--network", "embedded", "--layers", "relu9_1"), "has no layer 'relu9_1'"),
        (("content.png", "one.png", "--loss", "L1"), "the formula reads 'target'"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(files, capsys, words, error):
    assert style(files, *words) == 2
    said = capsys.readouterr().err
    assert error in said.splitlines()[0]


@pytest.mark.parametrize(("out", "error"), [("out.gif", "wants to end in one of"), ("one.png", "is an input")])
def test_an_output_that_cannot_be_is_refused_before_painting(files, capsys, out, error):
    assert style(files, "content.png", "one.png", out=out) == 2
    assert error in capsys.readouterr().err


def test_a_network_that_has_learnt_no_style_is_refused(files, capsys):
    save_network(EDSR(1, channels=4, blocks=1), files / "net.safetensors", {"task": "denoising"})
    assert style(files, "content.png", "--run", "net.safetensors") == 2
    assert "has learnt no style; give a run of lossmith train style" in capsys.readouterr().err


@pytest.fixture
def few_metrics(monkeypatch):
    """A validation without networks, whose weights are looked for and loaded for longer than two steps take."""
    named = {name: "is left out" for name in DEFAULT_METRICS if name != "psnr_y"}
    monkeypatch.setattr("lossmith.train.validation.find_missing_metrics", lambda: named)


@pytest.mark.usefixtures("few_metrics")
def test_a_style_is_trained_and_put_to_use(files, tmp_path_factory):
    pictures = tmp_path_factory.mktemp("pictures")
    for i in range(2):
        with Image.open(files / "content.png") as image:
            image.rotate(180 * i).save(pictures / f"{i}.png")
    run = tmp_path_factory.mktemp("runs") / "run"
    words = ["train", "style", "--style", str(files / "one.png"), "--images", str(pictures), "--loss", FORMULA]
    words += ["--steps", "2", "--crop", "32", "--batch", "1", "--model-option", "channels=4", "--out", str(run)]
    assert main([*words, "--model-option", "blocks=1"]) == 0
    assert style(files, "content.png", "--run", str(run)) == 0


def test_what_a_style_is_learnt_by_unless_one_says_reads_all_views_by_one_network():
    loss = parse(USUAL["style"]["loss"])
    assert loss.names == ("perceptual", "style", "TV")
    assert loss.input_names == set(StyleTransfer.provided_inputs) and list(loss.networks) == ["vgg16"]
