"""Draw the picture of the README: one region of a held-out photograph at five places of the knob, and the truth.

    python experiments/realism/picture.py --assets DIR [--out docs/images/realism.jpg]

The photograph (kodim21 of Kodak's set, free of restrictions) trained and chose nothing; its rocks show texture where
the network is good. docs/models/lossmith-x4.md tells where it is not.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from lossmith.data import SuperResolutionPairs
from lossmith.image import to_pil
from lossmith.models import TexturedEDSR, load_restorer

PHOTOGRAPH = "images/benchmark/Kodak24/kodim21.webp"
TOP, LEFT, HEIGHT, WIDTH = 214, 60, 266, 372
PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
ZOOM, GAP, CAPTION, COLUMNS = 1, 6, 24, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder with images/benchmark")
    parser.add_argument("--out", type=Path, default=Path("docs/images/realism.jpg"), help="file of the picture")
    args = parser.parse_args()
    model = load_restorer("lossmith-x4")[0]
    assert isinstance(model, TexturedEDSR)
    (example,) = SuperResolutionPairs([args.assets / PHOTOGRAPH], 4)
    with torch.no_grad():
        accurate, realistic = model.forward_ends(example.batch["input"])
    images = {f"realism {place:g}": torch.lerp(accurate, realistic, place) for place in PLACES}
    images["realism 0"], names = accurate, {"realism 0": "realism 0: accurate (L1)", "realism 1": "realism 1: far end"}
    images["ground truth"] = example.batch["target"]
    width, height = WIDTH * ZOOM, HEIGHT * ZOOM + CAPTION
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (width + GAP) - GAP, rows * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for i, (name, image) in enumerate(images.items()):
        x, y = i % COLUMNS * (width + GAP), i // COLUMNS * height
        crop = to_pil(image[0, :, TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH].clamp(0, 1))
        sheet.paste(crop.resize((width, HEIGHT * ZOOM), Image.Resampling.BICUBIC), (x, y))
        draw.text((x + 2, y + HEIGHT * ZOOM + 3), names.get(name, name), fill="black", font=font)
    sheet.save(args.out, quality=90)


if __name__ == "__main__":
    main()
