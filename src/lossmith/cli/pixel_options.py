"""The options that say how the samples of image files become what a network sees."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lossmith.tasks import Task

__all__ = ["SAMPLES", "NoData", "Page", "Range", "Transfer", "task_for_images"]

SAMPLES = "Samples"

Range = Annotated[
    str | None,
    typer.Option(
        "--range",
        help="Range of the stored values, LOW:HIGH, or auto for their percentiles \\[that of the training].",
        rich_help_panel=SAMPLES,
    ),
]
Transfer = Annotated[
    str | None,
    typer.Option(
        help="Transfer function: linear, srgb, log, mu-law or pq \\[that of the training].", rich_help_panel=SAMPLES
    ),
]
NoData = Annotated[
    str | None,
    typer.Option(
        help="Value of samples without data, a number or nan \\[what the files declare].", rich_help_panel=SAMPLES
    ),
]
Page = Annotated[
    int | None,
    typer.Option(help="Page of a file with several pages, from 1.", min=1, rich_help_panel=SAMPLES),
]


def task_for_images(
    task: "Task",
    images: str | Path,
    weights: Path | None,
    value_range: str | None,
    transfer: str | None,
    no_data: str | None,
) -> "Task":
    """Return the task for the samples of a folder of images; notes on them go to standard error.

    Args:
        task: The task.
        images: The folder.
        weights: The weights of the network that is evaluated, which decide the samples; None to find them from the
            files. Grey and RGB of 8 bits are then read as RGB.
        value_range: The value of ``--range``.
        transfer: The value of ``--transfer``.
        no_data: The value of ``--no-data``.

    Raises:
        ValueError: The images differ, or the range of floats is not stated.
    """
    from lossmith.data.find_pixels import PixelOptions, parse_no_data, parse_value_range
    from lossmith.data.shards.unpack import describe_clips

    task = task if weights is None else task.with_pixels_of(weights)
    is_stated = value_range is not None or transfer is not None or no_data is not None
    if not (is_stated or task.accepts_any_image):
        return task
    pixels = task.pixels
    if weights is None or value_range == "auto":
        channels = None if weights is None else pixels.channels
        found, notes = task.find_pixels(str(images), PixelOptions(channels, value_range, transfer or "linear", no_data))
        if not is_stated and found.dtype == "uint8" and found.channels in (1, 3):
            return task
        pixels = found
    else:
        stated = {
            "value_range": None if value_range is None else parse_value_range(value_range),
            "transfer": transfer,
            "no_data": parse_no_data(no_data),
        }
        pixels = replace(pixels, **{name: value for name, value in stated.items() if value is not None})  # type: ignore[arg-type]
        notes = describe_clips(images, pixels)
    for note in notes:
        print(note, file=sys.stderr)
    return task.with_pixels(pixels)
