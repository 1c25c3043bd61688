"""Evaluate a text-to-image network on held-out emoji: metrics into result.json, and an image sheet.

Objects that the network has seen in no drawing:

    lossmith train text-to-image --captions emoji/fluent --size 32 --batch 16 --lr 1e-3 --warmup 100 --clip 1.0 \\
        --steps 10000 --out RUN
    lossmith evaluate RUN --captions emoji/fluent --guidance 1,2,3,5 --count 256 --judge emoji.safetensors
    python experiments/text_to_image/evaluate_emoji.py RUN --captions emoji/fluent --seconds 2700

Objects that the network has seen drawn by another artist; emoji/two has Microsoft's emoji without the held-out ones,
and Google's:

    lossmith train text-to-image --captions emoji/two --val emoji/held --size 32 --batch 32 --lr 1e-3 --warmup 200 \\
        --clip 1.0 --model-option prior_width=1024 --loss "imagen + L2.on(pred='prior')" --text-noise 0.6 \\
        --steps 11000 --out RUN
    lossmith evaluate RUN --captions emoji/two --val emoji/held --guidance 1,2,3,5 --count 256 \\
        --judge others.safetensors
    python experiments/text_to_image/evaluate_emoji.py RUN --captions emoji/two --val emoji/held --seconds 9600 \\
        --name emoji_hands_noise

Without --text-noise the name is emoji_hands.

prepare_emoji.py writes the folders and train_caption_judge.py the judges, see docs/captions.md. The sheet shows, from
the top, real images of held-out captions, samples of these captions, and samples of training captions, all drawn at
random.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from lossmith.report.image_sheet import save_image_sheet, stack_sheets
from lossmith.text_to_image.caption_data import CaptionData
from lossmith.text_to_image.models.sampler import SamplerConfig
from lossmith.text_to_image.pipeline import TextToImagePipeline

HERE = Path(__file__).parent
COLUMNS, GUIDANCE_SCALE, ZOOM = 12, 2.0, 3


def build_rows(record: dict, settings: dict, seconds: int | None) -> list[dict]:
    """Return a row for each metric and guidance scale."""
    network = "denoiser with a prior" if settings["model"].get("prior_width") else "denoiser"
    if noise := settings["options"].get("text_noise"):
        network += f", texts through noise of {noise:g}"
    system = f"{network}, 32 px, flow, Euler {record['steps']}, {settings['steps']} steps of {settings['batch']}"
    data = "Fluent emoji, held-out captions" + (", things seen drawn by Google" if record.get("val_source") else "")
    common = {"system": system, "data": data, "loss": settings["loss"], "seed": 0}
    rows = []
    for scale in record["guidance"]:
        metrics = {
            "r_precision_100": scale["r_precision"],
            "kid": scale["kid"]["value"],
            "vendi": scale["diversity"]["vendi"],
            **{f"memorisation {name}": value for name, value in scale["memorisation"].items()},
        }
        for name, value in metrics.items():
            rows.append({**common, "guidance": scale["guidance"], "metric": name, "value": value, "seconds": seconds})
    return rows


def write_record(run: Path, name: str, seconds: int | None) -> None:
    """Write the evaluation of a run into result.json."""
    record, settings = (json.loads((run / f"{file}.json").read_text()) for file in ("captions", "config"))
    path = HERE / "result.json"
    whole = json.loads(path.read_text()) if path.is_file() else {}
    whole[name] = {
        "captions": record["captions"],
        "count": record["n"],
        "ceiling": record["ceiling"],
        "chance": record["chance"],
        "floor of kid": record["floor"]["value"],
        "judge": record["judge"],
        "features": record["features"],
        "torch": torch.__version__,
        "rows": build_rows(record, settings, seconds),
    }
    path.write_text(json.dumps(whole, indent=1) + "\n")


def save_sheet(pipeline: TextToImagePipeline, captions: str, val: str | None, name: str) -> None:
    """Save the sheet of real images and samples."""
    train, held_out = CaptionData().split(captions, val, pipeline.side)
    rng = np.random.default_rng(0)
    held_out_indices = rng.permutation(len(held_out.captions))[:COLUMNS].tolist()
    train_prompts = [train.captions[i] for i in rng.permutation(len(train.captions))[:COLUMNS]]
    prompts = [held_out.captions[i] for i in held_out_indices]
    config = SamplerConfig(steps=25, guidance_scale=GUIDANCE_SCALE)
    samples, train_samples = (pipeline.generate(each, range(COLUMNS), config) for each in (prompts, train_prompts))
    rows = (
        (prompts, held_out.images_of(held_out_indices, seed=0)),
        (prompts, samples),
        (train_prompts, train_samples),
    )
    sheets = []
    for number, (texts, images) in enumerate(rows):
        large = torch.nn.functional.interpolate(images, scale_factor=ZOOM)
        labelled = {f"{i + 1}. {text[:14]}": image for i, (text, image) in enumerate(zip(texts, large, strict=True))}
        sheets.append(save_image_sheet(labelled, HERE / f"{name}_{number}.png"))
    stack_sheets(sheets).quantize(256).save(HERE / f"{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder with the record of lossmith evaluate")
    parser.add_argument("--captions", required=True, help="captioned training images")
    parser.add_argument("--val", help="captioned held-out images [held-out part of --captions]")
    parser.add_argument("--name", default="emoji", help="key in result.json, and name of the sheet")
    parser.add_argument("--seconds", type=int, help="CPU seconds of the training")
    args = parser.parse_args()
    pipeline = TextToImagePipeline.from_file(args.run / "model.safetensors")
    write_record(args.run, args.name, args.seconds)
    save_sheet(pipeline, args.captions, args.val, args.name)


if __name__ == "__main__":
    main()
