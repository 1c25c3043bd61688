"""Judges the runs of train.py on photographs that nothing was tuned on, and draws a sheet a task.

    OMP_NUM_THREADS=2 python experiments/tasks/judge.py --runs RUNS --assets DIR [--tasks denoising ...]

Kodak24 of DIR/images/benchmark; for denoising also DnCNN's published grey network (DIR/weights), which is run on each
channel of the same noisy picture. Writes result.json and a picture a task beside this file; rows of other tasks, and of
commands beside this one, stay.
"""

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from cases import CASES, Case
from safetensors.torch import load_file
from torch import Tensor, nn

import lossmith
from lossmith.models import load_restorer
from lossmith.report import save_image_sheet
from lossmith.train.evaluation import evaluate_images

HERE = Path(__file__).parent
WHICH = ("psnr_rgb", "ssim_y", "lpips_alex", "swd")
SHOWN = {
    "denoising": ("kodim08", (270, 250)),
    "deblurring": ("kodim05", (150, 270)),
    "jpeg": ("kodim23", (60, 150)),
    "inpainting": ("kodim03", (150, 250)),
}
"""The photograph of each task's sheet, and the place that is drawn: top, left."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=Path, required=True)
    arguments.add_argument("--assets", type=Path, required=True)
    arguments.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES))
    given = arguments.parse_args()
    for name in given.tasks:
        case = CASES[name]
        ways: dict[str, tuple[Callable, dict]] = {"input": (case.made().baseline_output, {"loss": "none"})}
        for way in ("start", "L1", "looks"):
            run = given.runs / name / way
            model = load_restorer(run / "model.safetensors")[0].eval()
            config = json.loads((run / "config.json").read_text())
            seconds = json.loads((run / "log.jsonl").read_text().splitlines()[-1])["seconds"]
            facts = {"loss": config["loss"], "steps": config["steps"], "seconds": round(seconds)}
            ways[way] = (answer(case, model), facts)
        if name == "denoising":
            dncnn = DnCNN(given.assets / "weights" / "denoise_dncnn_gray25.safetensors")
            ways["DnCNN"] = (answer(case, dncnn), {"loss": "DnCNN, grey, sigma 25, published"})
        record(name, compare(case, ways, given.assets / "images" / "benchmark" / "Kodak24"))


def answer(case: Case, model: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], Tensor]:
    return lambda batch: case.made().predict(model, batch)


def compare(case: Case, ways: dict[str, tuple[Callable, dict]], pictures: Path) -> list[dict]:
    """A row a way and metric; draws the sheet."""
    name, (top, left) = SHOWN[case.task]
    part = (slice(None), slice(top, top + 200), slice(left, left + 280))
    rows, drawn, truth = [], {}, torch.empty(0)
    for way, (restore, facts) in ways.items():
        found = list(evaluate_images(case.made().evaluation_set(pictures), restore, border=0, which=WHICH))
        means = {metric: sum(row.metrics[metric] for row in found) / len(found) for metric in WHICH}
        print(case.task, way, {metric: round(value, 4) for metric, value in means.items()}, flush=True)
        for metric, value in means.items():
            rows.append({"task": case.task, "way": way, **facts, "metric": metric, "value": round(value, 4)})
        if way == "start":
            continue
        for row in found:
            if row.name == name:
                figures = f"{row.metrics['psnr_rgb']:.2f} dB, LPIPS {row.metrics['lpips_alex']:.3f}"
                label = {"L1": "L1", "looks": case.loss}.get(way, way)
                drawn[f"{label}\n{figures}"] = row.pred[0][part].clamp(0, 1)
                truth = row.batch["target"][0][part]
    save_image_sheet(drawn | {"truth": truth}, HERE / f"{case.task}.png")
    return rows


def record(task: str, rows: list[dict]) -> None:
    """Puts a task's rows in the place of its former ones."""
    path = HERE / "result.json"
    before = json.loads(path.read_text()) if path.is_file() else {"rows": []}
    machine = (
        f"{platform.processor() or platform.machine()}, 1 core, torch {torch.__version__}, CPU, bf16-mixed, seed 0"
    )
    result = {
        "protocol": "12 photographs of Kodak24, 8 bit, no border; LPIPS 0.1 AlexNet, patch distance: lower is better",
        "machine": machine,
        "lossmith": lossmith.__version__,
        "rows": [row for row in before["rows"] if row["task"] != task] + rows,
    }
    path.write_text(json.dumps(result, indent=0) + "\n")


class DnCNN(nn.Module):
    """The published network of 17 convolutions for grey pictures, on each channel for itself."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        weights = load_file(file)
        kernels = sorted((name for name in weights if name.endswith(".weight")), key=place)
        self.layers = [(weights[name].float(), weights[name.replace("weight", "bias")].float()) for name in kernels]

    def forward(self, image: Tensor) -> Tensor:
        grey = image.flatten(0, 1)[:, None]
        noise = grey
        for depth, (kernel, bias) in enumerate(self.layers):
            noise = nn.functional.conv2d(noise, kernel, bias, padding=1)
            noise = noise.relu() if depth < len(self.layers) - 1 else noise
        return (grey - noise).view_as(image)


def place(name: str) -> int:
    return int("".join(letter for letter in name if letter.isdigit()))


if __name__ == "__main__":
    main()
