"""Compare networks before and after fine-tuning with a discriminator, in the plane of PSNR and LPIPS.

    lossmith train super-resolution --images DIR --init FILE --balance share --lr 1e-4 --steps 600 --batch 8 --crop 96 \
        --precision bf16-mixed --out RUN \
        --loss "60%*L1 + 30%*perceptual('vgg19') + 10%*Adversarial('patch', 'relativistic', width=32)"
    python experiments/tasks/fine_tune.py --assets DIR FILE=RUN [FILE=RUN ...]

FILE is the weight file from which a run was initialized, RUN is the run folder. DIR of --assets has images/benchmark
with Set5, Set14, Kodak24 and the scores of published networks. Adds rows to result.json beside this file, and draws
fine_tune_plane.png and fine_tune.png.
"""

import argparse
import json
from pathlib import Path

import torch
from evaluate import write_rows

from lossmith.data import list_images
from lossmith.models import load_restorer
from lossmith.report import save_image_sheet
from lossmith.report.plot.png_scatter import (
    HIGHLIGHT,
    MUTED,
    SECOND_HIGHLIGHT,
    ScatterPanel,
    ScatterPoint,
    draw_scatter,
)
from lossmith.tasks import SuperResolution
from lossmith.train.evaluation import evaluate_images

HERE = Path(__file__).parent
TASK = "fine-tuning x4"
METRICS = ("psnr_y", "ssim_y", "lpips_alex", "swd")
SETS = ("Set5", "Set14")
LABELS = {"sr_realesr_animevideov3_x4": "Real-ESRGAN animevideov3", "start": "edsr, L1"}
PUBLISHED = {"srgan": "SRGAN", "CARN_M": "CARN-M", "ntire_imdn_baseline": "IMDN"}
"""The labels of the published networks in the plane."""
SHEET_CROP = ("kodim08", (270, 250), (200, 280))
"""The photograph of Kodak24 on the sheet, whose use is unrestricted, and its crop: (top, left), (height, width)."""

Arrows = dict[str, dict[str, list[tuple[float, float]]]]
"""For each set and label, PSNR and LPIPS before and after."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder with images/benchmark")
    parser.add_argument("pairs", nargs="+", metavar="FILE=RUN", help="initial weight file and run folder")
    args = parser.parse_args()
    benchmark = args.assets / "images" / "benchmark"
    rows: list[dict] = []
    arrows: Arrows = {name: {} for name in SETS}
    sheet: dict[str, torch.Tensor] = {}
    for pair in args.pairs:
        before, run = (Path(part) for part in pair.split("="))
        label = LABELS.get(before.stem, before.stem)
        config = json.loads((run / "config.json").read_text())
        seconds = json.loads((run / "log.jsonl").read_text().splitlines()[-1])["seconds"]
        settings = {"loss": config["loss"], "steps": config["steps"], "seconds": round(seconds)}
        for method, file, method_settings in (
            (label, before, {"loss": "before"}),
            (f"{label}, fine-tuned", run / "model.safetensors", settings),
        ):
            model = load_restorer(file)[0].eval()
            for name in SETS:
                means = evaluate(model, benchmark / name)
                print(method, name, {metric: round(value, 4) for metric, value in means.items()}, flush=True)
                arrows[name].setdefault(label, []).append((means["psnr_y"], means["lpips_alex"]))
                for metric, value in means.items():
                    row = {"task": TASK, "way": method, **method_settings, "set": name}
                    rows.append(row | {"metric": metric, "value": round(value, 4)})
            add_to_sheet(sheet, model, method, benchmark / "Kodak24")
    write_rows(TASK, rows)
    save_image_sheet(sheet, HERE / "fine_tune.png")
    draw_plane(arrows, json.loads((benchmark / "sr_x4_anchor_scores.json").read_text()))


def evaluate(model: torch.nn.Module, images: Path) -> dict[str, float]:
    """Return the mean metrics of a network on a set."""
    evaluation_set = SuperResolution(4).evaluation_set(images)
    rows = list(evaluate_images(evaluation_set, build_restore(model), border=4, which=METRICS))
    return {metric: sum(row.metrics[metric] for row in rows) / len(rows) for metric in METRICS}


def build_restore(model: torch.nn.Module):
    return lambda batch: model(batch["input"])


def add_to_sheet(sheet: dict[str, torch.Tensor], model: torch.nn.Module, method: str, images: Path) -> None:
    """Add a network's crop of the photograph to the sheet."""
    name, (top, left), (height, width) = SHEET_CROP
    files = [file for file in list_images(images) if file.stem == name]
    crop = (slice(None), slice(top, top + height), slice(left, left + width))
    evaluation_set = SuperResolution(4).evaluation_set(files)
    for row in evaluate_images(evaluation_set, build_restore(model), border=4, which=("psnr_y", "lpips_alex")):
        sheet.setdefault("truth", row.batch["target"][0][crop])
        caption = f"{row.metrics['psnr_y']:.2f} dB, LPIPS {row.metrics['lpips_alex']:.3f}"
        sheet[f"{method}\n{caption}"] = row.pred[0][crop].clamp(0, 1)


def draw_plane(arrows: Arrows, published: dict) -> None:
    """Draw the networks before and after fine-tuning beside the published networks."""
    panels = []
    for name in SETS:
        points = [
            ScatterPoint(published[key][name]["psnr_y"], published[key][name]["lpips_alex"], label, MUTED)
            for key, label in PUBLISHED.items()
            if name in published.get(key, {})
        ]
        pairs = [
            (ScatterPoint(*before, label, colour, is_hollow=True), ScatterPoint(*after, "", colour))
            for colour, (label, (before, after)) in zip(
                (HIGHLIGHT, SECOND_HIGHLIGHT), arrows[name].items(), strict=False
            )
        ]
        all_points = [*points, *(point for pair in pairs for point in pair)]
        panels.append(ScatterPanel(f"{name} x4", all_points, arrows=pairs))
    draw_scatter(panels, HERE / "fine_tune_plane.png")


if __name__ == "__main__":
    main()
