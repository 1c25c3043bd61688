"""`lossmith demo`: a complete experiment in three minutes, on photographs that a dependency carries."""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossmith._checks import MAX_SEED
from lossmith._format import print_table, print_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from torch import Tensor

    from lossmith.tasks import Batch

__all__ = ["register"]

PIXEL_LOSS, FORMULA = "L1", "L1 + 0.02*perceptual + 0.1*SSIM"
COMMON: dict[str, Any] = {"batch": 8, "crop": 96, "ema": 0.99, "scale": 4, "log_every": 50, "checkpoint_every": 500}
STEPS = {"start": 1000, "branch": 500}
DETAIL = (60, 120, 112, 160)  # an eye in chelsea.png: top, left, height, width


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", rich_help_panel="Start here")(run_demo)


def run_demo(
    name: Annotated[
        str, typer.Argument(metavar="DEMO", help="super-resolution; or text-to-image, which takes ten minutes.")
    ] = "super-resolution",
    *,
    out: Annotated[Path, typer.Option(help="Folder for the runs, the comparison and the report.")] = Path(
        "lossmith-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Random seed for weights, crops and their order.")] = 0,
) -> None:
    """Train a network with L1 and with a formula, and compare the results.

    A small x4 super-resolution network trains on eleven photographs with L1. From there one copy continues with L1 and
    one with the formula, for the same number of steps on the same crops. Both are evaluated on held-out photographs.
    The demo takes about three minutes on 2 cores, without a GPU or a download. Rerun the command to resume.
    """
    if name == "text-to-image":
        from lossmith.cli.demo_text_to_image import run_text_to_image_demo

        return run_text_to_image_demo(out, seed)
    if name != "super-resolution":
        raise ValueError(f"The demos are super-resolution and text-to-image; got {name!r}.")
    from rich.console import Console

    from lossmith.data import list_sample_images
    from lossmith.report import write_report

    console = Console(highlight=False, soft_wrap=True)
    start = time.monotonic()
    training, held_out = list_sample_images()
    images, val = copy_images(training, out / "training"), copy_images(held_out, out / "held-out")
    if not train_stages(out, {**COMMON, "images": images, "val": val, "seed": seed}, console):
        console.print("Stopped. Rerun the command to resume.")
        raise KeyboardInterrupt
    runs = {run: out / run for run in ("pixel", "perceptual")}
    compare_runs(console, runs, held_out, out / "demo.png")
    print_text(console, f"Report: {write_report(list(runs.values()), out / 'report.html')}")
    return print_text(console, f"Comparison: {out / 'demo.png'}  ({time.monotonic() - start:.0f} s in total)")


def copy_images(files: list[Path], folder: Path) -> str:
    """Copy images to a folder, since a run trains on a folder, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, folder / file.name)
    return str(folder)


def train_stages(out: Path, common: dict[str, Any], console: "Console") -> bool:
    """Train the common start and both branches; return whether all are complete."""
    from lossmith.train import Settings, train

    new, pretrained = {"name": "edsr", "blocks": 6}, {"name": str(out / "start" / "model.safetensors")}
    branch = {"steps": STEPS["branch"], "val_every": 250, "lr": 5e-4, "model": pretrained}
    stages: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("start", PIXEL_LOSS, {"steps": STEPS["start"], "val_every": STEPS["start"], "lr": 1e-3, "model": new}),
        ("pixel", PIXEL_LOSS, branch),
        ("perceptual", FORMULA, branch),
    )
    for number, (name, loss, settings) in enumerate(stages, start=1):
        origin = "from scratch" if number == 1 else "from run 1"
        print_text(console, f"Run {number} of 3: {loss}, {settings['steps']} steps, {origin}")
        if train(Settings(loss=loss, **common, **settings), out / name, console=console) < settings["steps"]:
            return False
    return True


def compare_runs(console: "Console", runs: dict[str, Path], images: list[Path], file: Path) -> None:
    """Print the metrics of each network on held-out images, and save a detail of the first image."""
    import torch
    from rich.table import Table

    from lossmith.cli.networks import load_trained_network
    from lossmith.losses import perceptual
    from lossmith.metrics import DEFAULT_METRICS, find_missing_metrics
    from lossmith.report import save_image_sheet
    from lossmith.tasks import SuperResolution
    from lossmith.train.evaluation import evaluate_images, mean_metrics

    task = SuperResolution(4)
    pixel, formula = load_trained_network(runs["pixel"]), load_trained_network(runs["perceptual"])
    methods: dict[str, Callable[[Batch], Tensor]] = {"bicubic": task.baseline_output}
    methods |= {PIXEL_LOSS: lambda batch: pixel(batch["input"]), FORMULA: lambda batch: formula(batch["input"])}
    own_distance = perceptual()  # the term of the formula itself, if LPIPS is not available
    missing = find_missing_metrics()
    realism = "distance of the embedded network ↓ (in the loss)" if "lpips_alex" in missing else "LPIPS-Alex ↓"
    columns = ("", "PSNR-Y dB ↑", "SSIM-Y ↑", realism, "texture (1 is ideal)")
    table = Table(*columns, title="x4, held-out photographs", title_justify="left")
    which = [metric for metric in DEFAULT_METRICS if metric not in missing]
    panels = {}
    for name, restore in methods.items():
        rows = list(
            evaluate_images(task.evaluation_set(images), restore, border=task.border, which=which, pixels=task.pixels)
        )
        means = mean_metrics([row.metrics for row in rows])
        with torch.no_grad():
            distances = [float(own_distance(row.pred.clamp(0, 1), row.batch["target"])) for row in rows]
        realism_value = means.get("lpips_alex", sum(distances) / len(distances))
        values = [means["psnr_y"], means["ssim_y"], realism_value, means["texture"]]
        table.add_row(name, *(f"{value:.{digits}f}" for value, digits in zip(values, (2, 3, 3, 2), strict=True)))
        panels[f"{name}\nPSNR-Y {rows[0].metrics['psnr_y']:.2f} dB"] = rows[0].pred[0]
    print_table(console, table)
    save_image_sheet(panels | {"truth": rows[0].batch["target"][0]}, file, crop=DETAIL)
