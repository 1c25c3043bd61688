"""`lossmith calibrate`: what the weights in a formula come to on somebody's pictures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from lossmith.tasks import TrainingSet, SuperResolution

__all__ = ["register"]

EPILOG = """Examples:

  lossmith calibrate "esrgan()" --images photos/

  lossmith calibrate "70% * L1 + 30% * perceptual('vgg19', 'conv3_4')" --images photos/ --model runs/x4"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("calibrate", epilog=EPILOG, rich_help_panel="Formulas")(calibrate)


def calibrate(
    formula: Annotated[str, typer.Argument(help='The loss, such as "L1 + 0.1*perceptual".')],
    images: Annotated[Path | None, typer.Option(help="Folder of pictures, which crops are cut from.")] = None,
    captions: Annotated[
        str | None, typer.Option(help="For text-to-image: shapes, or captioned pictures; gradients by noise level.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="RUN|CHECKPOINT|bicubic", help="What enlarges them; best a network after warm-up.")
    ] = "bicubic",
    scale: Annotated[
        int | None, typer.Option(min=2, max=4, help="By how much to enlarge \\[the checkpoint's; bicubic: 4].")
    ] = None,
    batches: Annotated[int, typer.Option(min=1, help="How many batches to look at.")] = 8,
    batch: Annotated[int, typer.Option(min=1, help="Crops in each.")] = 8,
    crop: Annotated[int, typer.Option(min=1, help="Their side in pixels of the large picture.")] = 96,
    seed: Annotated[int, typer.Option(help="Which crops.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
) -> None:
    """Measure how large each term is and how hard it pulls at the picture, and turn weights into shares.

    For super-resolution: crops are made smaller, enlarged again, and compared with what they were. The norm of a term's
    gradient at the enlarged picture is in units of L1's. The last two lines are the same loss with shares of the
    gradient for weights, which train --balance share keeps; and the loss that the same numbers make if 1 is to pull as
    hard for one term as for another, which is what train --calibrate takes.
    """
    if captions is not None:
        from lossmith.cli.calibrate_captions import calibrated

        calibrated(formula, captions, model, batches=batches, batch=batch, seed=seed, device=device, as_json=as_json)
        return
    if images is None:
        raise ValueError("calibrate wants --images FOLDER, or --captions for a text-to-image network.")
    from rich.console import Console

    from lossmith import parse
    from lossmith.balance import calibrate as measured
    from lossmith.cli.networks import device_of
    from lossmith.data import list_images
    from lossmith.tasks import SuperResolution

    loss, place = parse(formula), device_of(device)
    enlarge, factor = enlarging(model, scale, place)
    task = SuperResolution(factor)
    items = task.training_set(list_images(images), crop=crop, seed=seed)
    source = f"x{factor} by {model}, crops of {crop} px of {images}"
    card = measured(loss.to(place), views(task, items, enlarge, batches, batch, place), source=source)
    skipped = [file._asdict() for file in items.skipped]
    if as_json:
        print(json.dumps({**card.as_dict(), "skipped": skipped}, allow_nan=False))
        return
    console = Console(soft_wrap=True, highlight=False)
    console.print(card.to_table())
    console.print(f"The weights of {formula} are {card.proportion} on these pictures.", markup=False)
    for note in card.notes:
        console.print(note, markup=False)
    for file in skipped:
        console.print(f"Skipped {file['file']}: {file['reason']}", markup=False)
    console.print(f"The same as shares, for any pictures: {card.to_shares()!r}", markup=False)
    console.print(f"With its numbers in units of equal pull, as train --calibrate: {card.rescale()!r}", markup=False)


def enlarging(model: str, scale: int | None, place: str) -> tuple[Any, int]:
    """What makes the prediction of a small picture, and its factor; a knob stands in the middle of its range."""
    import math
    from functools import partial

    from lossmith.cli.networks import chosen
    from lossmith.data import upsample
    from lossmith.models.conditioned import ConditionedNetwork

    if model == "bicubic":
        return partial(upsample, scale=scale or 4), scale or 4
    network = chosen(model, scale).to(place)
    if isinstance(network, ConditionedNetwork):
        return partial(network, **{n: math.sqrt(low * high) for n, (low, high) in network.knobs.items()}), network.scale
    return network, network.scale


def views(
    task: "SuperResolution", items: "TrainingSet", enlarge: Any, batches: int, batch: int, place: str
) -> "Iterator[dict[str, Tensor]]":
    """The views of some batches; what the task makes of the prediction depends on it."""
    import torch

    def predicted(image: "Tensor") -> "Tensor":
        with torch.no_grad():
            found: Tensor = enlarge(image)
        return found.detach().requires_grad_()

    for index in range(batches):
        examples = [items[index * batch + i] for i in range(batch)]
        yield task.compute_inputs(predicted, {n: torch.stack([one[n] for one in examples]).to(place) for n in examples[0]})
