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
from lossmith.models import load_restorer
from lossmith.report import save_image_sheet
from lossmith.report.plot.png_scatter import HIGHLIGHT, INK, MUTED, ScatterPanel, ScatterPoint, draw_scatter
from lossmith.tasks import SuperResolution
from lossmith.train.evaluation import evaluate_images, mean_metrics

HERE = Path(__file__).parent
SETS = ("Set5", "Set14", "BSD100")
LABELS = {  # how a network is called in the plane
    "bicubic": "bicubic",
    "L1": "L1",
    "L1 + 0.005*perceptual('vgg16')": "L1 + 0.005 perceptual",
    "L1 + 0.02*perceptual('vgg16')": "L1 + 0.02 perceptual",
    "srgan": "SRGAN",
    "CARN_M": "CARN-M",
    "rlfn_ntire": "RLFN",
    "rfdn_baseline": "RFDN",
    "ntire_imdn_baseline": "IMDN",
    "animevideov3_x4": "Real-ESRGAN animevideov3",
    "RealESRGAN_x4plus": "Real-ESRGAN x4plus",
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
    ways = {"bicubic": task.baseline_output}
    facts = {}
    for run in given.runs:
        config = json.loads((run / "config.json").read_text())
        model = load_restorer(run / "model.safetensors")[0].eval()
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
            rows = list(evaluate_images(task.evaluation_set(benchmark / folder), restore, border=task.border))
            scores[name][folder] = {
                key: round(value, 4) for key, value in mean_metrics([row.metrics for row in rows]).items()
            }
            print(f"{name:40} {folder:8}", scores[name][folder], flush=True)
        for row in evaluate_images(task.evaluation_set(shown), restore, border=task.border):
            figures = f"{row.metrics['psnr_y']:.2f} dB, LPIPS {row.metrics['lpips_alex']:.3f}"
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
        save_image_sheet(pictures | {"truth": truths[name]}, HERE / f"{name}.png", crop=(20, 40, 80, 106))
    drawn_plane(scores, anchors)


def drawn_plane(
    scores: dict[str, dict[str, dict[str, float]]], anchors: dict[str, dict[str, dict[str, float]]]
) -> None:
    """Ours, and the published networks of the same protocol."""
    panels = []
    for folder in ("Set5", "Set14"):
        dots = []
        for name, label in LABELS.items():
            colour = MUTED if name not in scores else INK if name == "bicubic" else HIGHLIGHT
            if found := (scores.get(name) or anchors.get(name, {})).get(folder):
                dots.append(ScatterPoint(found["psnr_y"], found["lpips_alex"], label, colour))
        panels.append(ScatterPanel(f"{folder} x4", dots))
    draw_scatter(panels, HERE / "plane.png")


if __name__ == "__main__":
    main()
