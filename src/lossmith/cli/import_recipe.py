"""`lossmith import`: the recipe of another trainer as a formula and a command."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossmith._format import print_table, print_text
from lossmith.cli.common_options import AsJson, Device

if TYPE_CHECKING:
    from lossmith.balance import CalibrationReport
    from lossmith.importer import ImportedRecipe

__all__ = ["register"]

EPILOG = """Examples:

  lossmith import train_realesrgan_x4plus.yml

  lossmith import train_span.toml --images photos/"""

BATCHES = 4
"""Batches on which shares of the gradient are measured, each of as many crops."""
MAX_CROP = 192
"""Side of these crops in pixels, at most."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import", epilog=EPILOG, rich_help_panel="Formulas")(import_recipe)


def import_recipe(
    file: Annotated[Path, typer.Argument(help="Training configuration: .yml, .toml or KAIR's .json.")],
    images: Annotated[
        str | None,
        typer.Option(
            help="Folder of images, or shards; measures the share of each term, and is part of the train command."
        ),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Convert a training configuration of BasicSR, Real-ESRGAN, traiNNer-redux, neosr or KAIR.

    Prints the loss as a formula, with the constants that are hidden in the classes of the trainer; what differs from
    the original, what could not be carried over, and why; and the command that trains with the same settings. Nothing
    in the file is run. With --images, each weight is also printed as a share of the gradient.
    """
    from lossmith.importer import read_recipe

    recipe = read_recipe(file, images=images)
    report = None
    if images is not None and recipe.loss is not None:
        try:
            report = measure_shares(recipe, images, device)
        except ValueError as error:  # no weights of a network, or no image of the size of the crops
            recipe.notes.append(f"The shares of the gradient are not measured. {error}")
    if as_json:
        shares = {} if report is None else {"shares": {term.name: term.share for term in report.terms}}
        print(json.dumps({**recipe.as_dict(), **shares}, indent=2, allow_nan=False))
    else:
        print_recipe(recipe, report)


def print_recipe(recipe: "ImportedRecipe", report: "CalibrationReport | None") -> None:
    """Print the terms, the formula, the differences and the command."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    table = Table(recipe.framework, "lossmith", title_justify="left")
    for term in recipe.terms:
        table.add_row(term.source, repr(term.loss))
    for source in recipe.left_out:
        table.add_row(source, "left out")
    print_table(console, table)
    print_text(console, f"Loss: {recipe.loss!r}" if recipe.loss else "No term of the loss could be carried over.")
    if report is not None:
        print_text(console, f"At {report.source}: {report.proportion}.")
    for term in recipe.terms:
        for deviation in term.deviations:
            print_text(console, f"{term.source}: {deviation}.")
    for source, reason in recipe.left_out.items():
        print_text(console, f"{source} is left out: {reason}.")
    for note in recipe.notes:
        print_text(console, note)
    if recipe.command:
        print_text(console, f"\n{recipe.command_line}")


def measure_shares(recipe: "ImportedRecipe", images: str, device: str) -> "CalibrationReport":
    """Return the shares of the terms in the gradient at a prediction without details.

    That is bicubic upsampling at the scale of the recipe, or the noisy image at scale 1.
    """
    from functools import partial

    from lossmith.balance import calibrate
    from lossmith.data import upsample
    from lossmith.data.open_images import find_training_images
    from lossmith.device import resolve_device
    from lossmith.tasks import Denoising, SuperResolution
    from lossmith.tasks.calibration import restoration_batches

    place = resolve_device(device)
    crop = min(recipe.crop or MAX_CROP, MAX_CROP)
    crop = max(crop - crop % recipe.scale, recipe.scale)
    task: Any = SuperResolution(recipe.scale) if recipe.scale > 1 else Denoising(sigma=25)
    restore = partial(upsample, scale=recipe.scale) if recipe.scale > 1 else lambda image: image
    items = task.training_set(find_training_images(images), crop=crop, seed=0)
    inputs = restoration_batches(task, items, restore, batches=BATCHES, batch=BATCHES, device=place)
    what = "bicubic upsampling" if recipe.scale > 1 else "noise of 25/255"
    assert recipe.loss is not None
    return calibrate(recipe.loss.to(place), inputs, source=f"{what} of crops of {crop} px")
