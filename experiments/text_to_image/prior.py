"""Measure the effect of a prior prediction on a diffusion with few images of many objects, at equal steps.

    python experiments/text_to_image/prior.py --captions emoji/two --val emoji/held --out RUNS [--arms ARM ...]

evaluate_emoji.py describes these folders. The arms are a network without a prior prediction, one with a prior
prediction, and one whose prior prediction is trained by a term of the loss; all see the same images with the same
noise. The result is the denoising error, on training images and on held-out images, whose objects another artist drew
for the training. Writes result.json beside this file.
"""

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

import torch

from lossmith.text_to_image.captions.captioned_images import CaptionedImages
from lossmith.text_to_image.denoising_error import LOGSNR_BINS, measure_denoising_errors
from lossmith.text_to_image.models.sampler import make_noise
from lossmith.text_to_image.pipeline import TextToImagePipeline
from lossmith.train import Settings, train

HERE = Path(__file__).parent
RESULT_KEY = "sketch"  # the former name of the prior prediction, as in the committed result.json


class Arm(NamedTuple):
    """A training.

    Args:
        system: Its name in result.json.
        formula: Its loss.
        prior_width: The hidden width of the prior prediction; 0 for none.
    """

    system: str
    formula: str
    prior_width: int


ARMS = {
    "no-prior": Arm("no sketch", "imagen", 0),
    "prior": Arm("sketch", "imagen", 1024),
    "trained-prior": Arm("sketch, taught", "imagen + L2.on(pred='prior')", 1024),
}
COMMON = {"task": "text-to-image", "scale": 1, "crop": 32, "batch": 16, "lr": 1e-3, "warmup": 100, "clip": 1.0}
COMMON |= {"val_count": 2, "log_every": 100, "checkpoint_every": 1000}
COUNT = 192


def measure_errors(pipeline: TextToImagePipeline, images: str) -> list[float]:
    """Return the denoising error at each noise level, on the images of a folder."""
    source = CaptionedImages(images, pipeline.side)
    stride = max(len(source.captions) // COUNT, 1)
    indices = list(range(0, len(source.captions), stride))[:COUNT]
    text = pipeline.encode_prompts([source.captions[index] for index in indices])
    noise = make_noise(range(len(indices)), pipeline.side)
    return measure_denoising_errors(pipeline.model, source.images_of(indices), text, noise)


def train_arm(arm: Arm, captions: str, val: str, steps: int, folder: Path) -> dict[str, float]:
    """Train an arm, and return its CPU seconds and threads."""
    settings = Settings(
        images=captions,
        val=val,
        loss=arm.formula,
        steps=steps,
        val_every=steps,
        model={"name": "denoiser", "prior_width": arm.prior_width},
        **COMMON,
    )
    start = time.process_time()
    train(settings, folder, device="cpu")
    return {"seconds": round(time.process_time() - start), "threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", required=True, help="folder of captioned training images")
    parser.add_argument("--val", required=True, help="folder of captioned held-out images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--steps", type=int, default=2000, help="steps of each arm")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    args = parser.parse_args()
    for name in args.arms:
        arm, folder, rows = ARMS[name], args.out / name, []
        cost = train_arm(arm, args.captions, args.val, args.steps, folder)
        pipeline = TextToImagePipeline.from_file(folder / "model.safetensors")
        for kind, images in (("trained on", args.captions), ("held out", args.val)):
            errors = [round(error, 5) for error in measure_errors(pipeline, images)]
            row = {"system": arm.system, "loss": arm.formula, "seed": 0, "metric": f"error of pictures {kind}", **cost}
            rows.append({**row, "value": round(sum(errors) / len(errors), 5), "by_level": errors})
            print(f"{name}: error of images {kind} {rows[-1]['value']:.4f}, {cost['seconds']} s", flush=True)
        settings = {"steps": args.steps, "batch": COMMON["batch"], "logsnr": LOGSNR_BINS, "torch": torch.__version__}
        write_rows(rows, settings)


def write_rows(rows: list[dict], settings: dict) -> None:
    """Write the rows of an arm into result.json, in place of its earlier ones."""
    path = HERE / "result.json"
    whole = json.loads(path.read_text()) if path.is_file() else {}
    others = [row for row in whole.get(RESULT_KEY, {}).get("rows", []) if row["system"] != rows[0]["system"]]
    whole[RESULT_KEY] = {**settings, "rows": [*others, *rows]}
    path.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
