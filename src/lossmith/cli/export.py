"""`lossmith export`: a network as ONNX or as a program of torch.export."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lossmith.cli.common_options import InterpolateOutputs, WhichWeights

__all__ = ["register"]

EPILOG = """Examples:

  lossmith export runs/x4 x4.onnx

  lossmith export RealESRGAN_x4plus.pth x4plus.onnx --opset 18

  lossmith export runs/x4 x4_half.onnx --half --weights last

  lossmith export runs/knob sharp.onnx --at "psnr>=28"

  lossmith export runs/knob knob.onnx --knob-input map"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export", epilog=EPILOG, rich_help_panel="Networks")(export)


def export(
    network: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", help="Run folder or file of weights.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, .onnx or .pt2.")],
    opset: Annotated[int, typer.Option(help="Version of ONNX's operators, 18 to 23.")] = 20,
    knob_input: Annotated[
        Literal["image", "map"], typer.Option(help="Knob inputs: one number for each image, or a map for each image.")
    ] = "image",
    at: Annotated[
        list[str] | None,
        typer.Option(
            help="Fixed knob setting, without an input: 0.5 (slider), lam=0.7, psnr>=28; may be repeated.",
            show_default=False,
        ),
    ] = None,
    interpolate_outputs: InterpolateOutputs = False,
    weights: WhichWeights = None,
    half: Annotated[
        bool, typer.Option("--half", help="Compute in float16, with half the file; images and knobs stay float32.")
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0, help="Largest accepted difference of the graph from the network \\[1e-4; with --half 1e-2]."
        ),
    ] = None,
) -> None:
    """Write a network for other programs: height, width and batch are free, and knobs are inputs.

    The file takes and returns RGB images in [0, 1]; padding and normalization are part of the graph. An ONNX file is
    compared with the network in ONNX Runtime on the CPU, at several sizes and knob values, before it is written.
    """
    import torch

    from lossmith.export import export_network
    from lossmith.inference.knob_settings import MAP_FORMATS, interpolate_ends, parse_knob_settings
    from lossmith.inference.networks import find_weights_file, load_trained_network, select_weights
    from lossmith.models.files import read_header

    network = select_weights(network, weights)
    model = load_trained_network(network)
    model = interpolate_ends(model, network) if interpolate_outputs else model
    if maps := [text for text in at or [] if Path(text).suffix.lower() in MAP_FORMATS]:
        raise ValueError(
            f"--at {maps[0]}: a map cannot be fixed in a graph; use --knob-input map, and pass it as input."
        )
    fixed = parse_knob_settings(model, at, network)(torch.zeros(1, 3, 1, 1)) if at else {}
    report = export_network(
        model,
        target,
        header=read_header(find_weights_file(network)),
        opset=opset,
        knob_input=knob_input,
        fixed_knobs={name: float(value) for name, value in fixed.items()},
        half=half,
        tolerance=tolerance,
    )
    checked, metadata = report.verification, report.metadata
    places = f" and {len(checked.places)} knob settings" if checked.places else ""
    for name, knob in metadata["knobs"].items():
        low, high = knob["range"]
        print(f"input {name}: {low:g} to {high:g}, one number for each {'image' if knob_input == 'image' else 'pixel'}")
    if metadata["input"]["shape"][0] == 1:
        print("The batch size is 1, since the code of the network depends on it.")
    print(
        f"{target}: {metadata['architecture']}, x{metadata['scale']}, worst absolute error {checked.worst_error:.2g} "
        f"in {checked.runtime} at {len(checked.sizes)} sizes{places}"
    )
