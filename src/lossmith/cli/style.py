"""`lossmith style`: a picture is painted in the style of others."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from lossmith.formula.loss import Loss

__all__ = ["register"]

EPILOG = """Examples:

  lossmith style photo.jpg starry_night.jpg --out painted.png

  lossmith style photo.jpg munch.jpg marc.jpg --weights .7,.3 --strength 2 --preserve-colour --out painted.png

  lossmith style photo.jpg --run runs/starry --out painted.png"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("style", epilog=EPILOG, rich_help_panel="Networks")(style)


def style(
    content: Annotated[Path, typer.Argument(help="The picture to paint.")],
    styles: Annotated[
        list[Path] | None, typer.Argument(metavar="STYLE...", help="Pictures that show the style.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("painted.png"),
    run: Annotated[
        str | None, typer.Option(help="A run of lossmith train style, or its weights, to paint at once.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="How much of each style, such as .7,.3; else equal parts.")
    ] = None,
    side: Annotated[int | None, typer.Option(help="Longer side, px; else the content's, up to 1024.", min=32)] = None,
    strength: Annotated[float, typer.Option(help="Weight of the style beside the content.", min=0)] = 1.0,
    preserve_colour: Annotated[bool, typer.Option("--preserve-colour", help="Paint brightness alone.")] = False,
    style_scale: Annotated[float, typer.Option(help="Size of the style's strokes.")] = 1.0,
    init: Annotated[str, typer.Option(help="Begin with content or noise.")] = "content",
    steps: Annotated[
        int | None, typer.Option(help="At the coarsest size, half at each finer; else 200, or 100 of lbfgs.", min=1)
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam or lbfgs; else adam on embedded, lbfgs on VGG.")] = None,
    net: Annotated[str | None, typer.Option(help="vgg19, vgg16 or embedded; else vgg19 where its weights are.")] = None,
    layers: Annotated[str | None, typer.Option(help="Layers of the style, such as relu1_1,relu2_1,relu3_1.")] = None,
    loss: Annotated[str | None, typer.Option(help="Another formula, on the views pred, content and style.")] = None,
    tile: Annotated[int, typer.Option(help="Tiles for a picture beyond memory, px; 0 for none.", min=0)] = 0,
    stages: Annotated[Path | None, typer.Option(help="A PNG that shows the picture growing.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
) -> None:
    """Paint a picture in the style of others, from coarse to fine; Ctrl-C keeps what there is."""
    import resource
    import time

    from lossmith.cli.networks import device_of
    from lossmith.cli.restore import WRITES, write
    from lossmith.image import to_pil
    from lossmith.style_transfer.colour import replace_luma

    begun, place = time.monotonic(), device_of(device)
    facts: dict[str, Any] = {"run": run}
    inputs = {file.resolve() for file in (content, *(styles or []))}
    for file, kinds in ((out, WRITES), *([(stages, (".png",))] if stages else [])):
        if file.suffix.lower() not in kinds:
            raise ValueError(f"{str(file)!r} wants to end in one of {', '.join(kinds)}.")
        if file.resolve() in inputs:
            raise ValueError(f"{str(file)!r} is an input; give another name for the output.")
    if run is not None:
        if styles:
            raise ValueError("A run paints in the one style that it has learnt; leave the styles out, or --run.")
        if weights is not None or strength != 1:
            raise ValueError("A run has learnt its style and how much of it; leave --weights and --strength out.")
        small, painted = at_once(run, pictured(content), side, place)
        painted = replace_luma(small, painted) if preserve_colour else painted
        stages = None
    else:
        if not styles:
            raise ValueError("A painting wants at least one style, or --run; give a picture that shows it.")
        build_style_formula, remark = chosen_loss(net, layers, loss)
        frugal = "embedded" in build_style_formula.networks
        brush: dict[str, Any] = {
            "side": side, "strength": strength, "preserve_colour": preserve_colour, "style_scale": style_scale,
            "init": init, "tile": tile, "seed": seed, "optimizer": optimizer or ("adam" if frugal else "lbfgs"),
        }  # fmt: skip
        brush["steps"] = steps or (100 if brush["optimizer"] == "lbfgs" else 200)
        pictures = [pictured(file).to(place) for file in (content, *styles)]
        painted, grown, facts = grow(pictures, build_style_formula, parts(weights), brush, remark, quiet=as_json)
    write(to_pil(painted[0]), out)
    if stages is not None:
        from lossmith.report.image_sheet import save_image_sheet

        save_image_sheet({f"{s.side} px\n{s.steps} steps, {s.seconds:.0f} s": s.picture[0].cpu() for s in grown}, stages)
    height, width = painted.shape[-2:]
    facts |= {"out": str(out), "width": width, "height": height, "seconds": round(time.monotonic() - begun, 2)}
    facts["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # kilobytes on Linux
    print(json.dumps(facts) if as_json else f"{out}: {width}x{height} px, {facts['seconds']:.0f} s")


def grow(
    pictures: "list[Tensor]",
    loss: "Loss",
    weights: list[float] | None,
    brush: dict[str, Any],
    remark: str,
    *,
    quiet: bool,
) -> "tuple[Tensor, list[Any], dict[str, Any]]":
    """Paints with a bar; the picture, its stages, and the figures."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lossmith.style_transfer.optimize import StyleTransferConfig, OptimizationStep, stylize

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if remark:
        console.print(remark, markup=False)
    columns = BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)

        def watch(now: OptimizationStep) -> None:
            progress.update(
                bar, total=now.steps, completed=now.step, description=f"{now.side} px  loss {now.value:.4g}"
            )

        painted = stylize(pictures[0], pictures[1:], loss, weights=weights, brush=StyleTransferConfig(**brush), watch=watch)
    if painted.stopped:
        console.print("Stopped; this is what there is by now.")
    grown = [{**stage._asdict(), "picture": list(stage.picture.shape)} for stage in painted.stages]
    facts = {"loss": repr(loss), "numbers": repr(painted.loss), **brush, "stopped": painted.stopped, "stages": grown}
    return painted.picture, painted.stages, facts


def chosen_loss(net: str | None, layers: str | None, text: str | None) -> "tuple[Loss, str]":
    """The loss that is asked for, or the usual one on VGG-19 where its weights are; and a remark."""
    from lossmith.parser import parse
    from lossmith.style_transfer.loss import STYLE_LAYERS, has_local_weights, build_style_formula

    if text is not None:
        if net or layers:
            raise ValueError("--loss names its networks and layers itself; leave --net and --layers out.")
        return parse(text), ""
    if net not in (None, "vgg19", "vgg16", "embedded"):
        raise ValueError(f"--net is vgg19, vgg16 or embedded; got {net!r}. For others write a --loss.")
    remark = ""
    if net is None and not has_local_weights("vgg19"):
        remark = "No weights of VGG-19 are at hand: painting by the embedded network."
        net = "embedded"
    chosen = [layer.strip() for layer in layers.split(",")] if layers is not None else STYLE_LAYERS
    return parse(build_style_formula(net or "vgg19", chosen)), remark


def at_once(run: str, image: "Tensor", side: int | None, place: str) -> "tuple[Tensor, Tensor]":
    """The picture in the size asked for, and what a network trained on one style makes of it."""
    import torch

    from lossmith.cli.networks import chosen
    from lossmith.models.conditioned import ConditionedNetwork
    from lossmith.style_transfer.feedforward import StyleNetwork
    from lossmith.style_transfer.task import resize_longer_side

    model = chosen(run)
    if not isinstance(model.network if isinstance(model, ConditionedNetwork) else model, StyleNetwork):
        raise ValueError(f"{run!r} has learnt no style; give a run of lossmith train style.")
    small = resize_longer_side(image, side or max(image.shape[-2:]))
    with torch.inference_mode():
        painted: Tensor = model.to(place)(small.to(place)).clamp(0, 1).cpu()
    return small, painted


def pictured(file: Path) -> "Tensor":
    """A picture (1, 3, H, W)."""
    from lossmith.data import read_image

    return read_image(file)[None]


def parts(text: str | None) -> list[float] | None:
    """The weights of --weights."""
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--weights wants numbers with commas between them, such as .7,.3; got {text!r}.") from None
