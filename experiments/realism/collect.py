"""Collect the training photographs of images.json: at most half their size and at most 4 megapixels, as PNG.

    python experiments/realism/collect.py --out DIR --source "Debian lomiri-wallpapers=DIR" \\
        --source "github pop-os/wallpapers=CLONE" --source "github elementary/wallpapers=CLONE" \\
        --source "github BuddiesOfBudgie/budgie-backgrounds=CLONE" --source scikit-image=DIR --source scikit-learn=DIR

DIR of a source contains the original files in any subfolder: the unpacked packages lomiri-wallpapers-16.04 and
lomiri-wallpapers-20.04, skimage/data, sklearn/datasets/images; CLONE is a clone of the repository with its history.
Photographs whose source is not named, or which a source no longer has, are listed and left out.
"""

import argparse
import io
import json
import math
import subprocess
from pathlib import Path
from typing import Any

from PIL import Image

HERE = Path(__file__).parent
MAX_PIXELS = 4e6
MIN_ORIGINAL_PIXELS = 2e6
"""Originals of fewer pixels keep their size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--source", action="append", default=[], metavar="NAME=DIR")
    args = parser.parse_args()
    sources = {name: Path(folder) for name, folder in (text.split("=", 1) for text in args.source)}
    args.out.mkdir(parents=True, exist_ok=True)
    for row in json.loads((HERE / "images.json").read_text()):
        content = read_original(row, sources[row["source"]]) if row["source"] in sources else None
        if content is None:
            print(f"Left out {row['file']}: {row['original']} of {row['source']}")
            continue
        image = Image.open(io.BytesIO(content)).convert("RGB")
        pixels = image.width * image.height
        factor = max(2.0, math.sqrt(pixels / MAX_PIXELS)) if pixels > MIN_ORIGINAL_PIXELS else 1.0
        if factor > 1:
            size = round(image.width / factor), round(image.height / factor)
            image = image.resize(size, Image.Resampling.LANCZOS)
        image.save(args.out / row["file"])


def read_original(row: dict[str, Any], folder: Path) -> bytes | None:
    """Return the content of an original file; None if the source does not have it."""
    if "revision" in row:
        command = ["git", "-C", str(folder), "show", f"{row['revision']}:{row['original']}"]
        done = subprocess.run(command, capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else None
    found = next(folder.rglob(row["original"]), None)
    return found.read_bytes() if found else None


if __name__ == "__main__":
    main()
