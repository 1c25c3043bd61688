"""`lossmith evaluate`: the metrics of a network on a folder of images."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from lossmith._checks import MAX_SEED
from lossmith._format import print_table
from lossmith.cli.common_options import At, Device, Inputs, InterpolateOutputs, Metrics, Scale, WhichWeights
from lossmith.cli.options_command import OptionsCommand
from lossmith.cli.pixel_options import NoData, Range, Transfer

__all__ = ["register"]

T = TypeVar("T")

EPILOG = """Examples:

  lossmith evaluate runs/x4 --images Set5/

  lossmith evaluate bicubic --scale 4 --images Set5/ --metric psnr_y,lpips_vgg,dists --json

  lossmith evaluate runs/shapes --captions shapes --guidance 1,2,3 --json"""

CAPTIONS = "Text-to-image networks"

HELP = """Evaluate a network, or bicubic upsampling, on images: the mean of each metric and its value for each image.

The default metrics are PSNR and SSIM on Y, PSNR on RGB, LPIPS and texture; --metric names others, such as DISTS. The
images are degraded as in the training of the network. In super-resolution a border as wide as the scale is excluded, as
in the papers."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate", cls=OptionsCommand, help=HELP, epilog=EPILOG, rich_help_panel="Networks")(EvaluateOptions)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """The options of ``lossmith evaluate``."""

    network: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CHECKPOINT|bicubic",
            help="Run folder, file of weights, lossmith-x4, lossmith-x2, or bicubic upsampling.",
        ),
    ]
    images: Annotated[
        str | None,
        typer.Option(help="Folder of target images, a folder with HR/ and LRx4/ in it, or shards (.tar, or a URL)."),
    ] = None
    inputs: Inputs = None
    metric: Metrics = None
    scale: Scale = None
    at: At = None
    interpolate_outputs: InterpolateOutputs = False
    weights: WhichWeights = None
    value_range: Range = None
    transfer: Transfer = None
    no_data: NoData = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: mean, each image, protocol, skipped files.")] = (
        False
    )
    device: Device = "auto"
    captions: Annotated[
        str | None, typer.Option(help="Captioned images: shapes, or a folder.", rich_help_panel=CAPTIONS)
    ] = None
    val: Annotated[
        str | None,
        typer.Option(help="Captioned validation images, if the training had its own --val.", rich_help_panel=CAPTIONS),
    ] = None
    guidance: Annotated[str, typer.Option(help="Guidance weights, such as 1,1.5,2,3,5.", rich_help_panel=CAPTIONS)] = (
        "1,2,3"
    )
    count: Annotated[int, typer.Option(min=8, help="Number of samples.", rich_help_panel=CAPTIONS)] = 96
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.", rich_help_panel=CAPTIONS)] = 25
    sampler: Annotated[str, typer.Option(help="Sampler: euler, heun, ddim or dpm++.", rich_help_panel=CAPTIONS)] = (
        "euler"
    )
    judge: Annotated[
        Path | None,
        typer.Option(
            help="File of a CaptionJudge, which ranks 100 captions for each sample.", rich_help_panel=CAPTIONS
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option(min=0, max=MAX_SEED, help="Random seed for captions and noise.", rich_help_panel=CAPTIONS),
    ] = 0

    def execute(self) -> None:
        """Evaluate the network on images or on captions, and print the metrics."""
        if self.captions is not None:
            self.evaluate_on_captions(self.captions)
            return
        if self.images is None:
            raise ValueError("evaluate needs --images FOLDER, or --captions for a text-to-image network.")
        record = evaluate_on_images(
            self.network,
            self.images,
            self.scale,
            self.at or [],
            self.interpolate_outputs,
            self.device,
            inputs=self.inputs,
            metrics=self.metric,
            samples=(self.value_range, self.transfer, self.no_data),
            weights=self.weights,
        )
        if self.as_json:
            print(json.dumps(nonfinite_to_null(record), indent=2, allow_nan=False))
        else:
            print_metrics(record)

    def evaluate_on_captions(self, captions: str) -> None:
        """Evaluate a text-to-image network, and print the metrics."""
        from lossmith.cli.evaluate_captions import evaluate_on_captions, print_caption_metrics

        record = evaluate_on_captions(
            self.network,
            captions,
            guidance=self.guidance,
            count=self.count,
            steps=self.steps,
            sampler=self.sampler,
            seed=self.seed,
            device=self.device,
            judge=self.judge,
            val=self.val,
        )
        if self.as_json:
            print(json.dumps(record, indent=2, allow_nan=False))
        else:
            print_caption_metrics(record)


def evaluate_on_images(
    network: str,
    images: str | Path,
    scale: int | None,
    at: list[str],
    interpolate_outputs: bool,
    device: str,
    *,
    inputs: str | None = None,
    metrics: list[str] | None = None,
    samples: tuple[str | None, str | None, str | None] = (None, None, None),
    weights: str | None = None,
) -> dict[str, Any]:
    """Return the metrics of a network on a folder of images.

    Args:
        network: The run, the file of weights, or "bicubic".
        images: The folder of target images, or shards.
        scale: Upscaling factor; None for the network's.
        at: The values of ``--at``.
        interpolate_outputs: Whether the outputs at both ends of the knob are interpolated.
        device: The device.
        inputs: The folder of the inputs, if they are files.
        metrics: The values of ``--metric``.
        samples: The values of ``--range``, ``--transfer`` and ``--no-data``.
        weights: The value of ``--weights``.
    """
    import sys
    from contextlib import redirect_stdout
    from functools import partial

    from lossmith.cli.pixel_options import task_for_images
    from lossmith.device import resolve_device
    from lossmith.inference.knob_settings import interpolate_ends, parse_knob_settings
    from lossmith.inference.networks import (
        find_weights_file,
        load_evaluation_task,
        load_trained_network,
        select_weights,
    )
    from lossmith.metrics import (
        ARTEFACT_METRICS,
        default_metrics,
        describe_protocol,
        find_missing_metrics,
        parse_metrics,
    )
    from lossmith.tasks import Batch
    from lossmith.train.evaluation import evaluate_images, mean_metrics, metrics_by_image

    name, network = (
        network,
        network if network == "bicubic" else str(find_weights_file(select_weights(network, weights))),
    )
    model = None if network == "bicubic" else load_trained_network(network, scale)
    task = load_evaluation_task(network, model.scale if model else scale or 4, images, inputs)
    task = task_for_images(task, images, find_weights_file(network) if model else None, *samples)
    examples, place = task.evaluation_set(images), resolve_device(device)
    requested = parse_metrics(metrics) if metrics else default_metrics(task.scale)
    optional = () if metrics else ARTEFACT_METRICS
    missing = find_missing_metrics(requested, channels=task.pixels.channels)
    which = [metric for metric in requested if metric not in missing]
    if model:
        model.to(place)
        model = interpolate_ends(model, network) if interpolate_outputs else model
        with redirect_stdout(sys.stderr):  # the slider position; standard output is for the metrics
            knobs = parse_knob_settings(model, at, network)
    elif at or interpolate_outputs:
        raise ValueError(f"bicubic has no knob; omit {'--at' if at else '--interpolate-outputs'}.")

    def restore(batch: Batch) -> Any:
        if model is None:
            return task.baseline_output(batch)
        return task.predict(partial(model, **knobs(batch["input"])), batch)

    evaluated = evaluate_images(
        examples,
        restore,
        border=task.border,
        which=which,
        device=place,
        pixels=task.pixels,
        scale=task.scale,
        optional=optional,
        batch_pixels=0 if at else None,  # a map of the knob belongs to one image
    )
    with show_progress(evaluated, len(examples)) as images_so_far:
        rows = metrics_by_image(images_so_far)
    return {
        "network": name,
        "images": str(images),
        "task": task.name,
        "scale": task.scale,
        **({"at": at} if at else {}),
        **({"interpolate_outputs": True} if interpolate_outputs else {}),
        "n": len(rows),
        "mean": mean_metrics(list(rows.values())),
        "image_metrics": rows,
        "protocol": describe_protocol(task.border, which, task.pixels, task.scale),
        "missing": {metric: why for metric, why in missing.items() if metric not in optional},
        "skipped": [file._asdict() for file in examples.skipped],
    }


@contextmanager
def show_progress(images: Iterable[T], count: int) -> Iterator[Iterator[T]]:
    """Show a progress bar on standard error, in a terminal, while the images of the iterator are taken."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield iter(progress.track(images, total=count))


def nonfinite_to_null(value: Any) -> Any:
    """Return a value with None for numbers that JSON cannot hold, such as the PSNR of equal images."""
    if isinstance(value, dict):
        return {key: nonfinite_to_null(part) for key, part in value.items()}
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def print_metrics(record: dict[str, Any]) -> None:
    """Print a table of the metrics, then the missing metrics and the skipped files."""
    from rich.console import Console
    from rich.table import Table

    from lossmith.cli.tables import print_omissions

    console = Console(highlight=False, soft_wrap=True)
    names = list(record["mean"])
    table = Table("image", title=f"{record['network']}, x{record['scale']}, {record['images']}", title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    for image, metrics in record["image_metrics"].items():
        table.add_row(image, *(format_metric(name, metrics[name]) if name in metrics else "" for name in names))
    table.add_section()
    means = (format_metric(name, record["mean"][name]) for name in names)
    table.add_row(f"mean of {record['n']}", *means, style="bold")
    print_table(console, table)
    print_omissions(console, record["missing"], record["skipped"])


def format_metric(name: str, value: float) -> str:
    """Return a metric with its significant digits."""
    from lossmith.metrics import METRICS

    return f"{value:.{2 if METRICS[name].unit == 'dB' else 4}f}"
