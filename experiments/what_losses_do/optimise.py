"""Optimise a photograph from noise, and from its blurred version, under each loss alone.

    LOSSMITH_WEIGHTS=DIR python experiments/what_losses_do/optimise.py [NAME...]

DIR holds the weights of VGG-16, VGG-19, AlexNet, SqueezeNet and the heads of LPIPS and DISTS. Writes
docs/images/losses/NAME.png and result.json beside this file; optimised images are kept in runs/ and are not computed
again. All take about nine minutes on one core with bfloat16 instructions.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from catalogue import FIGURES
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import lossmith
from lossmith import Downsample, parse, pinned
from lossmith.lenses import Blur
from lossmith.metrics import psnr
from lossmith.report import save_image_sheet

HERE = Path(__file__).parent
FIGURE_FOLDER = HERE.parents[1] / "docs" / "images" / "losses"
SIDE, STEPS, LR, SEED, SIGMA = 128, 200, 0.03, 0, 2.0


def load_photograph() -> Tensor:
    """Return a part of scikit-image's astronaut (NASA, public domain), (1, 3, 128, 128)."""
    from skimage.data import astronaut

    crop = Image.fromarray(astronaut()).crop((60, 0, 444, 384)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(crop)).permute(2, 0, 1).float().div(255)[None]


def make_starts(truth: Tensor) -> Tensor:
    """Return grey noise and the blurred photograph, (2, 3, H, W)."""
    noise = 0.5 + 0.15 * torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(SEED))
    blurred = Blur(SIGMA)({"pixels": truth})["pixels"]
    return torch.cat([noise.expand_as(truth), blurred]).clamp(0, 1)


def optimise_images(text: str, truth: Tensor) -> Tensor:
    """Return both starts after Adam steps under a loss, (2, 3, H, W)."""
    loss = parse(text)
    target = truth.expand(2, -1, -1, -1)
    inputs = {"target": target, "input": Downsample(4)({"pixels": target})["pixels"], "mask": make_mask(target)}
    inputs = {name: image for name, image in inputs.items() if name in loss.input_names}
    pred = make_starts(truth).requires_grad_()
    # a tiny eps makes the step independent of the scale of the gradient, hence of the weight
    optimizer = torch.optim.Adam([pred], lr=LR, eps=1e-20)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    with torch.autocast("cpu", torch.bfloat16):  # affects networks only
        pinned_loss = pinned(loss, **inputs) if inputs else loss
        for _ in range(STEPS):
            optimizer.zero_grad()
            pinned_loss(pred).backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                pred.clamp_(0, 1)
    return pred.detach()


def make_mask(like: Tensor) -> Tensor:
    """Return a central disc, (N, 1, H, W)."""
    coordinates = torch.linspace(-1, 1, SIDE)
    return (coordinates[:, None].square() + coordinates.square() < 0.5).float().expand(len(like), 1, -1, -1)


def compute_metrics(images: Tensor, truth: Tensor) -> list[dict[str, float]]:
    """Compute PSNR on RGB and LPIPS on AlexNet of each image."""
    distances = parse("lpips").evaluate({"pred": images, "target": truth.expand_as(images)})["lpips"]
    return [
        {"psnr": round(psnr(image[None], truth).item(), 2), "lpips": round(value.item(), 3)}
        for image, value in zip(images, distances, strict=True)
    ]


def save_figure(name: str, starts: Tensor, images: Tensor, truth: Tensor) -> list[dict[str, float]]:
    """Write the figure of one loss, of at most 150 kB, and return the metrics of the optimised images."""
    metrics = compute_metrics(torch.cat([starts, images]), truth)
    labels = ["noise", "blurred", "from noise", "from blurred"]
    panels = {
        f"{label}\n{each['psnr']:.1f} dB, LPIPS {each['lpips']:.2f}": image
        for label, each, image in zip(labels, metrics, torch.cat([starts, images]), strict=True)
    }
    noise, blurred, from_noise, from_blurred = panels
    ordered = {label: panels[label] for label in (noise, from_noise, blurred, from_blurred)}
    path = save_image_sheet(ordered | {"truth": truth[0]}, FIGURE_FOLDER / f"{name}.png")
    reduced = Image.open(path).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)
    return metrics[2:]


def processor_name() -> str:
    """Return the name of the processor, if the system has one."""
    file = Path("/proc/cpuinfo")
    lines = [line for line in file.read_text().splitlines() if "model name" in line] if file.exists() else []
    return lines[0].partition(": ")[2] if lines else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"names of figures, all by default: {', '.join(FIGURES)}"
    )
    names = parser.parse_args().names or list(FIGURES)
    if unknown := set(names) - FIGURES.keys():
        parser.error(f"NAME must be one of {', '.join(FIGURES)}; got {', '.join(sorted(unknown))}")
    file = HERE / "result.json"
    result = json.loads(file.read_text()) if file.exists() else {}
    truth = load_photograph()
    starts = make_starts(truth)
    for name in names:
        cache = HERE / "runs" / f"{name}.safetensors"
        if not cache.exists():
            cache.parent.mkdir(exist_ok=True)
            start_time = time.process_time()
            save_file({"images": optimise_images(FIGURES[name], truth)}, cache)
            print(f"{name:14} {time.process_time() - start_time:6.1f} s", flush=True)
        from_noise, from_blurred = save_figure(name, starts, load_file(cache)["images"], truth)
        result.setdefault("pictures", {})[name] = {
            "loss": FIGURES[name],
            "from noise": from_noise,
            "from blurred": from_blurred,
        }
    noise, blurred = compute_metrics(starts, truth)
    result["pictures"] = {name: result["pictures"][name] for name in FIGURES if name in result["pictures"]}
    result |= {
        "starts": {"noise": noise, "blurred": blurred},
        "protocol": f"{SIDE} px, {STEPS} steps of Adam at {LR} falling to 0 as a cosine, blur of {SIGMA} px, seed "
        f"{SEED}; networks in bfloat16; PSNR on RGB, LPIPS 0.1 AlexNet in float32",
        "command": "python experiments/what_losses_do/optimise.py",
        "machine": f"{processor_name()}, torch {torch.__version__}, threads: {torch.get_num_threads()}",
        "lossmith": lossmith.__version__,
    }
    file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
