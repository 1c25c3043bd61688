"""Synthetic run folders, as a training run writes them, with photographs of scikit-image."""

import json
import math
import random
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")


def write_lines(file, records):
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def write_run(
    folder: Path,
    *,
    loss="L1 + 0.1 * perceptual",
    terms=(("L1", 1.0), ("perceptual", 0.1)),
    steps=2000,
    done=None,
    log_every=20,
    val_every=500,
    sharpness=0.6,
    bicubic=True,
    photographs=PHOTOGRAPHS,
    crop=96,
    seed=0,
    **config,
) -> Path:
    """Write a plausible run folder; `sharpness` in [0, 1] trades PSNR for perceptual quality."""
    rng = random.Random(seed)
    done = steps if done is None else done
    folder.mkdir(parents=True)
    settings = {
        "lossmith": "0.1.0",
        "task": "super-resolution",
        "scale": 4,
        "images": "photos",
        "val": "Set5",
        "loss": loss,
        "steps": steps,
        "seed": 0,
        "batch": 16,
        "crop": 128,
        "lr": 2e-4,
        "precision": "bf16-mixed",
        "model": {"name": "compact", "features": 48, "blocks": 8},
    }
    (folder / "config.json").write_text(json.dumps(settings | config))
    (folder / "loss.json").write_text(json.dumps({"text": loss, "weights": {"squeezenet1_1": "ab" * 32}}))
    log = []
    for step in range(log_every, done + 1, log_every):
        fall = 0.25 + 0.75 * math.exp(-6 * step / steps)
        raw = {name: 10**-i * fall * rng.lognormvariate(-3 + 2.4 * i, 0.22) for i, (name, _) in enumerate(terms)}
        weights = dict(terms)
        total = sum(raw[name] * weights[name] for name in raw)
        log.append({"step": step, "loss": total, "terms": raw, "weights": weights, "lr": 2e-4, "seconds": 0.09 * step})
    write_lines(folder / "log.jsonl", log)
    validation = []
    for step in range(val_every, done + 1, val_every):
        rise = 1 - math.exp(-4 * step / steps)
        validation.append(
            {
                "step": step,
                "n": 5,
                "psnr_y": 27.9 + (2.4 - 0.9 * sharpness) * rise + rng.gauss(0, 0.02),
                "psnr_rgb": 26.1 + (2.2 - 0.9 * sharpness) * rise,
                "ssim_y": 0.79 + (0.07 - 0.02 * sharpness) * rise,
                "lpips_alex": 0.36 - (0.09 + 0.14 * sharpness) * rise + rng.gauss(0, 0.002),
                "texture": 0.2 + (0.2 + 0.5 * sharpness) * rise,
            }
        )
    write_lines(folder / "validation.jsonl", validation)
    if bicubic:
        metrics = {"psnr_y": 28.43, "psnr_rgb": 26.69, "ssim_y": 0.811, "lpips_alex": 0.3435, "texture": 0.16, "n": 5}
        (folder / "bicubic.json").write_text(json.dumps(metrics))
    for name in photographs:
        write_sheet(
            folder / "sheets" / name, name, crop, sharpness, [line["step"] / steps for line in validation], steps
        )
    return folder


def write_sheet(folder: Path, name, crop, sharpness, fractions, steps):
    """Write a ground truth, its input, its bicubic upscaling, and for each step a blend of the two."""
    from skimage import data

    folder.mkdir(parents=True)
    photo = Image.fromarray(getattr(data, name)())
    left, top = (photo.width - crop) // 2, min(80, photo.height - crop)
    truth = photo.crop((left, top, left + crop, top + crop))
    small = truth.resize((crop // 4, crop // 4), Image.Resampling.BICUBIC)
    bicubic = small.resize(truth.size, Image.Resampling.BICUBIC)
    truth.save(folder / "truth.png")
    small.save(folder / "input.png")
    bicubic.save(folder / "bicubic.png")
    blurred = truth.filter(ImageFilter.GaussianBlur(1.4 - sharpness))
    for fraction in fractions:
        output = Image.blend(bicubic, blurred, 0.75 * (1 - math.exp(-4 * fraction)))
        output.save(folder / f"step_{round(fraction * steps):08d}.png")


@pytest.fixture
def make_run(tmp_path):
    """Return a function that writes a run folder under a temporary folder."""
    return lambda name="run", **options: write_run(tmp_path / name, **options)
