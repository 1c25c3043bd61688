"""Optimise images under the embedded network alone, to show grids and adversarial texture, and transfer styles.

    LOSSMITH_WEIGHTS=DIR python experiments/embedded_network/optimise_images.py --assets DIR

Writes optimised.png (from a blurred image and from noise, under each loss), style.png and optimise_images.json beside
this file. The JSON file has LPIPS-VGG, which is not minimised, and a grid measure of the optimised images: the energy
of the error at a period of two pixels, in both directions together, relative to that of the neighbouring frequencies;
1 means no grid.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from distortions import gaussian_blur
from PIL import Image
from torch import Tensor
from training_groups import reduce_to_256_colours

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
SIDE, STEPS, LR = 128, 200, 0.02
STYLE_SIDE, STYLE_STEPS = 224, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder of images and weights")
    args = parser.parse_args()
    os.environ.setdefault("LOSSMITH_WEIGHTS", str(args.assets / "weights"))
    torch.set_num_threads(1)
    images = args.assets / "images"
    save_optimised_images(load_square(next((images / "samples").glob("chelsea.*")), SIDE))
    save_style_transfers(images)


def save_optimised_images(target: Tensor) -> None:
    """Optimise images towards the target under each loss; write the image sheet and the JSON file."""
    starts = {
        "blur": gaussian_blur(target[0], 2.0)[None],
        "noise": torch.rand(target.shape, generator=torch.Generator().manual_seed(0)),
    }
    lpips_vgg, results, sheet = parse("lpips('vgg')"), {}, {}
    for start_name, start in starts.items():
        sheet[f"from {start_name}"] = start[0]
        for name, text in LOSSES.items():
            image = optimise_pixels(parse(text), start, target)
            with torch.no_grad():
                values = {
                    "loss before": parse(text)(start, target).item(),
                    "loss": parse(text)(image, target).item(),
                    "lpips_vgg before": lpips_vgg(start, target).item(),
                    "lpips_vgg": lpips_vgg(image, target).item(),
                    "psnr": -10 * (image - target).square().mean().log10().item(),
                    "grid": measure_grid(image - target),
                }
            key = f"{name}, from {start_name}"
            results[key] = {metric: round(value, 4) for metric, value in values.items()}
            print(name, start_name, results[key], flush=True)
            label = f"{name}\n{values['psnr']:.1f} dB, LPIPS-VGG {values['lpips_vgg']:.3f}"
            sheet[label + " " * len(sheet)] = image[0]  # spaces make the label unique
    reduce_to_256_colours(save_image_sheet(sheet | {"truth": target[0]}, HERE / "optimised.png", crop=(40, 40, 40, 40)))
    (HERE / "optimise_images.json").write_text(
        json.dumps({"steps": STEPS, "rate": LR, "side": SIDE, "found": results}, indent=1) + "\n"
    )


def save_style_transfers(images: Path) -> None:
    """Transfer three styles to a photograph and write the image sheet."""
    content = load_square(next((images / "samples").glob("astronaut.*")), STYLE_SIDE, 448)
    files = sorted((images / "style").glob("*.jpg")) + sorted((images / "style").glob("*.png"))
    sheet = {"content": content[0]}
    for file in [f for f in files if any(word in f.stem.lower() for word in ("starry", "scream", "udnie"))][:3]:
        style_image = load_square(file, STYLE_SIDE, 0)
        sheet[file.stem] = style_image[0]
        sheet[f"{file.stem}, transferred"] = transfer_style(content, style_image)[0]
    reduce_to_256_colours(save_image_sheet(sheet, HERE / "style.png"))


def optimise_pixels(loss: Loss, start: Tensor, target: Tensor) -> Tensor:
    """Return the image after Adam steps on its pixels."""
    pixels = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=LR)
    pinned_loss = pinned(loss, target=target)
    for _ in range(STEPS):
        optimizer.zero_grad()
        pinned_loss(pixels).backward()
        optimizer.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return pixels.detach()


def transfer_style(content: Tensor, style_image: Tensor) -> Tensor:
    """Return Gatys's optimisation with the embedded network."""
    pixels = content.clone().requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=LR)
    content_loss = pinned(perceptual("embedded", "conv4_1", "l2"), target=content)
    style_loss = pinned(style("embedded"), target=style_image)
    with torch.no_grad():
        weight = 1.0 / style_loss(content).item()
    for _ in range(STYLE_STEPS):
        optimizer.zero_grad()
        (0.05 * content_loss(pixels) + weight * style_loss(pixels)).backward()
        optimizer.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return pixels.detach()


def measure_grid(error: Tensor) -> float:
    """Return the energy at a period of two pixels relative to that of the neighbouring frequencies."""
    power = torch.fft.fft2(error.mean(1)).abs().square().mean(0)
    h, w = (n // 2 for n in power.shape)
    highest = (power[h, w] + power[h, 0] + power[0, w]) / 3
    neighbours = torch.stack(
        [power[h - 4 : h + 5, w - 4 : w + 5].mean(), power[h - 4 : h + 5, :5].mean(), power[:5, w - 4 : w + 5].mean()]
    )
    return (highest / neighbours.mean()).item()


def load_square(file: Path, side: int, crop_side: int | None = None) -> Tensor:
    """Return the central square of an image, (1, 3, side, side).

    Args:
        file: The image file.
        side: The side of the result in pixels.
        crop_side: The side of the square before downscaling: None for no downscaling, 0 for the largest square.
    """
    pixels = np.array(Image.open(file).convert("RGB"))
    crop_side = side if crop_side is None else crop_side or min(pixels.shape[:2])
    top, left = ((n - crop_side) // 2 for n in pixels.shape[:2])
    square = pixels[top : top + crop_side, left : left + crop_side].copy()
    x = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(x, size=(side, side), mode="bicubic", antialias=True).clamp(0, 1) if crop_side != side else x


if __name__ == "__main__":
    main()
