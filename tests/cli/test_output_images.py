"""Images that commands write: no image of NaN, and the alpha channel of the input."""

import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lossmith.models import EDSR, Inpainter, save_network
from lossmith.style_transfer import StyleNetwork
from lossmith.train.log import LogWriter

COMMANDS = {
    "restore": (lambda: EDSR(1, channels=4, blocks=1), "denoising", ["restore", "net", "image", "out"]),
    "inpaint": (lambda: Inpainter(channels=4, blocks=1), "inpainting", ["inpaint", "net", "image", "mask", "out"]),
    "style": (lambda: StyleNetwork(channels=4, blocks=1), "style", ["style", "image", "--run", "net", "--out", "out"]),
}


@pytest.fixture
def files(tmp_path):
    """Paths by name: an RGBA image, its mask and the output."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (37, 50, 4), dtype=np.uint8)).save(tmp_path / "image.png")
    hole = np.zeros((37, 50), np.uint8)
    hole[10:20, 15:40] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    names = ("image.png", "mask.png", "out.png", "net.safetensors")
    return {name.split(".")[0]: tmp_path / name for name in names}


def write_network(command, file, *, is_broken=False):
    build, task, _ = COMMANDS[command]
    torch.manual_seed(0)
    save_network(build(), file, {"task": task})
    if is_broken:
        break_network(file, file)


def break_network(source, file):
    """Write the weights with one NaN."""
    with safe_open(source, "pt") as opened:
        metadata = opened.metadata()
    state = {name: value.clone() for name, value in load_file(source).items()}
    next(iter(state.values())).view(-1)[0] = float("nan")
    save_file(state, file, metadata)


@pytest.fixture
def run_command(run_cli, files):
    def run(command):
        return run_cli(*(files.get(word, word) if word != command else word for word in COMMANDS[command][2]))

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_a_network_that_gives_nan_writes_no_image(run_command, files, command):
    write_network(command, files["net"], is_broken=True)
    status, _, error = run_command(command)
    assert status == 2
    assert error.count("\n") == 1
    assert "image.png' is not finite" in error
    assert not files["out"].exists()


def test_a_folder_skips_the_images_with_a_nonfinite_output_and_ends_with_status_2(
    run_cli, files, tmp_path, monkeypatch
):
    write_network("restore", files["net"])
    (tmp_path / "images").mkdir()
    for name, value in (("bad", 255), ("good", 0)):
        Image.new("RGB", (16, 16), (value,) * 3).save(tmp_path / "images" / f"{name}.png")
    forward = EDSR.forward
    monkeypatch.setattr(EDSR, "forward", lambda self, x: forward(self, x) / (0 if x.mean() > 0.5 else 1))
    status, out, error = run_cli("restore", files["net"], tmp_path / "images", tmp_path / "restored")
    assert status == 2
    assert "1 of 2 images were not written" in error
    assert "bad.png" in next(line for line in out.splitlines() if line.startswith("Skipped"))
    assert [path.name for path in (tmp_path / "restored").iterdir()] == ["good.png"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_alpha_channel_is_kept(run_command, files, command):
    write_network(command, files["net"])
    assert run_command(command)[0] == 0
    before, after = (Image.open(files[name]) for name in ("image", "out"))
    assert after.mode == "RGBA"
    assert np.array_equal(np.array(before)[..., 3], np.array(after)[..., 3])


def test_inpainting_keeps_colours_and_alpha_outside_of_the_mask_to_the_bit(run_command, files):
    write_network("inpaint", files["net"])
    assert run_command("inpaint")[0] == 0
    before, after, mask = (np.array(Image.open(files[name])) for name in ("image", "out", "mask"))
    assert np.array_equal(before[mask == 0], after[mask == 0])


@pytest.mark.parametrize(("alpha", "status"), [(255, 0), (254, 2)])
def test_a_format_without_alpha_takes_opaque_images_only(run_cli, files, tmp_path, alpha, status):
    write_network("style", files["net"])
    Image.new("RGBA", (50, 37), (9, 8, 7, alpha)).save(files["image"])
    got, _, error = run_cli("style", files["image"], "--run", files["net"], "--out", tmp_path / "out.jpg")
    assert got == status
    assert ("alpha channel, which .jpg does not support" in error) is (status == 2)
    assert (tmp_path / "out.jpg").exists() is (status == 0)


@pytest.mark.slow
def test_an_interrupted_training_ends_with_status_130(train, monkeypatch):
    original = LogWriter.after_step

    def interrupt_at_step_2(self, trainer, module, step):
        original(self, trainer, module, step)
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LogWriter, "after_step", interrupt_at_step_2)
    status, out, error = train()
    assert status == 130
    assert "Stopped and saved at step 2 of 4. Rerun the command to resume." in out
    assert error.splitlines()[-1] == "lossmith: stopped."
    monkeypatch.undo()
    assert train()[0] == 0
