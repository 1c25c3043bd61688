"""What the judges of shapes make of real pictures, and what a network has to learn there: ceilings, chance, floors.

    python experiments/text_to_image/ceilings.py

Writes ceilings.json beside this file: for each level and side the oracle's accuracy on real pictures and by chance, the
share of the pixels' variance that each attribute explains, and the kernel distance between two real sets.
"""

import json
from pathlib import Path

import numpy as np
import torch

from lossmith.data import Oracle, Shapes, variance_shares
from lossmith.metrics import kid, oracle_ceiling, oracle_chance, picture_features

COUNT = 960


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}


def main() -> None:
    torch.set_num_threads(1)
    found = {}
    for level in ("1", "1b", "2"):
        for side in (32, 64):
            shapes, oracle = Shapes(side, level=level), Oracle(side, level=level)
            chance = np.random.default_rng(1)
            captions = [shapes.draw(chance).caption for _ in range(COUNT)]
            scenes = [shapes.scene(caption) for caption in captions]
            row: dict[str, object] = {"side": side, "level": level, "pictures": COUNT}
            row["ceiling"] = rounded(oracle_ceiling(oracle, shapes, count=COUNT))
            row["chance"] = rounded(oracle_chance(oracle, shapes.scenes))
            pictures = shapes.pictures(captions, seed=2)
            if level != "2":
                names = [name for name in row["ceiling"] if name != "joint"]
                labels = {name: [scene.attributes[name] for scene in scenes] for name in names}
                row["variance_shares"] = rounded(variance_shares(pictures, labels))
            features, row["features"] = picture_features(pictures)
            chance = np.random.default_rng(3)
            other, _ = picture_features(shapes.pictures([shapes.draw(chance).caption for _ in range(COUNT)], seed=4))
            row["kid_real_against_real"] = rounded(kid(features, other)._asdict())
            found[f"{level} at {side} px"] = row
            print(json.dumps(row), flush=True)
    (Path(__file__).parent / "ceilings.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
