"""What a sketch of the text brings to a diffusion on few pictures of many things, at equal steps.

    python experiments/text_to_image/prior.py --captions emoji/two --val emoji/held --out RUNS [--arms ARM ...]

emoji_judged.py says what these folders are. The arms are a network without a sketch, one with it, and one whose sketch
a term teaches; they see the same pictures with the same noise. Judged is the error of the denoising, of pictures that
are trained on and of held-out ones, whose things another artist drew. Writes result.json beside this file.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from lossmith.text_to_image.captions.captioned_images import CaptionedImages
from lossmith.text_to_image.denoising_error import LOGSNR_BINS, measure_denoising_errors
from lossmith.text_to_image.models.sampler import make_noise
from lossmith.text_to_image.pipeline import TextToImagePipeline
from lossmith.train import Settings, train

HERE = Path(__file__).parent
ARMS = {
    "no sketch": ("imagen", 0),
    "sketch": ("imagen", 1024),
    "sketch, taught": ("imagen + L2.on(pred='prior')", 1024),
}
COMMON = {"task": "text-to-image", "scale": 1, "crop": 32, "batch": 16, "lr": 1e-3, "warmup": 100, "clip": 1.0}
COMMON |= {"val_count": 2, "log_every": 100, "checkpoint_every": 1000}
COUNT = 192


def errors(prompted: TextToImagePipeline, place: str) -> list[float]:
    """The error of the denoising at each level of noise, of pictures of a folder."""
    source = CaptionedImages(place, prompted.side)
    step = max(len(source.captions) // COUNT, 1)
    numbers = list(range(0, len(source.captions), step))[:COUNT]
    text = prompted.encode_prompts([source.captions[number] for number in numbers])
    noise = make_noise(range(len(numbers)), prompted.side)
    return measure_denoising_errors(prompted.model, source.images_of(numbers), text, noise)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", required=True)
    parser.add_argument("--val", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    asked = parser.parse_args()
    for arm in asked.arms:
        formula, width = ARMS[arm]
        folder = asked.out / arm.replace(", ", "_").replace(" ", "_")
        settings = Settings(
            images=asked.captions,
            val=asked.val,
            loss=formula,
            steps=asked.steps,
            val_every=asked.steps,
            model={"name": "denoiser", "prior_width": width},
            **COMMON,
        )
        began = time.process_time()
        train(settings, folder, accelerator="cpu")
        spent = {"seconds": round(time.process_time() - began), "threads": torch.get_num_threads()}
        prompted, rows = TextToImagePipeline.from_file(folder / "model.safetensors"), []
        for of, place in (("trained on", asked.captions), ("held out", asked.val)):
            found = [round(each, 5) for each in errors(prompted, place)]
            row = {"system": arm, "loss": formula, "seed": 0, "metric": f"error of pictures {of}", **spent}
            rows.append({**row, "value": round(sum(found) / len(found), 5), "by_level": found})
            print(f"{arm}: {row['metric']} {rows[-1]['value']:.4f}, {spent['seconds']} s", flush=True)
        written(
            rows, {"steps": asked.steps, "batch": COMMON["batch"], "logsnr": LOGSNR_BINS, "torch": torch.__version__}
        )


def written(rows: list[dict], facts: dict) -> None:
    """Puts the rows of an arm in the place of its earlier ones."""
    path = HERE / "result.json"
    whole = json.loads(path.read_text()) if path.is_file() else {}
    kept = [row for row in whole.get("sketch", {}).get("rows", []) if row["system"] != rows[0]["system"]]
    whole["sketch"] = {**facts, "rows": [*kept, *rows]}
    path.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
