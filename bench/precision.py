"""Measure the effect of half precision on a loss: the cosine of its gradient under autocast with that in float32.

    python bench/precision.py [--images DIR ...] [--side 128] [--losses FORMULA ...] [--out bench/precision.json]

The target is the central square of each photograph, at its own resolution; the predictions are this square downsampled
four times and upsampled again (bicubic), and blurred (Gaussian, 1.5 px). `--images` takes folders with their
subfolders; the default is scikit-image's photographs. Weights are looked for in the usual places (docs/weights.md).

`policy` is lossmith's behaviour: the first layers run forward in float32 (`SequentialNetwork.fp32_until`). `throughout`
runs every convolution in half precision, as plain autocast would. The table has the minimum and the median cosine, the
photograph of the minimum, and the maximum relative error of the value.
"""

import argparse
import json
import statistics
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from hybrid.workloads import blur, coarsen
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
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
DEGRADATIONS = {"coarse": coarsen, "blurred": blur}
COLUMNS = "{:<26} {:<10} {:<10} {:>9} {:>9} {:>9}  {}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, nargs="+", help="folders of photographs [scikit-image's]")
    parser.add_argument("--side", type=int, default=128, help="side of the squares in pixels")
    parser.add_argument("--losses", nargs="+", default=LOSSES, metavar="FORMULA")
    parser.add_argument("--out", type=Path, help="file for the result as JSON")
    args = parser.parse_args()
    targets = dict(read_targets(args.images, args.side))
    print(f"torch {torch.__version__}, {len(targets)} photographs of {args.side} px, each coarse and blurred")
    print(COLUMNS.format("", "", "", "minimum", "median", "value err", "minimum at"))
    rows = [row for formula in args.losses for row in measure(formula, targets)]
    about = {"torch": torch.__version__, "side": args.side, "photographs": list(targets)}
    if args.out:
        args.out.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def read_targets(folders, side):
    """Yield name and central square, (1, 3, side, side) in [0, 1], of each photograph that is large enough."""
    paths = [path for group in list_sample_images() for path in group] if folders is None else []
    for folder in folders or ():
        paths += sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    for path in paths:
        image = Image.open(path).convert("RGB")
        left, top = ((length - side) // 2 for length in image.size)
        if min(left, top) >= 0:
            square = np.array(image.crop((left, top, left + side, top + side)))
            yield path.stem, torch.from_numpy(square).permute(2, 0, 1)[None] / 255


def measure(formula, targets):
    """Yield the rows of one loss and print each."""
    loss = parse(formula)
    references = {}
    for name, target in targets.items():
        pred = torch.cat([degrade(target) for degrade in DEGRADATIONS.values()])
        target = target.expand_as(pred)
        references[name] = pred, target, *evaluate(loss, pred, target, None)
    for form in ("policy", "throughout"):
        with half_precision_throughout(loss) if form == "throughout" else nullcontext():
            for precision, dtype in PRECISIONS.items():
                row = {"loss": formula, "precision": precision, "form": form, **compare(loss, references, dtype)}
                numbers = (f"{row[key]:.5f}" for key in ("least", "median", "value_off"))
                print(COLUMNS.format(formula, precision, form, *numbers, row["least_at"]), flush=True)
                yield row


def compare(loss, references, dtype):
    """Return cosines and value errors of one precision, relative to float32."""
    cosines, errors = {}, []
    for name, (pred, target, value, gradient) in references.items():
        half_value, half_gradient = evaluate(loss, pred, target, dtype)
        similarities = torch.nn.functional.cosine_similarity(gradient.flatten(1), half_gradient.flatten(1), eps=1e-30)
        cosines |= {f"{name}, {kind}": c for kind, c in zip(DEGRADATIONS, similarities.tolist(), strict=True)}
        errors.append(((half_value - value).abs() / value.abs()).max().item())
    lowest = min(cosines, key=cosines.get)
    return {
        "least": round(cosines[lowest], 6),
        "median": round(statistics.median(cosines.values()), 6),
        "least_at": lowest,
        "value_off": round(max(errors), 6),
    }


def evaluate(loss, pred, target, dtype):
    """Return the values (N,) and the gradient of their sum, under autocast if a precision is given."""
    pred = pred.clone().requires_grad_()
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        values = torch.stack(list(loss.evaluate({"pred": pred, "target": target}).values())).sum(dim=0)
    (gradient,) = torch.autograd.grad(values.sum(), pred)
    return values.detach().double(), gradient.double()


@contextmanager
def half_precision_throughout(loss):
    """Run the loss's networks in half precision from their first layer."""
    networks = list(loss.networks.values())
    properties = {type(network): type(network).fp32_until for network in networks}
    for network in networks:
        type(network).fp32_until = None
        network._prepared.clear()
    try:
        yield
    finally:
        for network in networks:
            type(network).fp32_until = properties[type(network)]
            network._prepared.clear()


if __name__ == "__main__":
    main()
