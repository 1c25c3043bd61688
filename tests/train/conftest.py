"""A folder of small images, and trainings that take a moment."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from lossmith.data import SuperResolutionCrops
from lossmith.image import convert_stored
from lossmith.train import RunFolder, Settings, train


def draw_images(folder: Path, count=12, side=64) -> Path:
    """Write images with edges, ramps and some noise."""
    folder.mkdir(parents=True, exist_ok=True)
    row, column = np.mgrid[:side, :side]
    for i in range(count):
        rng = np.random.default_rng(i)
        bars = 127 * (np.sin((row * rng.normal() + column * rng.normal()) / 4)[..., None] > 0)
        ramp = row[..., None] * rng.uniform(0, 2, 3)
        noise = rng.normal(0, 4, (side, side, 3))
        Image.fromarray((bars + ramp + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{i:02}.png")
    return folder


TINY = {"scale": 2, "batch": 2, "crop": 16, "lr": 1e-3, "steps": 6, "log_every": 2, "checkpoint_every": 3}
TINY |= {"val_every": 3, "loss": "L1 + 0.1*TV", "model": {"name": "edsr", "channels": 4, "blocks": 1}}


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    return draw_images(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def run(photos, tmp_path):
    """Train with tiny settings and return the folder."""

    def make(name="run", workers=0, images=photos, **other) -> RunFolder:
        settings = Settings(**{**TINY, "images": str(images), **other})
        train(settings, tmp_path / name, device="cpu", workers=workers)
        return RunFolder(tmp_path / name)

    return make


@pytest.fixture
def lines():
    """Read a log of a run."""
    return lambda folder, name="log.jsonl": [json.loads(line) for line in (folder.path / name).read_text().splitlines()]


@pytest.fixture
def weights():
    """Read the saved weights of a run."""
    return lambda folder: load_file(folder.model)


def with_nan(sample, name="target"):
    """Return the sample with a NaN pixel in one image."""
    bad = sample[name].clone()
    bad[0, 0, 0] = float("nan")
    return {**sample, name: bad}


@pytest.fixture
def put_nan(monkeypatch):
    """Put a NaN in some samples of every run of the test."""

    def install(which, name="target"):
        read = SuperResolutionCrops.read_stored
        monkeypatch.setattr(
            SuperResolutionCrops,
            "read_stored",
            lambda s, i: with_nan(convert_stored(read(s, i)), name) if which(i) else read(s, i),
        )

    return install
