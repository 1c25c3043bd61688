"""Compare runs with bicubic interpolation and published networks on held-out images: the effect of the second term.

    python experiments/super_resolution/compare.py RUN... --assets DIR

RUN is a folder of `lossmith train super-resolution --scale 4`; DIR has images/benchmark with Set5, Set14, BSD100 and
Kodak24, and the scores of published networks (sr_x4_anchor_scores.json). Writes result.json, plane.png and an image
sheet for each photograph of `CROPS` beside this file.
"""

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import lossmith
from lossmith.models import load_restorer
from lossmith.report import save_image_sheet
from lossmith.report.plot.png_scatter import HIGHLIGHT, INK, MUTED, ScatterPanel, ScatterPoint, draw_scatter
from lossmith.tasks import SuperResolution
from lossmith.train.evaluation import evaluate_images, mean_metrics

HERE = Path(__file__).parent
SETS = ("Set5", "Set14", "BSD100")
LABELS = {
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
"""The labels of the networks in the plane."""
CROPS = {"kodim05": (150, 270, 210, 300), "kodim08": (270, 250, 210, 300)}
"""The photographs of Kodak24, whose use is unrestricted, with their crops: top, left, height, width."""
SETTINGS = ("steps", "batch", "crop", "lr", "precision", "seed")

Scores = dict[str, dict[str, dict[str, float]]]
"""For each network and set, the mean metrics."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--assets", type=Path, required=True, help="folder with images/benchmark")
    args = parser.parse_args()
    benchmark = args.assets / "images" / "benchmark"
    methods: dict[str, Callable[[Any], torch.Tensor]] = {"bicubic": SuperResolution(4).baseline_output}
    settings = {}
    for run in args.runs:
        config = json.loads((run / "config.json").read_text())
        model = load_restorer(run / "model.safetensors")[0].eval()
        methods[config["loss"]] = lambda batch, model=model: model(batch["input"])
        last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
        settings[config["loss"]] = {name: config[name] for name in SETTINGS} | {"seconds": last["seconds"]}
    scores: Scores = {}
    sheets: dict[str, dict[str, torch.Tensor]] = {name: {} for name in CROPS}
    truths: dict[str, torch.Tensor] = {}
    for name, restore in methods.items():
        scores[name] = evaluate(name, restore, benchmark)
        add_to_sheets(sheets, truths, name, restore, benchmark / "Kodak24")
    published = json.loads((benchmark / "sr_x4_anchor_scores.json").read_text())
    result = {
        "protocol": "x4, MATLAB bicubic, 8 bit, border 4; PSNR and SSIM on Y of BT.601, LPIPS 0.1 AlexNet on RGB",
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}, CPU",
        "lossmith": lossmith.__version__,
        "runs": settings,
        "scores": scores,
        "published": {name: published[name] for name in published if name != "bicubic"},
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, images in sheets.items():
        save_image_sheet(images | {"truth": truths[name]}, HERE / f"{name}.png", crop=(20, 40, 80, 106))
    draw_plane(scores, published)


def evaluate(name: str, restore: Callable[[Any], torch.Tensor], benchmark: Path) -> dict[str, dict[str, float]]:
    """Return the mean metrics on each set, rounded."""
    task, scores = SuperResolution(4), {}
    for folder in SETS:
        rows = list(evaluate_images(task.evaluation_set(benchmark / folder), restore, border=task.border))
        means = mean_metrics([row.metrics for row in rows])
        scores[folder] = {metric: round(value, 4) for metric, value in means.items()}
        print(f"{name:40} {folder:8}", scores[folder], flush=True)
    return scores


def add_to_sheets(
    sheets: dict[str, dict[str, torch.Tensor]],
    truths: dict[str, torch.Tensor],
    name: str,
    restore: Callable[[Any], torch.Tensor],
    folder: Path,
) -> None:
    """Add a network's crop of each photograph to its sheet."""
    task = SuperResolution(4)
    files = [next(folder.glob(f"{photograph}.*")) for photograph in CROPS]
    for row in evaluate_images(task.evaluation_set(files), restore, border=task.border):
        caption = f"{row.metrics['psnr_y']:.2f} dB, LPIPS {row.metrics['lpips_alex']:.3f}"
        photograph = Path(row.name).stem
        top, left, height, width = CROPS[photograph]
        crop = (slice(None), slice(top, top + height), slice(left, left + width))
        sheets[photograph][f"{name}\n{caption}"] = row.pred[0][crop]
        truths[photograph] = row.batch["target"][0][crop]


def draw_plane(scores: Scores, published: Scores) -> None:
    """Draw the runs and the published networks of the same protocol."""
    panels = []
    for folder in ("Set5", "Set14"):
        points = []
        for name, label in LABELS.items():
            colour = MUTED if name not in scores else INK if name == "bicubic" else HIGHLIGHT
            if metrics := (scores.get(name) or published.get(name, {})).get(folder):
                points.append(ScatterPoint(metrics["psnr_y"], metrics["lpips_alex"], label, colour))
        panels.append(ScatterPanel(f"{folder} x4", points))
    draw_scatter(panels, HERE / "plane.png")


if __name__ == "__main__":
    main()
