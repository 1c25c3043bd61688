"""Measure reference values of the metrics on real images: ceilings, chance and floors.

    python experiments/text_to_image/ceilings.py [--images DIR]

Writes ceilings.json beside this file: for each level and side of shapes, the oracle's accuracy on real images and by
chance, the fraction of the pixel variance that each attribute explains, and the kernel distance between two sets of
real images. With a folder of captioned images, only the values of this folder are written: the kernel distance between
training and held-out images, and the distances of the held-out images to the training images, a reference for the
memorisation of a network.
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
SIDES = (32, 64)


def round_values(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}


def measure_captioned_images(folder: Path, side: int) -> dict[str, object]:
    """Return the reference values of a folder of captioned images."""
    train, held_out = CaptionedImages(folder, side).split(0.15)
    (train_features, digest), (held_out_features, _) = (
        compute_image_features(source.images_of([captions[0] for captions in source.captions_of]))
        for source in (train, held_out)
    )
    row: dict[str, object] = {"side": side, "train": len(train_features), "held_out": len(held_out_features)}
    row["features"] = digest
    row["kid_real_against_real"] = round_values(kid(train_features, held_out_features)._asdict())
    half = len(held_out_features) // 2
    row["memorisation_of_held_out"] = round_values(
        memorisation(held_out_features[:half], train_features, held_out_features[half:])
    )
    return row


def measure_shapes(level: str, side: int) -> dict[str, object]:
    """Return the reference values of a level of shapes at one side."""
    shapes, oracle = ShapesDataset(side, level=level), ShapesOracle(side, level=level)
    rng = np.random.default_rng(1)
    captions = [shapes.draw(rng).caption for _ in range(COUNT)]
    scenes = [shapes.scene(caption) for caption in captions]
    row: dict[str, object] = {"side": side, "level": level, "pictures": COUNT}
    ceiling = oracle_ceiling(oracle, shapes, count=COUNT)
    row["ceiling"] = round_values(ceiling)
    row["chance"] = round_values(oracle_chance(oracle, shapes.scenes))
    images = shapes.images_of(captions, seed=2)
    if level != "2":
        labels = {name: [scene.attributes[name] for scene in scenes] for name in ceiling if name != "joint"}
        row["variance_shares"] = round_values(explained_variance_ratio(images, labels))
    features, row["features"] = compute_image_features(images)
    rng = np.random.default_rng(3)
    other_captions = [shapes.draw(rng).caption for _ in range(COUNT)]
    other_features, _ = compute_image_features(shapes.images_of(other_captions, seed=4))
    row["kid_real_against_real"] = round_values(kid(features, other_features)._asdict())
    return row


def measure_all_shapes() -> dict[str, dict[str, object]]:
    """Return the reference values of each level at both sides."""
    rows = {}
    for level in ("1", "1b", "2"):
        for side in SIDES:
            rows[f"{level} at {side} px"] = row = measure_shapes(level, side)
            print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of captioned images [shapes]")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.images:
        rows = {f"{args.images.name} at {side} px": measure_captioned_images(args.images, side) for side in SIDES}
        print(json.dumps(rows))
    else:
        rows = measure_all_shapes()
    file = Path(__file__).parent / "ceilings.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**before, **rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
