"""What a base model makes of emoji that it has not seen: figures into result.json, and a sheet.

Things that it has seen no drawing of:

    lossmith train text-to-image --captions emoji/fluent --side 32 --batch 16 --lr 1e-3 --warmup 100 --clip 1.0 \\
        --steps 10000 --out RUN
    lossmith evaluate RUN --captions emoji/fluent --guidance 1,2,3,5 --count 256 --judge emoji.safetensors
    python experiments/text_to_image/emoji_judged.py RUN --captions emoji/fluent --seconds 2700

Things that it has seen drawn by another hand, emoji/two being Microsoft's without the held-out ones beside Google's:

    lossmith train text-to-image --captions emoji/two --val emoji/held --side 32 --batch 32 --lr 1e-3 --warmup 200 \\
        --clip 1.0 --model-option prior_width=1024 --loss "imagen + L2.on(pred='prior')" --text-noise 0.6 \\
        --steps 11000 --out RUN
    lossmith evaluate RUN --captions emoji/two --val emoji/held --guidance 1,2,3,5 --count 256 \\
        --judge others.safetensors
    python experiments/text_to_image/emoji_judged.py RUN --captions emoji/two --val emoji/held --seconds 9600 \\
        --name emoji_hands_noise

Without --text-noise it is emoji_hands.

emoji.py makes the folders, judge.py the judges, docs/captions.md says how. On the sheet, from above: real pictures of
held-out captions, what the model makes of these, and what it makes of captions that it was trained on; drawn by lot.
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
SHOWN, WEIGHT, ZOOM = 12, 2.0, 3


def rows(record: dict, settings: dict, seconds: int | None) -> list[dict]:
    """One row a figure and weight of guidance."""
    network = "denoiser with a prior" if settings["model"].get("prior_width") else "denoiser"
    if noise := settings["options"].get("text_noise"):
        network += f", texts through noise of {noise:g}"
    system = f"{network}, 32 px, flow, Euler {record['steps']}, {settings['steps']} steps of {settings['batch']}"
    data = "Fluent emoji, held-out captions" + (", things seen drawn by Google" if record.get("val_source") else "")
    common = {"system": system, "data": data, "loss": settings["loss"], "seed": 0}
    found = []
    for row in record["guidance"]:
        figures = {
            "r_precision_100": row["r_precision"],
            "kid": row["kid"]["value"],
            "vendi": row["diversity"]["vendi"],
            **{f"memorisation {name}": value for name, value in row["memorisation"].items()},
        }
        for name, value in figures.items():
            found.append({**common, "guidance": row["guidance"], "metric": name, "value": value, "seconds": seconds})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--captions", required=True)
    parser.add_argument("--val")
    parser.add_argument("--name", default="emoji")
    parser.add_argument("--seconds", type=int, help="What the training took, of one core.")
    asked = parser.parse_args()
    record, settings = (json.loads((asked.run / f"{name}.json").read_text()) for name in ("captions", "config"))
    prompted = TextToImagePipeline.from_file(asked.run / "model.safetensors")
    path = HERE / "result.json"
    whole = json.loads(path.read_text()) if path.is_file() else {}
    whole[asked.name] = {
        "captions": record["captions"],
        "count": record["n"],
        "ceiling": record["ceiling"],
        "chance": record["chance"],
        "floor of kid": record["floor"]["value"],
        "judge": record["judge"],
        "features": record["features"],
        "torch": torch.__version__,
        "rows": rows(record, settings, asked.seconds),
    }
    path.write_text(json.dumps(whole, indent=1) + "\n")
    train, held = CaptionData().split(asked.captions, asked.val, prompted.side)
    lot = np.random.default_rng(0)
    unseen = lot.permutation(len(held.captions))[:SHOWN].tolist()
    seen = [train.captions[i] for i in lot.permutation(len(train.captions))[:SHOWN]]
    texts = [held.captions[i] for i in unseen]
    how = SamplerConfig(steps=25, guidance_scale=WEIGHT)
    drawn = [held.images_of(unseen, seed=0), *(prompted.generate(each, range(SHOWN), how) for each in (texts, seen))]
    sheets = []
    for number, (line, pictures) in enumerate(zip((texts, texts, seen), drawn, strict=True)):
        large = torch.nn.functional.interpolate(pictures, scale_factor=ZOOM)
        labelled = {f"{i + 1}. {text[:14]}": picture for i, (text, picture) in enumerate(zip(line, large, strict=True))}
        sheets.append(save_image_sheet(labelled, HERE / f"{asked.name}_{number}.png"))
    stack_sheets(sheets).quantize(256).save(HERE / f"{asked.name}.png")


if __name__ == "__main__":
    main()
