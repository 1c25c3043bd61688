"""`lossmith demo`: the whole story in three minutes, on photographs that come with a dependency."""

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossmith.cli.networks import chosen

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from torch import Tensor

    from lossmith.tasks import Batch

__all__ = ["register"]

PIXEL, FORMULA = "L1", "L1 + 0.02*perceptual + 0.1*SSIM"
COMMON: dict[str, Any] = {"batch": 8, "crop": 96, "ema": 0.99, "scale": 4, "log_every": 50, "checkpoint_every": 500}
STEPS = {"start": 1000, "branch": 500}
PLACE = (60, 120, 112, 160)  # chelsea's eye: top, left, height, width


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("demo", rich_help_panel="Start here")(demo)


def demo(
    what: Annotated[
        str, typer.Argument(help="super-resolution; or text-to-image, which takes ten minutes.")
    ] = "super-resolution",
    *,
    out: Annotated[Path, typer.Option(help="Folder for the three runs, the picture and the page.")] = Path(
        "lossmith-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of the weights, the crops and their order.")] = 0,
) -> None:
    """Train one network twice, with L1 and with a formula, and see what the other terms did.

    A small x4 super-resolver learns from eleven photographs with L1; from there one copy goes on with L1 alone and one
    with the formula, for as many steps on the same crops. Both are judged on photographs that neither has seen. About
    three minutes on 2 cores; no GPU, no download. The same command again goes on where it was stopped.
    """
    if what == "text-to-image":
        from lossmith.cli.demo_text_to_image import demonstrated

        return demonstrated(out, seed)
    if what != "super-resolution":
        raise ValueError(f"There are the demos super-resolution and text-to-image; got {what!r}.")
    from rich.console import Console

    from lossmith.data import list_sample_images
    from lossmith.report import write_report
    from lossmith.train import Settings, train

    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    training, held_out = list_sample_images()
    common = {**COMMON, "images": gathered(training, out / "training"), "val": gathered(held_out, out / "held-out")}
    fresh, begun = {"name": "edsr", "blocks": 6}, {"name": str(out / "start" / "model.safetensors")}
    stages: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("start", PIXEL, {"steps": STEPS["start"], "val_every": STEPS["start"], "lr": 1e-3, "model": fresh}),
        ("L1", PIXEL, {"steps": STEPS["branch"], "val_every": 250, "lr": 5e-4, "model": begun}),
        ("formula", FORMULA, {"steps": STEPS["branch"], "val_every": 250, "lr": 5e-4, "model": begun}),
    )
    for number, (name, loss, rest) in enumerate(stages, start=1):
        console.print(f"{number} of 3: {loss}, {rest['steps']} steps, from {'nothing' if number == 1 else 'there'}")
        settings = Settings(loss=loss, seed=seed, **common, **rest)
        if train(settings, out / name, console=console) < settings.steps:
            return console.print("Stopped; the same command goes on.")
    runs = {name: out / name for name in ("L1", "formula")}
    compared(console, runs, held_out, out / "demo.png")
    console.print(f"The page: {page(list(runs.values()), out / 'report.html')}")
    return console.print(f"The picture: {out / 'demo.png'}  ({time.monotonic() - began:.0f} s in all)")


def gathered(files: list[Path], folder: Path) -> str:
    """The pictures in a folder of their own, since a run trains on a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, folder / file.name)
    return str(folder)


def compared(console: "Console", runs: dict[str, Path], pictures: list[Path], drawing: Path) -> None:
    """Prints what each network makes of the held-out pictures, and draws a place of the first."""
    import torch
    from rich.table import Table

    from lossmith.losses import perceptual
    from lossmith.metrics import DEFAULT_METRICS, find_missing_metrics
    from lossmith.report import save_image_sheet
    from lossmith.tasks import SuperResolution
    from lossmith.train.evaluation import evaluate_images, mean_metrics

    task = SuperResolution(4)
    pixel, formula = chosen(runs["L1"]), chosen(runs["formula"])
    ways: dict[str, Callable[[Batch], Tensor]] = {"bicubic": task.baseline_output}
    ways |= {PIXEL: lambda batch: pixel(batch["input"]), FORMULA: lambda batch: formula(batch["input"])}
    own = perceptual()  # the distance that the formula itself minimises, where LPIPS cannot be had
    absent = find_missing_metrics()
    realism = "the embedded network's distance ↓ (the loss's own network)" if "lpips_alex" in absent else "LPIPS-Alex ↓"
    columns = ("", "PSNR-Y dB ↑", "SSIM-Y ↑", realism, "texture (1 is right)")
    table = Table(*columns, title="x4, photographs that no network was trained on", title_justify="left")
    which = [metric for metric in DEFAULT_METRICS if metric not in absent]
    drawn = {}
    for name, restore in ways.items():
        rows = list(evaluate_images(task.evaluation_set(pictures), restore, border=task.border, which=which))
        figures = mean_metrics([row.metrics for row in rows])
        with torch.no_grad():
            distance = sum(float(own(row.pred.clamp(0, 1), row.batch["target"])) for row in rows) / len(rows)
        shown = [figures["psnr_y"], figures["ssim_y"], figures.get("lpips_alex", distance), figures["texture"]]
        table.add_row(name, *(f"{value:.{digits}f}" for value, digits in zip(shown, (2, 3, 3, 2), strict=True)))
        drawn[f"{name}\nPSNR-Y {rows[0].metrics['psnr_y']:.2f} dB"] = rows[0].pred[0]
    console.print(table)
    save_image_sheet(drawn | {"truth": rows[0].batch["target"][0]}, drawing, crop=PLACE)
