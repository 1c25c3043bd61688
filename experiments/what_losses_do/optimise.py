"""What each loss asks for: a photograph is made from noise, and from its blurred self, under one loss alone.

    LOSSMITH_WEIGHTS=DIR python experiments/what_losses_do/optimise.py [NAME...]

DIR holds the weights of VGG-16, VGG-19, AlexNet, SqueezeNet and the heads of LPIPS and DISTS. Writes
docs/images/losses/NAME.png and result.json beside this file; what has been computed lies in runs/ and is not computed
again. About nine minutes on one core that knows bfloat16.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from catalogue import SHOWN
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import lossmith
from lossmith import Blur, Downsample, parse, pinned
from lossmith.metrics import psnr
from lossmith.report import save_image_sheet

HERE = Path(__file__).parent
PICTURES = HERE.parents[1] / "docs" / "images" / "losses"
SIDE, STEPS, LR, SEED, SIGMA = 128, 200, 0.03, 0, 2.0


def photograph() -> Tensor:
    """Part of scikit-image's astronaut (NASA, public domain), (1, 3, 128, 128)."""
    from skimage.data import astronaut

    part = Image.fromarray(astronaut()).crop((60, 0, 444, 384)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(part)).permute(2, 0, 1).float().div(255)[None]


def starts(truth: Tensor) -> Tensor:
    """Grey noise, and the photograph under a Gaussian, (2, 3, H, W)."""
    noise = 0.5 + 0.15 * torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(SEED))
    blurred = Blur(SIGMA)({"pixels": truth})["pixels"]
    return torch.cat([noise.expand_as(truth), blurred]).clamp(0, 1)


def made(text: str, truth: Tensor) -> Tensor:
    """What Adam makes of both starts under a loss, (2, 3, H, W)."""
    loss = parse(text)
    target = truth.expand(2, -1, -1, -1)
    views = {"target": target, "input": Downsample(4)({"pixels": target})["pixels"], "mask": mask(target)}
    given = {name: view for name, view in views.items() if name in loss.input_names}
    pred = starts(truth).requires_grad_()
    # a tiny eps: the step then does not depend on the size of the gradient, hence on no weight
    adam = torch.optim.Adam([pred], lr=LR, eps=1e-20)
    fade = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    with torch.autocast("cpu", torch.bfloat16):  # which concerns networks alone
        fixed = pinned(loss, **given) if given else loss
        for _ in range(STEPS):
            adam.zero_grad()
            fixed(pred).backward()
            adam.step()
            fade.step()
            with torch.no_grad():
                pred.clamp_(0, 1)
    return pred.detach()


def mask(like: Tensor) -> Tensor:
    """A disc in the middle, (N, 1, H, W)."""
    place = torch.linspace(-1, 1, SIDE)
    return (place[:, None].square() + place.square() < 0.5).float().expand(len(like), 1, -1, -1)


def judged(images: Tensor, truth: Tensor) -> list[dict[str, float]]:
    """PSNR on RGB and LPIPS on AlexNet of each picture."""
    far = parse("lpips").evaluate({"pred": images, "target": truth.expand_as(images)})["lpips"]
    return [
        {"psnr": round(psnr(image[None], truth), 2), "lpips": round(value.item(), 3)}
        for image, value in zip(images, far, strict=True)
    ]


def draw(name: str, begun: Tensor, images: Tensor, truth: Tensor) -> list[dict[str, float]]:
    """The picture of one loss, of at most 150 kB; the figures that stand in it."""
    figures = judged(torch.cat([begun, images]), truth)
    labels = ["noise", "blurred", "from noise", "from blurred"]
    panels = {
        f"{label}\n{each['psnr']:.1f} dB, LPIPS {each['lpips']:.2f}": image
        for label, each, image in zip(labels, figures, torch.cat([begun, images]), strict=True)
    }
    noise, blurred, from_noise, from_blurred = panels
    ordered = {label: panels[label] for label in (noise, from_noise, blurred, from_blurred)}
    path = save_image_sheet(ordered | {"truth": truth[0]}, PICTURES / f"{name}.png")
    few = Image.open(path).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    return figures[2:]


def processor() -> str:
    """What the processor calls itself."""
    found = Path("/proc/cpuinfo")
    named = [line for line in found.read_text().splitlines() if "model name" in line] if found.exists() else []
    return named[0].partition(": ")[2] if named else platform.machine()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SHOWN)}; all by default")
    names = arguments.parse_args().names or list(SHOWN)
    if unknown := set(names) - SHOWN.keys():
        arguments.error(f"no picture is called {', '.join(sorted(unknown))}; there are {', '.join(SHOWN)}")
    file = HERE / "result.json"
    result = json.loads(file.read_text()) if file.exists() else {}
    truth = photograph()
    begun = starts(truth)
    for name in names:
        kept = HERE / "runs" / f"{name}.safetensors"
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            clock = time.process_time()
            save_file({"images": made(SHOWN[name], truth)}, kept)
            print(f"{name:14} {time.process_time() - clock:6.1f} s", flush=True)
        from_noise, from_blurred = draw(name, begun, load_file(kept)["images"], truth)
        result.setdefault("pictures", {})[name] = {
            "loss": SHOWN[name],
            "from noise": from_noise,
            "from blurred": from_blurred,
        }
    noise, blurred = judged(begun, truth)
    result["pictures"] = {name: result["pictures"][name] for name in SHOWN if name in result["pictures"]}
    result |= {
        "starts": {"noise": noise, "blurred": blurred},
        "protocol": f"{SIDE} px, {STEPS} steps of Adam at {LR} falling to 0 as a cosine, blur of {SIGMA} px, seed "
        f"{SEED}; networks in bfloat16; PSNR on RGB, LPIPS 0.1 AlexNet in float32",
        "command": "python experiments/what_losses_do/optimise.py",
        "machine": f"{processor()}, torch {torch.__version__}, threads: {torch.get_num_threads()}",
        "lossmith": lossmith.__version__,
    }
    file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
