"""`lossmith style`: style transfer by optimization of one image, or by a trained network."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossmith._checks import MAX_SEED
from lossmith._format import print_text
from lossmith.cli.common_options import AsJson, Device
from lossmith.cli.options_command import OptionsCommand

if TYPE_CHECKING:
    from torch import Tensor

    from lossmith.formula.loss import Loss
    from lossmith.style_transfer.config import StyleTransferConfig, StyleTransferResult

__all__ = ["register"]

EPILOG = """Examples:

  lossmith style photo.jpg starry_night.jpg --out stylized.png

  lossmith style photo.jpg munch.jpg marc.jpg --weights .7,.3 --strength 2 --preserve-colour --out stylized.png

  lossmith style photo.jpg --run runs/starry --out stylized.png"""

HELP = """Transfer the style of images to a content image, from coarse to fine; Ctrl-C keeps the current result."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("style", cls=OptionsCommand, help=HELP, epilog=EPILOG, rich_help_panel="Networks")(StyleOptions)


@dataclass(frozen=True, kw_only=True)
class StyleOptions:
    """The options of ``lossmith style``."""

    content: Annotated[Path, typer.Argument(help="Content image.")]
    styles: Annotated[list[Path] | None, typer.Argument(metavar="STYLE...", help="Style images.")] = None
    out: Annotated[Path, typer.Option(help="Image to write.")] = Path("stylized.png")
    run: Annotated[
        str | None, typer.Option(help="Run of lossmith train style, or its weights, instead of an optimization.")
    ] = None
    weights: Annotated[
        str | None, typer.Option(help="Weights of several style images, such as .7,.3 \\[equal weights].")
    ] = None
    size: Annotated[
        int | None, typer.Option(help="Longer side of the output in pixels \\[the content's, up to 1024].", min=32)
    ] = None
    strength: Annotated[float, typer.Option(help="Weight of the style relative to the content.", min=0)] = 1.0
    preserve_colour: Annotated[
        bool, typer.Option("--preserve-colour", help="Keep the colours of the content; transfer luminance only.")
    ] = False
    style_scale: Annotated[float, typer.Option(help="Scale of the style's strokes.")] = 1.0
    init: Annotated[str, typer.Option(help="Initial image: content or noise.")] = "content"
    steps: Annotated[
        int | None,
        typer.Option(help="Steps at the coarsest size, halved at each finer size \\[200; lbfgs: 100].", min=1),
    ] = None
    optimizer: Annotated[
        str | None, typer.Option(help="Optimizer: adam or lbfgs \\[adam with embedded, lbfgs with VGG].")
    ] = None
    network: Annotated[
        str | None,
        typer.Option(help="Feature network: vgg19, vgg16 or embedded \\[vgg19 if its weights are available]."),
    ] = None
    layers: Annotated[str | None, typer.Option(help="Style layers, such as relu1_1,relu2_1,relu3_1.")] = None
    loss: Annotated[str | None, typer.Option(help="Another loss formula on the inputs pred, content and style.")] = None
    tile: Annotated[
        int, typer.Option(help="Tile size in pixels for images beyond the memory; 0 disables tiles.", min=0)
    ] = 0
    stages: Annotated[Path | None, typer.Option(help="PNG of the results at all sizes.")] = None
    seed: Annotated[int, typer.Option(help="Random seed of the initial noise.", min=0, max=MAX_SEED)] = 0
    device: Device = "auto"
    as_json: AsJson = False

    def execute(self) -> None:
        """Transfer the style, and write the image."""
        import time

        from lossmith.image import to_pil
        from lossmith.inference.output_images import attach_alpha, check_output_file, select_alpha, write_image

        start = time.monotonic()
        inputs = (self.content, *(self.styles or []))
        check_output_file(self.out, inputs)
        if self.stages is not None:
            check_output_file(self.stages, inputs, (".png",))
        alpha = select_alpha(load_image(self.content)[1], self.out)
        output, facts = self.optimize() if self.run is None else self.apply_network(self.run)
        write_image(attach_alpha(to_pil(output[0]), alpha), self.out)
        height, width = output.shape[-2:]
        facts |= {"out": str(self.out), "width": width, "height": height}
        facts["seconds"] = round(time.monotonic() - start, 2)
        facts["peak_mb"] = measure_peak_memory()
        print(json.dumps(facts) if self.as_json else f"{self.out}: {width}x{height} px, {facts['seconds']:.0f} s")
        if facts.get("stopped"):
            raise KeyboardInterrupt

    def optimize(self) -> "tuple[Tensor, dict[str, Any]]":
        """Return the image of an optimization, and the facts of the optimization."""
        from lossmith.device import resolve_device
        from lossmith.style_transfer.config import StyleTransferConfig

        if not self.styles:
            raise ValueError("style needs at least one style image, or --run.")
        loss, remark = select_loss(self.network, self.layers, self.loss)
        optimizer = self.optimizer or ("adam" if "embedded" in loss.networks else "lbfgs")
        config = StyleTransferConfig(
            side=self.size,
            steps=self.steps or (100 if optimizer == "lbfgs" else 200),
            strength=self.strength,
            optimizer=optimizer,  # type: ignore[arg-type]  # checked by the class
            init=self.init,  # type: ignore[arg-type]  # checked by the class
            preserve_colour=self.preserve_colour,
            style_scale=self.style_scale,
            tile=self.tile,
            seed=self.seed,
        )
        device = resolve_device(self.device)
        images = [load_image(file)[0].to(device) for file in (self.content, *self.styles)]
        result = optimize_image(images, loss, parse_weights(self.weights), config, remark, quiet=self.as_json)
        if self.stages is not None:
            save_stages(result, self.stages)
        return result.image, describe_result(result, loss, config)

    def apply_network(self, run: str) -> "tuple[Tensor, dict[str, Any]]":
        """Return the image of a network that was trained on one style.

        Raises:
            ValueError: The run is not one of lossmith train style, or an option needs an optimization.
        """
        import torch

        from lossmith.device import resolve_device
        from lossmith.inference.networks import load_trained_network
        from lossmith.inference.output_images import check_finite_output
        from lossmith.models.conditioned import ConditionedNetwork
        from lossmith.style_transfer.colour import replace_luma
        from lossmith.style_transfer.feedforward import StyleNetwork
        from lossmith.style_transfer.image_sizes import resize_longer_side

        if self.styles or self.weights is not None or self.strength != 1:
            raise ValueError("--run has a fixed style and strength; omit the style images, --weights and --strength.")
        model, device = load_trained_network(run), resolve_device(self.device)
        image, _ = load_image(self.content)
        if not isinstance(model.network if isinstance(model, ConditionedNetwork) else model, StyleNetwork):
            raise ValueError(f"{run!r} is not a style-transfer network; give a run of lossmith train style.")
        resized = resize_longer_side(image, self.size or max(image.shape[-2:]))
        with torch.inference_mode():
            output: Tensor = model.to(device)(resized.to(device)).cpu()
        check_finite_output(output, str(self.content))
        output = output.clamp(0, 1)
        return replace_luma(resized, output) if self.preserve_colour else output, {"run": run}


