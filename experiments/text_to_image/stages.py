"""Compare two super-resolution stages of a cascade: diffusion, and regression by a restoration network.

    OMP_NUM_THREADS=1 python experiments/text_to_image/stages.py --first RUN --out RUNS [--seconds 360]

RUN is a base stage that was trained on shapes at 32 px, such as that of `lossmith demo text-to-image`. Both kinds of
stage are trained to upscale from 32 to 64 px on the same images of scenes that are not held out, downsampled by area
means, for equal CPU seconds; the number of steps follows from the seconds per step. The diffusion is conditioned on the
caption and on the noise level of its input. The restoration network is conditioned on neither; one of its arms is
trained on inputs with noise of unknown level. All are evaluated on images of held-out scenes that are downsampled, and
on samples of the base stage. Writes stages.png, and rows into result.json, beside this file.
"""

import argparse
import fcntl
import json
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.data import upsample
from lossmith.image import to_pil
from lossmith.metrics import compute_image_features, psnr, swd
from lossmith.text_to_image.metrics.kernel_distance import kid
from lossmith.text_to_image.metrics.oracle_accuracy import oracle_accuracy
from lossmith.text_to_image.models.sampler import SamplerConfig
from lossmith.text_to_image.pipeline import TextToImagePipeline, load_upscaler, make_image_grid
from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.text_to_image.shapes.scenes import Scene
from lossmith.train import Settings, train

HERE = Path(__file__).parent
SMALL, LARGE, COUNT, NUM_TRAINING_IMAGES = 32, 64, 64, 4000
NOISE_LEVELS = (0.0, 0.2)
COMMON = {"scale": 2, "crop": LARGE, "batch": 16, "lr": 1e-3, "warmup": 100, "clip": 1.0, "val_count": 2}
COMMON |= {"val_every": 10**6, "checkpoint_every": 10**6, "log_every": 20}
AREA_MEANS = {"degradation": "mean"}
ARMS: dict[str, dict[str, Any]] = {
    "diffusion": {"task": "text-to-image", "loss": "imagen", "model": {"name": "denoiser", "patch_size": 4}},
    "regression, noise": {"task": "super-resolution", "loss": "L1", "options": {**AREA_MEANS, "noise": [0, 32]}},
    "regression": {"task": "super-resolution", "loss": "L1", "options": AREA_MEANS},
}


class Stage(NamedTuple):
    """A super-resolution stage.

    Args:
        arm: The arm that it was trained as; "" for bicubic interpolation.
        upscale: Returns large images from small ones.
    """

    arm: str
    upscale: Callable[[Tensor], Tensor]


class References(NamedTuple):
    """The real images of the evaluation.

    Args:
        scenes: Held-out scenes.
        real: Large images of these scenes, (N, 3, S, S).
        others: Large images of other scenes, for the kernel distance.
    """

    scenes: list[Scene]
    real: Tensor
    others: Tensor


