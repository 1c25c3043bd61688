"""What half precision costs a loss: the cosine of its gradient under autocast with the gradient in float32.

    python bench/precision.py [--images DIR ...] [--side 128] [--losses FORMULA ...] [--out bench/precision.json]

Each picture's middle square, at its own resolution, is the target; the predictions are that square at a quarter of the
resolution and back (bicubic), and out of focus (Gaussian, 1.5 px). `--images` takes folders, and subfolders come with
them; scikit-image's photographs unless given. The weights are looked for as everywhere (docs/weights.md).

`policy` is what a user gets: the first layers run forward in float32 (`Sequential.fine`). `throughout` has every
convolution in half precision, as plain autocast would. Of each the table has the least, the median and at which picture
the least is; and how far at most the value is off, relatively.
"""

import argparse
import json
import statistics
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from hybrid.loads import blurred, coarse
from PIL import Image

from lossmith import parse
from lossmith.data.sample_images import list_sample_images

LOSSES = (
    "perceptual('vgg16')",
    "perceptual('vgg19')",
    "perceptual('squeezenet')",
    "perceptual('alexnet')",
    "style('vgg19')",
    "style('squeezenet')",
    "lpips('vgg')",
    "lpips('alex')",
)
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
KINDS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
PREDICTIONS = {"coarse": coarse, "blurred": blurred}
COLUMNS = "{:<26} {:<10} {:<10} {:>9} {:>9} {:>9}  {}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, nargs="+")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--losses", nargs="+", default=LOSSES)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    found = dict(photographs(asked.images, asked.side))
    print(f"torch {torch.__version__}, {len(found)} photographs of {asked.side} px, each coarse and blurred")
    print(COLUMNS.format("", "", "", "least", "median", "value off", "least at"))
    rows = [row for text in asked.losses for row in measured(text, found)]
    about = {"torch": torch.__version__, "side": asked.side, "photographs": list(found)}
    if asked.out:
        asked.out.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def photographs(folders, side):
    """The middle squares by name, (1, 3, side, side) in [0, 1], of all pictures that are large enough."""
    paths = [path for group in list_sample_images() for path in group] if folders is None else []
    for folder in folders or ():
        paths += sorted(path for path in folder.rglob("*") if path.suffix.lower() in KINDS)
    for path in paths:
        picture = Image.open(path).convert("RGB")
        left, top = ((length - side) // 2 for length in picture.size)
        if min(left, top) >= 0:
            square = np.array(picture.crop((left, top, left + side, top + side)))
            yield path.stem, torch.from_numpy(square).permute(2, 0, 1)[None] / 255


def measured(text, found):
    """The rows of one loss, printed as they come."""
    loss = parse(text)
    views = {}
    for name, truth in found.items():
        pred = torch.cat([made(truth) for made in PREDICTIONS.values()])
        views[name] = pred, truth.expand_as(pred), *step(loss, pred, truth.expand_as(pred), None)
    for form in ("policy", "throughout"):
        with nothing_fine(loss) if form == "throughout" else nullcontext():
            for precision, dtype in PRECISIONS.items():
                cosines, off = {}, []
                for name, (pred, target, value, gradient) in views.items():
                    halved, turned = step(loss, pred, target, dtype)
                    alike = torch.nn.functional.cosine_similarity(gradient.flatten(1), turned.flatten(1), eps=1e-30)
                    cosines |= {f"{name}, {kind}": c for kind, c in zip(PREDICTIONS, alike.tolist(), strict=True)}
                    off.append(((halved - value).abs() / value.abs()).max().item())
                least = min(cosines, key=cosines.get)
                row = {
                    "loss": text,
                    "precision": precision,
                    "form": form,
                    "least": round(cosines[least], 6),
                    "median": round(statistics.median(cosines.values()), 6),
                    "least_at": least,
                    "value_off": round(max(off), 6),
                }
                numbers = (f"{row[key]:.5f}" for key in ("least", "median", "value_off"))
                print(COLUMNS.format(text, precision, form, *numbers, least), flush=True)
                yield row


def step(loss, pred, target, dtype):
    """The values (N,) and the gradient of their sum, under autocast if a precision is given."""
    pred = pred.clone().requires_grad_()
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        values = torch.stack(list(loss.evaluate({"pred": pred, "target": target}).values())).sum(dim=0)
    (gradient,) = torch.autograd.grad(values.sum(), pred)
    return values.detach().double(), gradient.double()


@contextmanager
def nothing_fine(loss):
    """The networks of a loss without a step that runs in float32."""
    kinds = {type(network): type(network).fine for network in loss.networks.values()}
    for network in loss.networks.values():
        type(network).fine = None
        network._loaded.clear()
    try:
        yield
    finally:
        for network in loss.networks.values():
            type(network).fine = kinds[type(network)]
            network._loaded.clear()


if __name__ == "__main__":
    main()
