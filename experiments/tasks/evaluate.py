"""Evaluate the runs of train.py on held-out photographs, and draw an image sheet for each task.

    OMP_NUM_THREADS=2 python experiments/tasks/evaluate.py --runs RUNS --assets DIR [--tasks denoising ...]

The photographs are Kodak24 of DIR/images/benchmark. Denoising is also compared with DnCNN's published greyscale network
(DIR/weights), which runs on each channel of the same noisy image. Writes result.json and an image sheet for each task
beside this file; rows of other tasks and other scripts stay.
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
METRICS = ("psnr_rgb", "ssim_y", "lpips_alex", "swd")
CROP_HEIGHT, CROP_WIDTH = 200, 280
SHEET_CROPS = {
    "denoising": ("kodim08", (270, 250)),
    "deblurring": ("kodim05", (150, 270)),
    "jpeg": ("kodim23", (60, 150)),
    "inpainting": ("kodim03", (150, 250)),
}
"""The photograph of each task's sheet, and its crop: top, left."""

Restore = Callable[[dict[str, Tensor]], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs of train.py")
    parser.add_argument("--assets", type=Path, required=True, help="folder with images/ and weights/")
    parser.add_argument("--tasks", nargs="+", choices=CASES, default=list(CASES))
    args = parser.parse_args()
    for name in args.tasks:
        case = CASES[name]
        methods: dict[str, tuple[Restore, dict]] = {"input": (case.build_task().baseline_output, {"loss": "none"})}
        for method in ("start", "L1", "looks"):
            run = args.runs / name / method
            model = load_restorer(run / "model.safetensors")[0].eval()
            config = json.loads((run / "config.json").read_text())
            seconds = json.loads((run / "log.jsonl").read_text().splitlines()[-1])["seconds"]
            settings = {"loss": config["loss"], "steps": config["steps"], "seconds": round(seconds)}
            methods[method] = (build_restore(case, model), settings)
        if name == "denoising":
            dncnn = DnCNN(args.assets / "weights" / "denoise_dncnn_gray25.safetensors")
            methods["DnCNN"] = (build_restore(case, dncnn), {"loss": "DnCNN, grey, sigma 25, published"})
        write_rows(name, compare(case, methods, args.assets / "images" / "benchmark" / "Kodak24"))


def build_restore(case: Case, model: Callable[[Tensor], Tensor]) -> Restore:
    return lambda batch: case.build_task().predict(model, batch)


def compare(case: Case, methods: dict[str, tuple[Restore, dict]], images: Path) -> list[dict]:
    """Return a row for each method and metric, and save the image sheet."""
    name, (top, left) = SHEET_CROPS[case.task]
    crop = (slice(None), slice(top, top + CROP_HEIGHT), slice(left, left + CROP_WIDTH))
    rows, sheet, truth = [], {}, torch.empty(0)
    for method, (restore, settings) in methods.items():
        evaluated = list(evaluate_images(case.build_task().evaluation_set(images), restore, border=0, which=METRICS))
        means = {metric: sum(row.metrics[metric] for row in evaluated) / len(evaluated) for metric in METRICS}
        print(case.task, method, {metric: round(value, 4) for metric, value in means.items()}, flush=True)
        for metric, value in means.items():
            rows.append({"task": case.task, "way": method, **settings, "metric": metric, "value": round(value, 4)})
        if method == "start":
            continue
        for row in evaluated:
            if Path(row.name).stem == name:
                caption = f"{row.metrics['psnr_rgb']:.2f} dB, LPIPS {row.metrics['lpips_alex']:.3f}"
                title = case.loss if method == "looks" else method
                sheet[f"{title}\n{caption}"] = row.pred[0][crop].clamp(0, 1)
                truth = row.batch["target"][0][crop]
    save_image_sheet(sheet | {"truth": truth}, HERE / f"{case.task}.png")
    return rows


def write_rows(task: str, rows: list[dict]) -> None:
    """Write rows into result.json, in place of the task's earlier rows."""
    path = HERE / "result.json"
    before = json.loads(path.read_text()) if path.is_file() else {"rows": []}
    processor = platform.processor() or platform.machine()
    result = {
        "protocol": "12 photographs of Kodak24, 8 bit, no border; LPIPS 0.1 AlexNet, patch distance: lower is better",
        "machine": f"{processor}, 1 core, torch {torch.__version__}, CPU, bf16-mixed, seed 0",
        "lossmith": lossmith.__version__,
        "rows": [row for row in before["rows"] if row["task"] != task] + rows,
    }
    path.write_text(json.dumps(result, indent=0) + "\n")


class DnCNN(nn.Module):
    """The published network of 17 convolutions for greyscale images, applied to each channel separately.

    Args:
        file: The weight file.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        weights = load_file(file)
        kernels = sorted((name for name in weights if name.endswith(".weight")), key=layer_index)
        self.layers = [(weights[name].float(), weights[name.replace("weight", "bias")].float()) for name in kernels]

    def forward(self, image: Tensor) -> Tensor:
        channels = image.flatten(0, 1)[:, None]
        noise = channels
        for depth, (kernel, bias) in enumerate(self.layers):
            noise = nn.functional.conv2d(noise, kernel, bias, padding=1)
            noise = noise.relu() if depth < len(self.layers) - 1 else noise
        return (channels - noise).view_as(image)


def layer_index(name: str) -> int:
    return int("".join(letter for letter in name if letter.isdigit()))


if __name__ == "__main__":
    main()