def downsample(images: Tensor) -> Tensor:
    return F.avg_pool2d(images, LARGE // SMALL)


def write_images(folder: Path, shapes: ShapesDataset, count: int, seed: int) -> None:
    """Write a folder of captioned images, which both kinds of stage can read."""
    if not (folder / "metadata.jsonl").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        rng, lines = np.random.default_rng(seed), []
        for k in range(count):
            sample = shapes.draw(rng)
            to_pil(sample.image).save(folder / f"{k:05d}.png")
            lines.append(json.dumps({"file_name": f"{k:05d}.png", "text": shapes.captions[sample.caption]}))
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def train_arm(arm: str, steps: int, data: Path, out: Path) -> float:
    """Train an arm and return the CPU seconds."""
    start = time.process_time()
    settings = Settings(images=str(data / "train"), val=str(data / "held"), steps=steps, **COMMON, **ARMS[arm])
    if train(settings, out, device="cpu", workers=0) < steps:
        raise SystemExit("The training was stopped; rerun the command to resume.")
    return time.process_time() - start


def measure_step_seconds(arm: str, data: Path, out: Path) -> float:
    """Return the CPU seconds of a step, without the constant part of a training."""
    seconds = []
    for steps in (5, 25):
        shutil.rmtree(out / "pace", ignore_errors=True)
        seconds.append(train_arm(arm, steps, data, out / "pace"))
    return (seconds[1] - seconds[0]) / 20


def train_for_seconds(arm: str, seconds: float, data: Path, out: Path) -> dict[str, Any]:
    """Train an arm for some CPU seconds, unless it exists, and return its weight file and cost."""
    folder = out / "".join(c if c.isalnum() else "_" for c in arm)
    cost_file = folder / "seconds.json"
    if not cost_file.is_file():
        step_seconds = measure_step_seconds(arm, data, out)
        steps = round(seconds / step_seconds)
        train_arm(arm, steps, data, folder)
        megabytes = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        cost = {"steps": steps, "seconds": round(steps * step_seconds, 1), "megabytes": megabytes}
        cost_file.write_text(json.dumps(cost))
    return {"file": folder / "model.safetensors", **json.loads(cost_file.read_text())}


def evaluate(upscaled: Tensor, small: Tensor, references: References, *, has_truth: bool) -> dict[str, float]:
    """Return the metrics of upscaled images.

    Args:
        upscaled: The images.
        small: The images from which they were upscaled.
        references: The real images.
        has_truth: Whether `references.real` are the true large images of `small`.
    """
    metrics = oracle_accuracy(ShapesOracle(LARGE), upscaled, references.scenes)
    metrics["psnr of its means to what it saw"] = psnr(downsample(upscaled), small).mean().item()
    features = [compute_image_features(images)[0] for images in (upscaled, references.others)]
    metrics["kid"] = kid(*features, subset_size=COUNT).value
    if has_truth:
        pairs = zip(upscaled, references.real, strict=True)
        metrics["psnr"] = psnr(upscaled, references.real).mean().item()
        metrics["swd"] = float(np.mean([swd(a[None], b[None]).item() for a, b in pairs]))
    return metrics


def build_stages(runs: dict[str, dict[str, Any]], prompts: list[str], config: SamplerConfig) -> dict[str, Stage]:
    """Return bicubic interpolation and the trained stages by name."""
    stages = {"bicubic": Stage("", lambda small: upsample(small, 2).clamp(0, 1))}
    for arm, run in runs.items():
        upscaler = load_upscaler(run["file"])
        for noise_level in NOISE_LEVELS if arm == "diffusion" else (None,):

            def upscale(small: Tensor, upscaler: Any = upscaler, noise_level: float | None = noise_level) -> Tensor:
                return upscaler.upscale(small, prompts, range(COUNT), config, noise_level=noise_level)

            name = arm if noise_level is None else f"{arm}, noise {noise_level:g}"
            stages[name] = Stage(arm, upscale)
    return stages


def evaluate_stages(
    stages: dict[str, Stage], runs: dict[str, dict[str, Any]], inputs: dict[str, Tensor], references: References
) -> tuple[list[dict[str, Any]], list[Tensor]]:
    """Return the rows of all stages on all inputs, and the rows of images of the sheet."""
    rows: list[dict[str, Any]] = []
    sheet: list[Tensor] = []
    for source, small in inputs.items():
        is_real = source == "real"
        if is_real:
            sheet.append(references.real[:8])
        for name, stage in stages.items():
            start = time.process_time()
            upscaled = stage.upscale(small)
            seconds = (time.process_time() - start) / COUNT
            sheet.append(upscaled[:8])
            metrics = evaluate(upscaled, small, references, has_truth=is_real) | {"seconds a picture": seconds}
            loss = ARMS[stage.arm]["loss"] if stage.arm else ""
            common = {"system": f"second stage: {name}", "loss": loss, "seed": 0, "of": source}
            cost = {key: runs[stage.arm][key] for key in ("steps", "seconds", "megabytes")} if stage.arm else {}
            rows += [{**common, "metric": key, "value": round(value, 5), **cost} for key, value in metrics.items()]
            print(source, name, {key: round(value, 4) for key, value in metrics.items()}, flush=True)
    return rows, sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=Path, required=True, help="run folder of the base stage")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seconds", type=float, default=360, help="CPU seconds of each training")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    args = parser.parse_args()
    train_shapes, held_out = ShapesDataset(LARGE).split(0.15, by="scene")  # the split is the same at any side
    data = args.out / "images"
    write_images(data / "train", train_shapes, NUM_TRAINING_IMAGES, 0)
    write_images(data / "held", held_out, 16, 1)
    runs = {arm: train_for_seconds(arm, args.seconds, data, args.out) for arm in args.arms}

    rng = np.random.default_rng(7)
    samples = [held_out.draw(rng) for _ in range(COUNT)]
    prompts = [held_out.captions[sample.caption] for sample in samples]
    others = train_shapes.images_of([k % len(train_shapes) for k in range(2 * COUNT)], seed=3)
    real = torch.stack([sample.image for sample in samples])
    references = References([held_out.scene(sample.caption) for sample in samples], real, others)
    base, config = TextToImagePipeline.from_file(args.first / "model.safetensors"), SamplerConfig()
    inputs = {"real": downsample(real), "samples": base.generate(prompts, range(COUNT), config)}

    rows, sheet = evaluate_stages(build_stages(runs, prompts, config), runs, inputs, references)
    ceiling = evaluate(real, inputs["real"], references, has_truth=False)
    del ceiling["psnr of its means to what it saw"]  # infinite
    print("real images", ceiling)
    to_pil(make_image_grid(torch.cat(sheet), 8)).save(HERE / "stages.png", optimize=True)
    settings = {"pictures": NUM_TRAINING_IMAGES, "count": COUNT, "sampling": config.steps}
    settings |= {"guidance": config.guidance_scale, "torch": torch.__version__, "threads": torch.get_num_threads()}
    write_record("stages", {**settings, "real pictures": ceiling, "rows": rows})


def write_record(key: str, record: dict[str, Any]) -> None:
    """Write a part of result.json, with a lock against concurrent writers."""
    path = HERE / "result.json"
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        whole = {**json.loads(path.read_text()), key: record}
        path.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
