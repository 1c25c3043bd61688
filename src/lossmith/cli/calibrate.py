"""`lossmith calibrate`: the share of each term of a formula, measured on images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossmith._checks import MAX_SEED
from lossmith._format import print_table, print_text
from lossmith.cli.common_options import AsJson, Device, Scale
from lossmith.cli.pixel_options import NoData, Range, Transfer, task_for_images

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lossmith.formula.loss import Loss

__all__ = ["register"]

EPILOG = """Examples:

  lossmith calibrate "esrgan()" --images photos/

  lossmith calibrate "70% * L1 + 30% * perceptual('vgg19', 'conv3_4')" --images photos/ --model runs/x4"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("calibrate", epilog=EPILOG, rich_help_panel="Formulas")(calibrate_formula)


def calibrate_formula(
    formula: Annotated[str, typer.Argument(help='Loss formula, such as "L1 + 0.002*perceptual".')],
    images: Annotated[
        str | None, typer.Option(help="Folder of images, or shards (.tar, or a URL), from which crops are cut.")
    ] = None,
    captions: Annotated[
        str | None,
        typer.Option(help="For text-to-image: captioned images, or shapes; measures gradients by noise level."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(metavar="RUN|CHECKPOINT|bicubic", help="Network of the predictions, best after warm-up."),
    ] = "bicubic",
    scale: Scale = None,
    batches: Annotated[int, typer.Option(min=1, help="Number of batches.")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Crops in a batch.")] = 8,
    crop: Annotated[int, typer.Option(min=1, help="Side of the crops in pixels of the target.")] = 96,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Random seed for the crops.")] = 0,
    value_range: Range = None,
    transfer: Transfer = None,
    no_data: NoData = None,
    gradients: Annotated[
        Path | None, typer.Option(help="Folder for images of the gradient of each term at the first crop.")
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure the value and the gradient norm of each term, and convert weights to shares.

    For super-resolution: crops are downsampled, upsampled by the network and compared with the originals. The norm of a
    term's gradient at the prediction is in units of L1's. The last two lines are the same loss with gradient shares for
    weights, which train --balance share maintains; and the loss in which weight 1 means an equal gradient norm for all
    terms, as train --calibrate interprets weights.
    """
    if captions is not None:
        from lossmith.cli.calibrate_captions import calibrate_on_captions

        calibrate_on_captions(
            formula, captions, model, batches=batches, batch=batch, seed=seed, device=device, as_json=as_json
        )
        return
    if images is None:
        raise ValueError("calibrate needs --images FOLDER, or --captions for a text-to-image network.")
    from lossmith import parse
    from lossmith.balance import calibrate
    from lossmith.data.image_listing import ImageFiles
    from lossmith.data.open_images import find_training_images
    from lossmith.device import resolve_device
    from lossmith.inference.networks import find_weights_file
    from lossmith.tasks import SuperResolution
    from lossmith.tasks.calibration import restoration_batches

    loss, place = parse(formula), resolve_device(device)
    upscale, factor = load_upscaling(model, scale, place)
    weights = None if model == "bicubic" else find_weights_file(model)
    task = task_for_images(SuperResolution(factor), images, weights, value_range, transfer, no_data)
    files = find_training_images(images)
    unlisted = files.skipped if isinstance(files, ImageFiles) else []
    items = task.training_set(files, crop=crop, seed=seed)
    source = f"x{factor} by {model}, crops of {crop} px of {images}"
    inputs = list(restoration_batches(task, items, upscale, batches=batches, batch=batch, device=place))
    report = calibrate(loss.to(place), inputs, source=source)
    if gradients is not None:
        write_gradient_images(gradients, report.resolve_shares().to(place), inputs[0])
    skipped = [file._asdict() for file in [*unlisted, *items.skipped]]
    if as_json:
        print(json.dumps({**report.as_dict(), "skipped": skipped}, allow_nan=False))
    else:
        print_calibration(formula, report, skipped)


def print_calibration(formula: str, report: Any, skipped: list[dict[str, str]]) -> None:
    """Print the table of a calibration, its notes, and the formulas that follow from it."""
    from rich.console import Console

    from lossmith.cli.tables import print_omissions

    console = Console(soft_wrap=True, highlight=False)
    for table in report.to_tables():
        print_table(console, table)
    print_text(console, f"The weights of {formula} are {report.proportion} on these images.")
    for note in report.notes:
        print_text(console, note)
    print_omissions(console, {}, skipped)
    print_text(console, f"As shares, for any images: {report.to_shares()!r}")
    print_text(console, f"In units of equal gradient norms, as train --calibrate: {report.rescale()!r}")


def load_upscaling(model: str, scale: int | None, device: "torch.device") -> tuple[Any, int]:
    """Return a function that upscales images, and its factor; knobs are at their midpoints."""
    import math
    from functools import partial

    from lossmith.data import upsample
    from lossmith.inference.networks import load_trained_network
    from lossmith.models.conditioned import ConditionedNetwork

    if model == "bicubic":
        return partial(upsample, scale=scale or 4), scale or 4
    network = load_trained_network(model, scale).to(device)
    if isinstance(network, ConditionedNetwork):
        return partial(network, **{n: math.sqrt(low * high) for n, (low, high) in network.knobs.items()}), network.scale
    return network, network.scale


def write_gradient_images(folder: Path, loss: "Loss", inputs: "dict[str, Tensor]") -> None:
    """Write the prediction, and the gradient of each term on one scale for all terms, of the first image as PNG."""
    import re

    from lossmith.balance import gradient_images
    from lossmith.image import to_pil

    folder.mkdir(parents=True, exist_ok=True)
    images = gradient_images(loss, inputs)
    white = max(image.white for image in images)
    to_pil(inputs["pred"][0].detach().cpu()).save(folder / "0_pred.png")
    for number, image in enumerate(images, start=1):
        name = re.sub(r"[^\w.-]+", "_", image.name)
        to_pil(image.render(white=white).cpu()).save(folder / f"{number}_{name}.png")
