"""A folder of small images, a completed run, and the output of a command line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossmith.cli import main

QUICK = ["--scale", "2", "--steps", "4", "--batch", "2", "--crop", "16", "--log-every", "2", "--workers", "0"]
QUICK += ["--device", "cpu", "--val-every", "2"]
SMALL = ["--model-option", "channels=4", "--model-option", "blocks=1"]


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Six images of 64 px."""
    folder = tmp_path_factory.mktemp("photos")
    row, column = np.mgrid[:64, :64]
    for i in range(6):
        wave = 127 + 100 * np.sin((row * (i + 1) + column * (6 - i)) / 9)
        Image.fromarray(np.stack([wave, wave[::-1], wave.T], axis=-1).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def trained(photos, tmp_path_factory) -> Path:
    """The folder of a completed run."""
    out = tmp_path_factory.mktemp("runs") / "x2"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.hub.download_url_to_file", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
        words = ["train", "super-resolution", "--images", str(photos), "--val", str(photos), "--loss", "L1 + 0.1*TV"]
        assert main([*words, "--out", str(out), *QUICK, *SMALL]) == 0
    return out


@pytest.fixture
def run_cli(capsys):
    """Run a command line and return its status and both output streams."""

    def run(*words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def train(run_cli, photos, tmp_path):
    """Train quickly on the command line, with further options at the end."""

    def run(*words, images=photos, loss="L1", out=tmp_path / "run", network=SMALL):
        return run_cli(
            "train", "super-resolution", "--images", images, "--loss", loss, "--out", out, *QUICK, *network, *words
        )

    return run
