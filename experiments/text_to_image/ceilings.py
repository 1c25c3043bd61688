"""What the judges of shapes make of real pictures, and what a network has to learn there: ceilings, chance, floors.

    python experiments/text_to_image/ceilings.py [--pictures DIR]

Writes ceilings.json beside this file: for each level and side the oracle's accuracy on real pictures and by chance, the
share of the pixels' variance that each attribute explains, and the kernel distance between two real sets. With a folder
of captioned pictures it writes that folder's alone: the kernel distance between those to train on and those held out,
and how near the held-out ones lie to the others, which is what a network that copies nothing is to be compared with.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from lossmith.metrics import compute_image_features
from lossmith.text_to_image.captions.captioned_images import CaptionedImages
from lossmith.text_to_image.metrics.diversity import memorisation
from lossmith.text_to_image.metrics.kernel_distance import kid
from lossmith.text_to_image.metrics.oracle_accuracy import oracle_ceiling, oracle_chance
from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.text_to_image.shapes.split import explained_variance_ratio

COUNT = 960


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}


def of_pictures(folder: Path, side: int) -> dict[str, object]:
    """What is to be known of captioned pictures before a network is judged on them."""
    train, held = CaptionedImages(folder, side).split(0.15)
    seen = [compute_image_features(each.images_of([own[0] for own in each.captions_of])) for each in (train, held)]
    (ours, digest), (theirs, _) = seen
    row: dict[str, object] = {"side": side, "train": len(ours), "held_out": len(theirs), "features": digest}
    row["kid_real_against_real"] = rounded(kid(ours, theirs)._asdict())
    half = len(theirs) // 2
    row["memorisation_of_held_out"] = rounded(memorisation(theirs[:half], ours, theirs[half:]))
    return row


def shapes() -> dict[str, dict[str, object]]:
    """Each level at two sides."""
    found = {}
    for level in ("1", "1b", "2"):
        for side in (32, 64):
            real, oracle = ShapesDataset(side, level=level), ShapesOracle(side, level=level)
            chance = np.random.default_rng(1)
            captions = [real.draw(chance).caption for _ in range(COUNT)]
            scenes = [real.scene(caption) for caption in captions]
            row: dict[str, object] = {"side": side, "level": level, "pictures": COUNT}
            row["ceiling"] = rounded(oracle_ceiling(oracle, real, count=COUNT))
            row["chance"] = rounded(oracle_chance(oracle, real.scenes))
            pictures = real.images_of(captions, seed=2)
            if level != "2":
                names = [name for name in row["ceiling"] if name != "joint"]
                labels = {name: [scene.attributes[name] for scene in scenes] for name in names}
                row["variance_shares"] = rounded(explained_variance_ratio(pictures, labels))
            features, row["features"] = compute_image_features(pictures)
            chance = np.random.default_rng(3)
            other, _ = compute_image_features(real.images_of([real.draw(chance).caption for _ in range(COUNT)], seed=4))
            row["kid_real_against_real"] = rounded(kid(features, other)._asdict())
            found[f"{level} at {side} px"] = row
            print(json.dumps(row), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.pictures:
        found = {f"{asked.pictures.name} at {side} px": of_pictures(asked.pictures, side) for side in (32, 64)}
        print(json.dumps(found))
    else:
        found = shapes()
    file = Path(__file__).parent / "ceilings.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**before, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
