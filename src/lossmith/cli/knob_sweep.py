"""`lossmith knob sweep`: the effect of a knob, measured over its range."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossmith._format import print_text
from lossmith.cli.common_options import Device, Inputs, InterpolateOutputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from lossmith.knob.slider_calibration import KnobSweep
    from lossmith.models.knob_network import KnobNetwork
    from lossmith.tasks import EvaluationSet, Task

__all__ = ["register"]

EPILOG = """Examples:

  lossmith knob sweep runs/knob

  lossmith knob sweep runs/knob --images Set14/ --out set14/ --metric psnr_y --metric lpips_alex"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep", epilog=EPILOG)(print_sweep)


def print_sweep(
    source: Annotated[str, typer.Argument(metavar="RUN|WEIGHTS", help="Run with a knob, or its weights.")],
    images: Annotated[
        str | None, typer.Option(help="Folder of images, or shards \\[the validation images of the run].")
    ] = None,
    inputs: Inputs = None,
    out: Annotated[Path | None, typer.Option(help="Output folder \\[RUN/knob, or RUN/knob_ends].")] = None,
    equalise: Annotated[
        bool | None,
        typer.Option(
            "--equalise/--no-equalise", help="Store the slider's table in the weights \\[only without --images]."
        ),
    ] = None,
    interpolate_outputs: InterpolateOutputs = False,
    points: Annotated[int, typer.Option(min=2, help="Number of points from the low to the high end.")] = 21,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metrics, comma-separated or repeated \\[those of evaluate, dists and swd]."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Measure a knob from low to high, and calibrate its slider so that equal moves look equally large.

    Several knobs move together. The command writes strip.png, images at seven points; curve.png, accuracy against
    realism; and sweep.json, every metric. The slider's table is stored in the weights, for `lossmith restore --at`.
    """
    from rich.console import Console

    from lossmith._files import write_text_atomically
    from lossmith.cli.tables import print_omissions
    from lossmith.device import resolve_device
    from lossmith.inference.knob_settings import interpolate_ends, load_knob_network
    from lossmith.metrics import describe_protocol, find_missing_metrics
    from lossmith.models.files import save_sliders

    console, place = Console(highlight=False, soft_wrap=True), resolve_device(device)
    network = load_knob_network(source).to(place)
    model = interpolate_ends(network, source) if interpolate_outputs else network
    run = Path(source) if Path(source).is_dir() else None
    store = equalise if equalise is not None else images is None
    if store and not run and not Path(source).is_file():
        raise ValueError(f"The weights of {source!r} are part of the package and are not written to; omit --equalise.")
    task, examples, shown = evaluation_images(network, run, images, inputs)
    metrics = select_metrics(metric)
    missing = find_missing_metrics(metrics, channels=task.pixels.channels)
    if len(missing) == len(metrics):
        raise ValueError(f"None of the metrics can be computed. {next(iter(missing.values()))}")
    swept = measure_knob(model, task, examples, metrics, points, place)
    count = len(swept.image_metrics)
    model.slider = swept.calibrate_slider(f"{count} image{'s' * (count != 1)} of {shown!r}")
    used = [name for name in metrics if name not in missing]
    record = {
        "network": source,
        "images": shown,
        "scale": model.scale,
        "interpolate_outputs": interpolate_outputs,
        **swept.to_record(),
        "positions": model.slider.positions,
        "protocol": describe_protocol(task.border, used, task.pixels, task.scale),
        "missing": missing,
        "skipped": [file._asdict() for file in examples.skipped],
    }
    folder = out or (run or Path()) / ("knob_ends" if interpolate_outputs else "knob")
    write_text_atomically(folder / "sweep.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
    draw_sweep(folder, source, swept, model, task, examples, used, place)
    if store:
        file = run / "model.safetensors" if run else Path(source)
        save_sliders(network, file)
        kind = " of interpolated outputs" * interpolate_outputs
        print_text(console, f"{file}: the slider{kind} is equalised by {swept.distance}.")
    print_omissions(console, missing, record["skipped"])
    for name in ("strip.png", "curve.png", "sweep.json"):
        print_text(console, str(folder / name))


def select_metrics(names: "Sequence[str] | None") -> "list[str]":
    """Return the metrics of the given names; the default metrics, DISTS and the patch distance by default.

    Raises:
        ValueError: A metric does not exist.
    """
    from lossmith.metrics import DEFAULT_METRICS, parse_metrics

    return parse_metrics(names) if names else [*DEFAULT_METRICS, "dists", "swd"]


def evaluation_images(
    model: "KnobNetwork", run: Path | None, images: str | None, inputs: str | None
) -> "tuple[Task, EvaluationSet, str]":
    """Return the task, the images and their folder; by default the validation images of the run.

    Raises:
        ValueError: There are neither images nor a run.
    """
    from lossmith.data.shards.unpack import describe_clips
    from lossmith.tasks import SuperResolution
    from lossmith.train import Settings
    from lossmith.train.preparation import build_task

    settings = Settings.read(run / "config.json") if run else None
    task = build_task(settings) if settings else SuperResolution(model.scale)
    task = task.with_pixels_of(run / "model.safetensors") if run else task
    if settings is None:
        if images is None:
            raise ValueError("A file of weights names no images; give --images, or the run of the weights.")
        return task, task.for_images(images, inputs=inputs).evaluation_set(images), str(images)
    if images is None and settings.val is None:
        return task, task.held_out_images(settings.images, settings.val_count), settings.images
    folder = str(images or settings.val)
    for note in describe_clips(folder, task.pixels):
        print(note, file=sys.stderr)
    task = task.for_images(folder, inputs=inputs, trained_on=settings.images, val=settings.val)
    return task, task.evaluation_set(folder, limit=None if images else settings.val_count), folder


def measure_knob(
    model: "KnobNetwork",
    task: "Task",
    examples: "EvaluationSet",
    metrics: "Sequence[str]",
    points: int,
    device: "torch.device",
) -> "KnobSweep":
    """Return the metrics at all points of the knob, with a progress bar."""
    from rich.console import Console
    from rich.progress import Progress

    from lossmith.knob.slider_calibration import sweep_knob

    with Progress(console=Console(), transient=True) as progress:
        bar = progress.add_task("sweep", total=len(examples))
        return sweep_knob(
            model,
            task,
            examples,
            points=points,
            metrics=metrics,
            device=device,
            on_image_end=lambda _: progress.advance(bar),
        )


def draw_sweep(
    folder: Path,
    source: str,
    swept: "KnobSweep",
    model: "KnobNetwork",
    task: "Task",
    examples: "EvaluationSet",
    metrics: "Sequence[str]",
    device: "torch.device",
) -> None:
    """Write curve.png and strip.png."""
    from lossmith._files import write_atomically
    from lossmith.knob.report.sweep import draw_sweep_curves, draw_sweep_strip

    assert model.slider is not None
    title = f"{source} on {model.slider.images}"
    shown = [name for name in ("psnr_y", "lpips_alex") if name in metrics] or metrics
    write_atomically(folder / "curve.png", lambda partial: draw_sweep_curves(swept, title, partial))
    write_atomically(
        folder / "strip.png",
        lambda partial: draw_sweep_strip(model, task, examples, partial, metrics=shown, device=device),
    )
