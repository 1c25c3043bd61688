"""What a base model makes of emoji that it has not seen: figures into result.json, and a sheet.

    lossmith train text-to-image --captions emoji/fluent --side 32 --batch 16 --lr 1e-3 --warmup 100 --clip 1.0 \\
        --steps 10000 --out RUN
    lossmith evaluate RUN --captions emoji/fluent --guidance 1,2,3,5 --count 256 --judge emoji.safetensors
    python experiments/text_to_image/emoji_judged.py RUN --captions emoji/fluent --seconds 2700

emoji.py makes the folder, judge.py the judge, docs/captions.md says how. On the sheet, from above: real pictures of
held-out captions, what the model makes of these, and what it makes of captions that it was trained on; drawn by lot.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from lossmith.models import Sampler
from lossmith.report.sheets import sheet, stacked
from lossmith.tasks import Prompted
from lossmith.tasks.captioned import Captions

HERE = Path(__file__).parent
SHOWN, WEIGHT, ZOOM = 12, 2.0, 3


def rows(record: dict, steps: int, seconds: int | None) -> list[dict]:
    """One row a figure and weight of guidance."""
    system = f"denoiser, 32 px, flow, Euler {record['steps']}, {steps} steps of 16"
    common = {"system": system, "data": "Fluent emoji, held-out captions", "loss": "imagen", "seed": 0}
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
    parser.add_argument("--seconds", type=int, help="What the training took, of one core.")
    asked = parser.parse_args()
    record = json.loads((asked.run / "captions.json").read_text())
    prompted = Prompted.of(asked.run / "model.safetensors")
    path = HERE / "result.json"
    whole = json.loads(path.read_text()) if path.is_file() else {}
    whole["emoji"] = {
        "captions": record["captions"],
        "count": record["n"],
        "ceiling": record["ceiling"],
        "chance": record["chance"],
        "floor of kid": record["floor"]["value"],
        "judge": record["judge"],
        "torch": torch.__version__,
        "rows": rows(record, prompted.facts["step"], asked.seconds),
    }
    path.write_text(json.dumps(whole, indent=1) + "\n")
    train, held = Captions().split(asked.captions, None, prompted.side)
    lot = np.random.default_rng(0)
    unseen = lot.permutation(len(held.captions))[:SHOWN].tolist()
    seen = [train.captions[i] for i in lot.permutation(len(train.captions))[:SHOWN]]
    texts = [held.captions[i] for i in unseen]
    how = Sampler(steps=25, guidance=WEIGHT)
    drawn = [held.pictures(unseen, seed=0), *(prompted.make(each, range(SHOWN), how) for each in (texts, seen))]
    sheets = []
    for number, (line, pictures) in enumerate(zip((texts, texts, seen), drawn, strict=True)):
        large = torch.nn.functional.interpolate(pictures, scale_factor=ZOOM)
        labelled = {f"{i + 1}. {text[:14]}": picture for i, (text, picture) in enumerate(zip(line, large, strict=True))}
        sheets.append(sheet(labelled, HERE / f"emoji_{number}.png"))
    stacked(sheets).quantize(256).save(HERE / "emoji.png")


if __name__ == "__main__":
    main()