def optimize_image(
    images: "list[Tensor]",
    loss: "Loss",
    weights: list[float] | None,
    config: "StyleTransferConfig",
    remark: str,
    *,
    quiet: bool,
) -> "StyleTransferResult":
    """Return the result of an optimization, shown as a progress bar.

    Args:
        images: The content image, then the style images.
        loss: The loss.
        weights: The weights of the style images.
        config: The configuration of the optimization.
        remark: A line to print first.
        quiet: Whether to hide the progress bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lossmith.style_transfer.config import OptimizationStep
    from lossmith.style_transfer.optimize import stylize

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if remark:
        print_text(console, remark)
    columns = BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        bar = progress.add_task("", total=None)

        def show(now: OptimizationStep) -> None:
            text = f"{now.side} px  loss {now.value:.4g}"
            progress.update(bar, total=now.steps, completed=now.step, description=text)

        result = stylize(images[0], images[1:], loss, weights=weights, config=config, on_step=show)
    if result.stopped:
        console.print("Stopped; the output is the current result.")
    return result


def describe_result(result: "StyleTransferResult", loss: "Loss", config: "StyleTransferConfig") -> dict[str, Any]:
    """Return the facts of an optimization for --json."""
    stages = [{**stage._asdict(), "image": list(stage.image.shape)} for stage in result.stages]
    return {
        "loss": repr(loss),
        "numbers": repr(result.loss),
        **asdict(config),
        "stopped": result.stopped,
        "stages": stages,
    }


def save_stages(result: "StyleTransferResult", file: Path) -> None:
    """Write a PNG of the results at all sizes."""
    from lossmith.report.image_sheet import save_image_sheet

    images = {f"{s.side} px\n{s.steps} steps, {s.seconds:.0f} s": s.image[0].cpu() for s in result.stages}
    save_image_sheet(images, file)


def select_loss(network: str | None, layers: str | None, formula: str | None) -> "tuple[Loss, str]":
    """Return the loss of the options, by default on VGG-19 if its weights are available, and a line to print."""
    from lossmith.parser import parse
    from lossmith.style_transfer.loss import STYLE_LAYERS, build_style_formula, has_local_weights

    if formula is not None:
        if network or layers:
            raise ValueError("--loss names its own networks and layers; omit --network and --layers.")
        return parse(formula), ""
    if network not in (None, "vgg19", "vgg16", "embedded"):
        raise ValueError(f"--network must be vgg19, vgg16 or embedded; got {network!r}. For others give a --loss.")
    remark = ""
    if network is None and not has_local_weights("vgg19"):
        remark = "The weights of VGG-19 are not available; using the embedded network."
        network = "embedded"
    style_layers = [layer.strip() for layer in layers.split(",")] if layers is not None else STYLE_LAYERS
    return parse(build_style_formula(network or "vgg19", style_layers)), remark


def load_image(file: Path) -> "tuple[Tensor, Tensor | None]":
    """Return the colours (1, 3, H, W) of an image, and its alpha channel (1, H, W), or None if opaque."""
    from lossmith.inference.output_images import load_image_with_alpha

    colours, alpha = load_image_with_alpha(file)
    return colours[None], alpha


def measure_peak_memory() -> int | None:
    """Return the peak memory of this process in MB; None on systems that do not measure it, such as Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))  # bytes on macOS, kilobytes on Linux


def parse_weights(text: str | None) -> list[float] | None:
    """Return the numbers of --weights."""
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--weights must be comma-separated numbers, such as .7,.3; got {text!r}.") from None
