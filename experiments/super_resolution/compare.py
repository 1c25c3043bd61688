"""What the second term bought: runs beside bicubic and published networks, on pictures that nothing was tuned on.

    python experiments/super_resolution/compare.py RUN... --assets DIR

RUN is a folder of `lossmith train super-resolution --scale 4`; DIR holds images/benchmark with Set5, Set14, BSD100
and Kodak24, and the published networks' scores (sr_x4_anchor_scores.json). Writes result.json, plane.png and one
picture a shown photograph beside this file.
"""

import argparse
import json
import platform
from pathlib import Path

import torch

import lossmith
from lossmith.models import load
from lossmith.report import sheet
from lossmith.tasks import SuperResolution
from lossmith.train.judge import judge, means

HERE = Path(__file__).parent
SETS = ("Set5", "Set14", "BSD100")
LABELS = {  # in the plane: how a network is called, and where its name stands beside its point
    "bicubic": ("bicubic", (6, -3), "left"),
    "L1": ("L1", (-6, -3), "right"),
    "L1 + 0.005*perceptual('vgg16')": ("L1 + 0.005 perceptual", (7, -9), "left"),
    "L1 + 0.02*perceptual('vgg16')": ("L1 + 0.02 perceptual", (7, -3), "left"),
    "srgan": ("SRGAN", (-6, -3), "right"),
    "CARN_M": ("CARN-M", (0, -14), "right"),
    "rlfn_ntire": ("RLFN", (0, 7), "right"),
    "rfdn_baseline": ("RFDN", (0, -14), "center"),
    "ntire_imdn_baseline": ("IMDN", (0, 7), "left"),
    "animevideov3_x4": ("Real-ESRGAN animevideov3", (6, -3), "left"),
    "RealESRGAN_x4plus": ("Real-ESRGAN x4plus", (6, -3), "left"),
}
SHOWN = {"kodim05": (150, 270, 210, 300), "kodim08": (270, 250, 210, 300)}
"""Photographs of Kodak24, whose use is unrestricted, with the place that is drawn: top, left, height, width."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("runs", nargs="+", type=Path)
    arguments.add_argument("--assets", type=Path, required=True)
    given = arguments.parse_args()
    benchmark = given.assets / "images" / "benchmark"
    task = SuperResolution(4)
    ways = {"bicubic": task.plain}
    facts = {}
    for run in given.runs:
        config = json.loads((run / "config.json").read_text())
        model = load(run / "model.safetensors")[0].eval()
        ways[config["loss"]] = lambda batch, model=model: model(batch["input"])
        last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
        kept = ("steps", "batch", "crop", "lr", "precision", "seed")
        facts[config["loss"]] = {name: config[name] for name in kept} | {"seconds": last["seconds"]}
    scores: dict[str, dict[str, dict[str, float]]] = {}
    shown = [next((benchmark / "Kodak24").glob(f"{name}.*")) for name in SHOWN]
    truths: dict[str, torch.Tensor] = {}
    drawn: dict[str, dict[str, torch.Tensor]] = {name: {} for name in SHOWN}
    for name, restore in ways.items():
        scores[name] = {}
        for folder in SETS:
            rows = list(judge(task.evaluation(benchmark / folder), restore, border=task.border))
            scores[name][folder] = {key: round(value, 4) for key, value in means([row.figures for row in rows]).items()}
            print(f"{name:40} {folder:8}", scores[name][folder], flush=True)
        for row in judge(task.evaluation(shown), restore, border=task.border):
            figures = f"{row.figures['psnr_y']:.2f} dB, LPIPS {row.figures['lpips_alex']:.3f}"
            top, left, height, width = SHOWN[row.name]
            part = (slice(None), slice(top, top + height), slice(left, left + width))
            drawn[row.name][f"{name}\n{figures}"] = row.pred[0][part]
            truths[row.name] = row.batch["target"][0][part]
    anchors = json.loads((benchmark / "sr_x4_anchor_scores.json").read_text())
    result = {
        "protocol": "x4, MATLAB bicubic, 8 bit, border 4; PSNR and SSIM on Y of BT.601, LPIPS 0.1 AlexNet on RGB",
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}, CPU",
        "lossmith": lossmith.__version__,
        "runs": facts,
        "scores": scores,
        "published": {name: anchors[name] for name in anchors if name != "bicubic"},
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, pictures in drawn.items():
        sheet(pictures | {"truth": truths[name]}, HERE / f"{name}.png", crop=(20, 40, 80, 106))
    plane(scores, anchors)


def plane(scores: dict[str, dict[str, dict[str, float]]], anchors: dict[str, dict[str, dict[str, float]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for axis, folder in zip(axes, ("Set5", "Set14"), strict=True):
        for name, (label, place, side) in LABELS.items():
            sets = scores.get(name) or anchors.get(name, {})
            if folder not in sets:
                continue
            point = (sets[folder]["psnr_y"], sets[folder]["lpips_alex"])
            own = name in scores
            axis.plot(*point, "o", color="0.6" if not own else "k" if name == "bicubic" else "#0072b2")
            axis.annotate(
                label, point, textcoords="offset points", xytext=place, ha=side, fontsize=8, color="k" if own else "0.4"
            )
        axis.set(title=f"{folder} x4", xlabel="PSNR-Y, dB (accuracy →)", ylabel="LPIPS-Alex (realism ↑)")
        axis.invert_yaxis()
        axis.margins(0.12)
    figure.savefig(HERE / "plane.png", dpi=110)


if __name__ == "__main__":
    main()
