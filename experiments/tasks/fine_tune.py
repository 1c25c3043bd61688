"""Before and after a fine-tuning with a critic, on the plane of accuracy and realism, beside published networks.

    lossmith train super-resolution --images DIR --init FILE --balance share --lr 1e-4 --steps 600 --batch 8 --crop 96 \
        --precision bf16-mixed --out RUN \
        --loss "60%*L1 + 30%*perceptual('vgg19') + 10%*Adversarial('patch', 'relativistic', width=32)"
    python experiments/tasks/fine_tune.py --assets DIR BEFORE=RUN [BEFORE=RUN ...]

BEFORE is the file that a run began from, RUN what it became. DIR of the assets holds images/benchmark with Set5, Set14
and the published networks' scores. Adds rows to result.json beside this file, and draws fine_tune_plane.png and
fine_tune.png.
"""

import argparse
import json
from pathlib import Path

import torch
from judge import record

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
WHICH = ("psnr_y", "ssim_y", "lpips_alex", "swd")
SETS = ("Set5", "Set14")
LABELS = {"sr_realesr_animevideov3_x4": "Real-ESRGAN animevideov3", "start": "edsr, L1"}
PUBLISHED = {"srgan": "SRGAN", "CARN_M": "CARN-M", "ntire_imdn_baseline": "IMDN"}
"""What they are called in the plane."""
SHOWN = ("kodim08", (270, 250), (200, 280))
"""A photograph of Kodak24, whose use is unrestricted, and the place that is drawn."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--assets", type=Path, required=True)
    arguments.add_argument("pairs", nargs="+", metavar="BEFORE=RUN")
    given = arguments.parse_args()
    benchmark = given.assets / "images" / "benchmark"
    task = SuperResolution(4)
    rows: list[dict] = []
    arrows: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in SETS}
    drawn: dict[str, torch.Tensor] = {}
    for pair in given.pairs:
        before, run = (Path(part) for part in pair.split("="))
        label = LABELS.get(before.stem, before.stem)
        config = json.loads((run / "config.json").read_text())
        seconds = json.loads((run / "log.jsonl").read_text().splitlines()[-1])["seconds"]
        tuned = {"loss": config["loss"], "steps": config["steps"], "seconds": round(seconds)}
        for way, file, facts in (
            (label, before, {"loss": "before"}),
            (f"{label}, fine-tuned", run / "model.safetensors", tuned),
        ):
            model = load_restorer(file)[0].eval()
            for name in SETS:
                found = list(
                    evaluate_images(task.evaluation_set(benchmark / name), through(model), border=4, which=WHICH)
                )
                means = {metric: sum(row.metrics[metric] for row in found) / len(found) for metric in WHICH}
                print(way, name, {metric: round(value, 4) for metric, value in means.items()}, flush=True)
                arrows[name].setdefault(label, []).append((means["psnr_y"], means["lpips_alex"]))
                for metric, value in means.items():
                    row = {"task": "fine-tuning x4", "way": way, **facts, "set": name}
                    rows.append(row | {"metric": metric, "value": round(value, 4)})
            draw(model, way, task, benchmark, drawn)
    record("fine-tuning x4", rows)
    save_image_sheet(drawn, HERE / "fine_tune.png")
    drawn_plane(arrows, json.loads((benchmark / "sr_x4_anchor_scores.json").read_text()))


def through(model: torch.nn.Module):
    return lambda batch: model(batch["input"])


def draw(model: torch.nn.Module, way: str, task: SuperResolution, benchmark: Path, drawn: dict) -> None:
    name, (top, left), (height, width) = SHOWN
    shown = [file for file in list_images(benchmark / "Kodak24") if file.stem == name]
    part = (slice(None), slice(top, top + height), slice(left, left + width))
    for row in evaluate_images(task.evaluation_set(shown), through(model), border=4, which=("psnr_y", "lpips_alex")):
        drawn.setdefault("truth", row.batch["target"][0][part])
        figures = f"{row.metrics['psnr_y']:.2f} dB, LPIPS {row.metrics['lpips_alex']:.3f}"
        drawn[f"{way}\n{figures}"] = row.pred[0][part].clamp(0, 1)


def drawn_plane(arrows: dict, anchors: dict) -> None:
    panels = []
    for name in SETS:
        dots = [
            ScatterPoint(anchors[key][name]["psnr_y"], anchors[key][name]["lpips_alex"], label, MUTED)
            for key, label in PUBLISHED.items()
            if name in anchors.get(key, {})
        ]
        pairs = [
            (ScatterPoint(*before, label, colour, is_hollow=True), ScatterPoint(*after, "", colour))
            for colour, (label, (before, after)) in zip(
                (HIGHLIGHT, SECOND_HIGHLIGHT), arrows[name].items(), strict=False
            )
        ]
        panels.append(ScatterPanel(f"{name} x4", [*dots, *(dot for pair in pairs for dot in pair)], arrows=pairs))
    draw_scatter(panels, HERE / "fine_tune_plane.png")


if __name__ == "__main__":
    main()
