"""`lossmith knob sweep`: what turning a knob does, seen, measured, and made even."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossmith.metrics import MetricName
    from lossmith.models.conditioned import ConditionedNetwork
    from lossmith.tasks import EvaluationSet, Task

__all__ = ["register"]

EPILOG = """Examples:

  lossmith knob sweep runs/knob

  lossmith knob sweep runs/knob --images Set14/ --out set14/ --metric psnr_y --metric lpips_alex"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("sweep", epilog=EPILOG)(sweep)


def sweep(
    what: Annotated[str, typer.Argument(metavar="RUN|WEIGHTS", help="A run with a knob, or its weights.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of pictures to look at; by default those that the run is judged by.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for what it writes [RUN/knob, or RUN/knob_ends].")] = None,
    equalise: Annotated[
        bool | None,
        typer.Option(
            "--equalise/--no-equalise",
            help="Keep the slider's table with the weights; by default without --images.",
        ),
    ] = None,
    mix_ends: Annotated[
        bool, typer.Option("--mix-ends", help="Turn it by mixing its answers at both ends, for twice the work.")
    ] = False,
    places: Annotated[int, typer.Option(min=2, help="How many places from low to high.")] = 21,
    metric: Annotated[list[str] | None, typer.Option(help="A metric, again for more; by default all.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
) -> None:
    """Turn a knob from low to high, see what that does, and make equal moves of its slider look equally large.

    Several knobs turn together. It writes strip.png, the pictures at seven places; curve.png, accuracy against realism;
    and sweep.json, every figure. The slider's table goes into the weights, where `lossmith restore --at` finds it; that
    of --mix-ends beside it.
    """
    from rich.console import Console
    from rich.progress import Progress

    from lossmith._files import write_atomically, write_text_atomically
    from lossmith.cli.knob_options import knobbed, mixed
    from lossmith.cli.networks import device_of
    from lossmith.knob import slider_calibration
    from lossmith.knob.report.sweep import draw_sweep_curves, draw_sweep_strips
    from lossmith.metrics import find_missing_metrics, describe_protocol
    from lossmith.models import load_restorer, save_network

    console = Console(highlight=False, soft_wrap=True)
    place = device_of(device)
    network = knobbed(what).to(place)
    model = mixed(network, what) if mix_ends else network
    run = Path(what) if Path(what).is_dir() else None
    which = known(metric)
    if len(absent := find_missing_metrics(which)) == len(which):
        raise ValueError(f"No metric is left to measure by. {next(iter(absent.values()))}")
    taken = [name for name in which if name not in absent]
    seen = [name for name in ("psnr_y", "lpips_alex") if name in taken] or taken
    task, examples, shown = looked_at(network, run, images)
    folder = out or (run or Path()) / ("knob_ends" if mix_ends else "knob")
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("sweep", total=len(examples))
        swept = slider_calibration.sweep_knob(
            model, task, examples, count=places, which=which, device=place, done=lambda _: progress.advance(bar)
        )
    words = f"{len(swept.pictures)} picture{'s' * (len(swept.pictures) != 1)} of {shown!r}"
    model.slider = swept.equalised(words)
    record = {
        "what": what,
        "images": shown,
        "scale": model.scale,
        "mix_ends": mix_ends,
        **swept.record(),
        "t": model.slider.positions,
    }
    record |= {"protocol": describe_protocol(task.border, taken), "missing": absent}
    record["skipped"] = [file._asdict() for file in examples.skipped]
    write_text_atomically(folder / "sweep.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
    write_atomically(folder / "curve.png", lambda partial: draw_sweep_curves(swept, f"{what} on {words}", partial))
    write_atomically(folder / "strip.png", lambda partial: draw_sweep_strips(model, task, examples, partial, which=seen, device=place))
    if equalise if equalise is not None else images is None:
        file = run / "model.safetensors" if run else Path(what)
        header = load_restorer(file)[1]
        write_atomically(file, lambda partial: save_network(network, partial, header))
        console.print(
            f"{file}: its slider{' of mixed ends' * mix_ends} is equalised by the {swept.distance}.", markup=False
        )
    for name, why in absent.items():
        console.print(f"Without {name}. {why}", markup=False)
    for skipped in examples.skipped:
        console.print(f"Skipped {skipped.file}: {skipped.reason}", markup=False)
    for name in ("strip.png", "curve.png", "sweep.json"):
        console.print(str(folder / name), markup=False)


def known(asked: "Sequence[str] | None") -> "list[MetricName]":
    """The metrics that are asked for; by default all, the slow ones too."""
    from lossmith.metrics import DEFAULT_METRICS

    every: list[MetricName] = [*DEFAULT_METRICS, "dists", "swd"]
    if unknown := [name for name in asked or () if name not in every]:
        raise ValueError(f"There is no metric {unknown[0]!r}; there are {', '.join(every)}.")
    return [name for name in every if name in asked] if asked else every


def looked_at(model: "ConditionedNetwork", run: Path | None, images: Path | None) -> "tuple[Task, EvaluationSet, str]":
    """The task, the pictures, and whose they are: by default those that the run itself is judged by."""
    from lossmith.data import hold_out, list_images
    from lossmith.tasks import SuperResolution
    from lossmith.train import Settings
    from lossmith.train.preparation import build_task

    settings = Settings.read(run / "config.json") if run else None
    task = build_task(settings) if settings else SuperResolution(model.scale)
    if images:
        return task, task.evaluation_set(images), str(images)
    if settings is None:
        raise ValueError("Weights say nothing of pictures; give --images, or the run that they are of.")
    if settings.val:
        return task, task.evaluation_set(settings.val, limit=settings.val_count), settings.val
    files = list_images(settings.images)
    count = min(settings.val_count, max(1, len(files) // 10))
    return task, task.evaluation_set(hold_out(files, count)[1], limit=settings.val_count), settings.images
