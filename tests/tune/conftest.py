"""Studies that take a moment: tiny pictures, and results that are written by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossmith.tune.objectives import parse_objectives
from lossmith.tune.search import Search, settings_digest
from lossmith.tune.space import Range

TRAINING = {"scale": 2, "batch": 2, "crop": 16, "calibrate": False}
TRAINING |= {"model": {"name": "edsr", "channels": 4, "blocks": 1}}


def draw(folder: Path, numbers) -> Path:
    """Pictures of noise with bars, one a number."""
    for i in numbers:
        chance = np.random.default_rng(i)
        bars = 127 * (np.sin(np.arange(64) * chance.uniform(0.2, 2))[:, None, None] > 0)
        noise = chance.normal(64, 16, (64, 64, 3))
        Image.fromarray((bars + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("photos"), range(6))


@pytest.fixture(scope="session")
def judges(tmp_path_factory) -> Path:
    """Pictures that are none of the photos."""
    return draw(tmp_path_factory.mktemp("val"), range(6, 9))


@pytest.fixture
def search(photos, judges):
    """Makes a search, tiny unless told otherwise."""

    def make(**other) -> Search:
        given = {
            "loss": "L1 + a*TV + b*SSIM",
            "images": str(photos),
            "val": str(judges),
            "steps": 6,
            "axes": parse_objectives("psnr_y,ssim_y"),
            "space": {"a": Range(0.01, 10), "b": Range(0.01, 1)},
            "training": TRAINING,
        }
        return Search(**{**given, **other})

    return make


@pytest.fixture
def written(tmp_path):
    """Writes the folder of a study that has these results."""

    def write(search: Search, rows, name="study") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        names = ["p", "q", "r"]
        mark = dict(zip((a.metric for a in search.axes), (24.0, 0.7), strict=True))
        marks = {"bicubic": {"figures": mark, "pictures": dict.fromkeys(names, mark)}}
        (folder / "study.json").write_text(json.dumps(search.record))
        (folder / "marks.json").write_text(json.dumps({"marks": marks, "protocol": {}, "sharing": {}}))
        for number, (a, b, values) in enumerate(rows):
            drawn = {"a": a, "b": b}
            settings = search.settings(drawn)
            place = folder / "trials" / settings_digest(settings)
            place.mkdir(parents=True)
            row = dict(zip((axis.metric for axis in search.axes), values or (), strict=bool(values)))
            record = {"number": number, "run": place.name, "drawn": drawn, "loss": settings.loss, "step": 6}
            record |= {"seconds": 1.0, "state": "complete" if values else "pruned", "figures": row}
            record |= {"pictures": dict.fromkeys(names, row) if values else {}, "why": "" if values else "beaten"}
            (place / "result.json").write_text(json.dumps(record))
        return folder

    return write
