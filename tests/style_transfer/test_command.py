import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from lossmith import parse
from lossmith.cli import main
from lossmith.metrics import DEFAULT_METRICS
from lossmith.models import EDSR, save_network
from lossmith.style_transfer import StyleNetwork, StyleTransfer
from lossmith.style_transfer.command_options import FEEDFORWARD_LOSS

FORMULA = 'L2.on(target="content") + 10 * (L2 @ Gram).on(target="style")'


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("content.png", (56, 84)), ("one.png", (48, 48)), ("two.png", (40, 44)), ("tiny.png", (8, 8))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


def size_of(file):
    with Image.open(file) as image:
        return image.size


def run_style(files, *arguments, out="out.png"):
    """Run the command with file names as files of the folder, and return its exit status."""
    paths = [str(files / each) if each.endswith((".png", ".safetensors")) else each for each in arguments]
    return main(["style", *paths, "--out", str(files / out)])


def test_the_command_writes_the_result_and_its_stages(files, capsys):
    stages = files / "stages.png"
    arguments = ("content.png", "one.png", "two.png", "--weights", ".7,.3", "--loss", FORMULA, "--steps", "3")
    assert run_style(files, *arguments, "--stages", str(stages), "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert size_of(files / "out.png") == (84, 56) == (record["width"], record["height"])
    assert stages.is_file() and record["stages"][0]["steps"] == 3 and record["peak_mb"] > 0


def test_the_command_runs_where_python_has_no_module_resource(files, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert run_style(files, "content.png", "one.png", "--loss", FORMULA, "--steps", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["peak_mb"] is None


def test_an_interrupted_optimization_writes_its_result_and_ends_with_status_130(files, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lossmith.style_transfer.optimize.OptimizationStep", interrupt)
    assert run_style(files, "content.png", "one.png", "--loss", FORMULA, "--steps", "3") == 130
    assert size_of(files / "out.png") == (84, 56)


def test_without_weights_of_vgg_the_embedded_network_is_used(files, monkeypatch, capsys):
    monkeypatch.setattr("lossmith.style_transfer.loss.has_local_weights", lambda name: False)
    assert run_style(files, "content.png", "one.png", "--steps", "1") == 0
    assert "The weights of VGG-19 are not available; using the embedded network." in capsys.readouterr().err


def test_a_trained_network_stylizes_images_of_any_size(files):
    torch.manual_seed(0)
    save_network(StyleNetwork(channels=4, blocks=1), files / "net.safetensors", {"task": "style"})
    assert run_style(files, "content.png", "--run", "net.safetensors", "--size", "90") == 0
    assert size_of(files / "out.png") == (90, 60)


@pytest.mark.parametrize(("options", "is_yellow"), [((), True), (("--preserve-colour",), False)])
def test_preserve_colour_applies_to_a_trained_network(files, options, is_yellow):
    torch.manual_seed(0)
    model = StyleNetwork(channels=4, blocks=1)
    torch.nn.init.constant_(model.tail.bias, 1.0)
    model.tail.bias.data[2] = -1.0  # the output is yellow
    save_network(model, files / "net.safetensors", {"task": "style"})
    Image.new("RGB", (40, 32), (90, 90, 90)).save(files / "grey.png")
    assert run_style(files, "grey.png", "--run", "net.safetensors", *options) == 0
    with Image.open(files / "out.png") as image:
        red, _, blue = np.asarray(image, dtype=float).reshape(-1, 3).mean(axis=0)
    assert (red - blue > 50) == is_yellow


@pytest.mark.parametrize("options", [("--strength", "0.5"), ("--weights", "1")])
def test_an_option_that_a_trained_network_does_not_support_raises(files, capsys, options):
    assert run_style(files, "content.png", "--run", "net.safetensors", *options) == 2
    assert "omit the style images, --weights and --strength" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("content.png",), "needs at least one style image, or --run"),
        (
            ("content.png", "one.png", "--weights", ".7,.3", "--loss", FORMULA),
            "one weight for each style image, 1; got 2",
        ),
        (("content.png", "one.png", "--weights", "much", "--loss", FORMULA), "--weights must be comma-separated"),
        (("content.png", "tiny.png", "--loss", FORMULA), "style image must have at least 32 px a side"),
        (("content.png", "none.png"), "none.png' cannot be read as an image"),
        (
            ("content.png", "one.png", "--network", "resnet"),
            "--network must be vgg19, vgg16 or embedded; got 'resnet'",
        ),
        (("content.png", "one.png", "--network", "embedded", "--layers", "relu9_1"), "relu9_1"),
        (("content.png", "one.png", "--loss", "L1"), "the formula reads 'target'"),
    ],
)
def test_an_argument_that_does_not_suit_gives_one_line(files, capsys, arguments, message):
    assert run_style(files, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[0]


@pytest.mark.parametrize(
    ("out", "message"), [("out.gif", "must end in one of"), ("one.png", "must differ from the inputs")]
)
def test_an_output_that_cannot_be_written_raises_before_the_optimization(files, capsys, out, message):
    assert run_style(files, "content.png", "one.png", out=out) == 2
    assert message in capsys.readouterr().err


def test_a_network_of_another_task_raises(files, capsys):
    save_network(EDSR(1, channels=4, blocks=1), files / "net.safetensors", {"task": "denoising"})
    assert run_style(files, "content.png", "--run", "net.safetensors") == 2
    assert "is not a style-transfer network; give a run of lossmith train style" in capsys.readouterr().err


@pytest.fixture
def only_psnr(monkeypatch):
    """Validate without metrics by networks, whose weights take longer to load than two steps."""
    missing = {name: "is left out" for name in DEFAULT_METRICS if name != "psnr_y"}
    monkeypatch.setattr("lossmith.train.validation.find_missing_metrics", lambda metrics, **_: missing)


@pytest.mark.usefixtures("only_psnr")
def test_a_style_network_is_trained_and_applied(files, tmp_path_factory):
    images = tmp_path_factory.mktemp("images")
    for i in range(2):
        with Image.open(files / "content.png") as image:
            image.rotate(180 * i).save(images / f"{i}.png")
    run = tmp_path_factory.mktemp("runs") / "run"
    arguments = ["train", "style", "--style", str(files / "one.png"), "--images", str(images), "--loss", FORMULA]
    arguments += ["--steps", "2", "--crop", "32", "--batch", "1", "--model-option", "channels=4", "--out", str(run)]
    assert main([*arguments, "--model-option", "blocks=1"]) == 0
    assert run_style(files, "content.png", "--run", str(run)) == 0


def test_the_default_loss_reads_all_inputs_with_one_network():
    loss = parse(FEEDFORWARD_LOSS)
    assert StyleTransfer.options(style="one.png").loss == FEEDFORWARD_LOSS
    assert loss.names == ("perceptual", "style", "TV")
    assert loss.input_names == set(StyleTransfer.provided_inputs) and list(loss.networks) == ["vgg16"]
