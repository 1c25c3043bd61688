"""Searches on tiny images, and study folders with given results."""

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


def write_images(folder: Path, seeds) -> Path:
    """Write one image of noise and bars for each seed."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        bars = 127 * (np.sin(np.arange(64) * rng.uniform(0.2, 2))[:, None, None] > 0)
        noise = rng.normal(64, 16, (64, 64, 3))
        Image.fromarray((bars + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{seed:02}.png")
    return folder


@pytest.fixture(scope="session")
def train_images(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("train"), range(6))


@pytest.fixture(scope="session")
def val_images(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("val"), range(6, 9))


@pytest.fixture
def make_search(train_images, val_images):
    """Return a function that makes a tiny search, with the given changes."""

    def make(**changes) -> Search:
        defaults = {
            "loss": "L1 + a*TV + b*SSIM",
            "images": str(train_images),
            "val": str(val_images),
            "steps": 6,
            "objectives": parse_objectives("psnr_y,ssim_y"),
            "space": {"a": Range(0.01, 10), "b": Range(0.01, 1)},
            "training": TRAINING,
        }
        return Search(**{**defaults, **changes})

    return make


@pytest.fixture
def write_study(tmp_path):
    """Return a function that writes the folder of a study with given results."""

    def write(search: Search, rows, name="study") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        images, metrics = ["p", "q", "r"], [objective.metric for objective in search.objectives]
        bicubic = dict(zip(metrics, (24.0, 0.7), strict=True))
        baselines = {"bicubic": {"metrics": bicubic, "image_metrics": dict.fromkeys(images, bicubic)}}
        (folder / "study.json").write_text(json.dumps(search.to_record()))
        record = {"baselines": baselines, "protocol": {}, "shared_networks": {}}
        (folder / "baselines.json").write_text(json.dumps(record))
        for number, (a, b, values) in enumerate(rows):
            params = {"a": a, "b": b}
            settings = search.settings(params)
            run = folder / "trials" / settings_digest(settings)
            run.mkdir(parents=True)
            row = dict(zip(metrics, values or (), strict=bool(values)))
            record = {"number": number, "run": run.name, "params": params, "loss": settings.loss, "step": 6}
            record |= {"seconds": 1.0, "state": "complete" if values else "pruned", "metrics": row}
            record |= {"image_metrics": dict.fromkeys(images, row) if values else {}}
            record |= {"reason": "" if values else "dominated"}
            (run / "result.json").write_text(json.dumps(record))
        return folder

    return write
