"""What pictures become under the embedded network alone: no grids, no adversarial texture, and a style transferred.

    LOSSMITH_WEIGHTS=DIR python experiments/embedded_network/look.py --assets DIR

Writes optimised.png (from a blurred picture and from noise, under each loss) and style.png beside this file, and
look.json: how LPIPS-VGG, which was not minimised, and a measure of grids judge the first. The measure is the energy of
the picture's error at the period of two pixels, in both directions together, relative to that of its neighbours: 1 for
no grid.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from distortions import smoothed
from pictures import lighter
from PIL import Image
from torch import Tensor

from lossmith import Loss, parse, perceptual, pinned, style
from lossmith.report import save_image_sheet

HERE = Path(__file__).parent
LOSSES = {
    "distilled_lpips": "distilled_lpips",
    "perceptual, embedded": "perceptual('embedded')",
    "perceptual, VGG-16": "perceptual('vgg16')",
    "perceptual, SqueezeNet": "perceptual('squeezenet')",
    "LPIPS, AlexNet": "lpips('alex')",
}
SIDE, STEPS, RATE = 128, 200, 0.02
STYLE_SIDE, STYLE_STEPS = 224, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    args = parser.parse_args()
    os.environ.setdefault("LOSSMITH_WEIGHTS", str(args.assets / "weights"))
    torch.set_num_threads(1)
    images = args.assets / "images"
    target = middle(next((images / "samples").glob("chelsea.*")), SIDE)
    starts = {
        "blur": smoothed(target[0], 2.0)[None],
        "noise": torch.rand(target.shape, generator=torch.Generator().manual_seed(0)),
    }
    judge, found, drawn = parse("lpips('vgg')"), {}, {}
    for start, picture in starts.items():
        drawn[f"from {start}"] = picture[0]
        for name, text in LOSSES.items():
            result = optimised(parse(text), picture, target)
            with torch.no_grad():
                figures = {
                    "loss before": parse(text)(picture, target).item(),
                    "loss": parse(text)(result, target).item(),
                    "lpips_vgg before": judge(picture, target).item(),
                    "lpips_vgg": judge(result, target).item(),
                    "psnr": -10 * (result - target).square().mean().log10().item(),
                    "grid": grid(result - target),
                }
            found[f"{name}, from {start}"] = {key: round(value, 4) for key, value in figures.items()}
            print(name, start, found[f"{name}, from {start}"], flush=True)
            drawn[f"{name}\n{figures['psnr']:.1f} dB, LPIPS-VGG {figures['lpips_vgg']:.3f}" + " " * len(drawn)] = (
                result[0]
            )
    lighter(save_image_sheet(drawn | {"truth": target[0]}, HERE / "optimised.png", crop=(40, 40, 40, 40)))
    (HERE / "look.json").write_text(
        json.dumps({"steps": STEPS, "rate": RATE, "side": SIDE, "found": found}, indent=1) + "\n"
    )
    content = middle(next((images / "samples").glob("astronaut.*")), STYLE_SIDE, 448)
    styles = sorted((images / "style").glob("*.jpg")) + sorted((images / "style").glob("*.png"))
    pictures = {"content": content[0]}
    for file in [f for f in styles if any(word in f.stem.lower() for word in ("starry", "scream", "udnie"))][:3]:
        painting = middle(file, STYLE_SIDE, 0)
        pictures[file.stem] = painting[0]
        pictures[f"{file.stem}, transferred"] = transferred(content, painting)[0]
    lighter(save_image_sheet(pictures, HERE / "style.png"))


def optimised(loss: Loss, start: Tensor, target: Tensor) -> Tensor:
    """The picture after some steps of Adam on its pixels."""
    pixels = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([pixels], lr=RATE)
    fixed = pinned(loss, target=target)
    for _ in range(STEPS):
        optimiser.zero_grad()
        fixed(pixels).backward()
        optimiser.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return pixels.detach()


def transferred(content: Tensor, painting: Tensor) -> Tensor:
    """Gatys's optimisation on the embedded network alone."""
    pixels = content.clone().requires_grad_()
    optimiser = torch.optim.Adam([pixels], lr=RATE)
    near = pinned(perceptual("embedded", "conv4_1", "l2"), target=content)
    alike = pinned(style("embedded"), target=painting)
    with torch.no_grad():
        weight = 1.0 / alike(content).item()
    for _ in range(STYLE_STEPS):
        optimiser.zero_grad()
        (0.05 * near(pixels) + weight * alike(pixels)).backward()
        optimiser.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return pixels.detach()


def grid(error: Tensor) -> float:
    """The energy at the period of two pixels relative to that of the frequencies about it."""
    power = torch.fft.fft2(error.mean(1)).abs().square().mean(0)
    h, w = (n // 2 for n in power.shape)
    finest = (power[h, w] + power[h, 0] + power[0, w]) / 3
    around = torch.stack(
        [power[h - 4 : h + 5, w - 4 : w + 5].mean(), power[h - 4 : h + 5, :5].mean(), power[:5, w - 4 : w + 5].mean()]
    )
    return (finest / around.mean()).item()


def middle(file: Path, side: int, cut: int | None = None) -> Tensor:
    """The square in the middle of a picture, as it is, or cut at this side (0: the largest) and made smaller."""
    pixels = np.array(Image.open(file).convert("RGB"))
    cut = side if cut is None else cut or min(pixels.shape[:2])
    top, left = ((n - cut) // 2 for n in pixels.shape[:2])
    x = torch.from_numpy(pixels[top : top + cut, left : left + cut].copy()).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(x, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1) if cut != side else x


if __name__ == "__main__":
    main()
