"""`lossmith demo`: the upscaler of the package with its slider, then a complete experiment, on photographs."""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossmith._checks import MAX_SEED
from lossmith._format import print_table, print_text
from lossmith.cli.common_options import Device

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from torch import Tensor

    from lossmith.tasks import Batch

__all__ = ["register"]

PIXEL_LOSS, FORMULA = "L1", "L1 + 0.002*perceptual"
COMMON: dict[str, Any] = {"batch": 8, "crop": 96, "ema": 0.99, "scale": 4, "log_every": 50, "checkpoint_every": 500}
STEPS = {"start": 1000, "branch": 500}
DETAIL = (60, 120, 112, 160)  # an eye in chelsea.png: top, left, height, width


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", rich_help_panel="Start here")(run_demo)


def run_demo(
    photos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[text-to-image|PHOTO...]",
            help="Photographs, or folders of them, to enlarge in the first part \\[three of scikit-image]; or "
            "text-to-image, another demo, which takes ten minutes.",
        ),
    ] = None,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Stop after the first part: the trained upscaler with its slider.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the runs, the comparison and the report.")] = Path(
        "lossmith-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Random seed for weights, crops and their order.")] = 0,
    device: Device = "auto",
) -> None:
    """Turn the slider of a trained upscaler, then train networks with L1 and with a formula and compare the results.

    First, the x4 network of the package enlarges photographs: a page shows them at five places between accuracy and
    realism, with a live slider. Then a small x4 network trains on eleven photographs with L1. From there one copy
    continues with L1 and one with the formula, for the same number of steps on the same crops. Both are evaluated on
    held-out photographs, on the same page. The first part takes seconds and the second about three minutes on 2 cores,
    without a GPU or a download. Rerun the command to resume.
    """
    if photos == ["text-to-image"]:
        from lossmith.cli.demo_text_to_image import run_text_to_image_demo

        return run_text_to_image_demo(out, seed, device=device)
    from rich.console import Console

    from lossmith.device import resolve_device

    console = Console(highlight=False, soft_wrap=True)
    resolve_device(device)  # raises before anything is prepared
    start, page = time.monotonic(), out / "report.html"
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder; {str(out)!r} is a file.")
    section = show_network([Path(photo) for photo in photos or []], page, console, is_required=bool(photos or quick))
    if section:
        next_part = "" if quick else "; the trainings follow, and the page grows after each"
        print_text(console, f"Page: {page}  ({time.monotonic() - start:.0f} s{next_part})")
        print_text(console, "To enlarge a whole photograph: lossmith restore photo.jpg large.png --at 0.5")
    return None if quick else run_trainings(out, seed, device, section, console, start)


def show_network(photos: list[Path], page: Path, console: "Console", *, is_required: bool) -> str:
    """Write the page of the upscaler of the package, and return its section; "" if the installation lacks it.

    Raises:
        ValueError: A photograph cannot be read, or the upscaler is required and missing.
    """
    from lossmith.cli.demo_upscaler import show_upscaler, show_upscaler_on
    from lossmith.data import list_upscaler_images
    from lossmith.models.shipped import DEFAULT_UPSCALER, find_shipped_file
    from lossmith.report.document import write_document
    from lossmith.report.slider_section import SLIDER_ASSETS

    try:
        find_shipped_file(DEFAULT_UPSCALER)
    except ValueError as error:
        if is_required:
            raise
        print_text(console, f"{error} The demo begins with the trainings.")
        return ""
    section = show_upscaler_on(photos, console) if photos else show_upscaler(list_upscaler_images(), console)
    write_document("lossmith demo", section, page, **SLIDER_ASSETS)
    return section


def run_trainings(out: Path, seed: int, device: str, section: str, console: "Console", start: float) -> None:
    """Train the networks, compare them, and add them to the page."""
    from lossmith.data import list_sample_images
    from lossmith.report import write_report
    from lossmith.report.slider_section import SLIDER_ASSETS

    def write_page(*names: str) -> Path:
        runs = [out / name for name in names]
        return write_report(runs, out / "report.html", lead=section, **(SLIDER_ASSETS if section else {}))

    training, held_out = list_sample_images()
    images, val = copy_images(training, out / "training"), copy_images(held_out, out / "held-out")
    common = {**COMMON, "images": images, "val": val, "seed": seed}
    if not train_stages(out, common, device, console, write_page):
        console.print("Stopped. Rerun the command to resume.")
        raise KeyboardInterrupt
    compare_runs(console, {run: out / run for run in ("pixel", "perceptual")}, held_out, out / "demo.png")
    print_text(console, f"Report: {write_page('pixel', 'perceptual')}")
    return print_text(console, f"Comparison: {out / 'demo.png'}  ({time.monotonic() - start:.0f} s in total)")


def copy_images(files: list[Path], folder: Path) -> str:
    """Copy images to a folder, since a run trains on a folder, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, folder / file.name)
    return str(folder)


def train_stages(
    out: Path, common: dict[str, Any], device: str, console: "Console", write_page: "Callable[..., object]"
) -> bool:
    """Train the common start and both branches, and add each to the page; return whether all are complete."""
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
        done = train(Settings(loss=loss, **common, **settings), out / name, device=device, console=console)
        if done < settings["steps"]:
            return False
        write_page(*([name] if number == 1 else [each for each, *_ in stages[1:number]]))
    return True


def compare_runs(console: "Console", runs: dict[str, Path], images: list[Path], file: Path) -> None:
    """Print the metrics of each network on held-out images, and save a detail of the first image."""
    import torch
    from rich.table import Table

    from lossmith.inference.networks import load_trained_network
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
