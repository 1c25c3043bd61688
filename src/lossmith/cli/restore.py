"""`lossmith restore`: a network applied to one image or to a folder of images."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lossmith._files import portable_key
from lossmith.cli.common_options import At, Device, InterpolateOutputs, WhichWeights
from lossmith.cli.pixel_options import SAMPLES, NoData, Page, Range, Transfer

__all__ = ["register"]

EPILOG = """Examples:

  lossmith restore photo.jpg large.png --at 0.8

  lossmith restore runs/x4 small.jpg large.png

  lossmith restore RealESRGAN_x4plus.pth photos/ large/ --device cuda

  lossmith restore runs/ct slices/ denoised/

  lossmith restore runs/knob photos/ large/ --at "psnr>=28" --tile 512"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restore", epilog=EPILOG, rich_help_panel="Networks")(restore_images)


def restore_images(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN|CHECKPOINT] INPUT OUTPUT",
            help="Run folder, file of weights, or lossmith-x2 \\[lossmith-x4, the x4 upscaler of the package]; image, "
            "or folder of images; image to write, or folder.",
        ),
    ],
    at: At = None,
    interpolate_outputs: InterpolateOutputs = False,
    weights: WhichWeights = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the texture of a network with noise; \\[from the image].")
    ] = None,
    tile: Annotated[int, typer.Option(min=16, help="Tile size for large images in pixels.")] = 256,
    value_range: Range = None,
    transfer: Transfer = None,
    no_data: NoData = None,
    page: Page = None,
    each_band: Annotated[
        bool, typer.Option("--each-band", help="Restore each band by itself as a grey image.", rich_help_panel=SAMPLES)
    ] = False,
    device: Device = "auto",
) -> None:
    """Restore images of any size; depth, bands, transparency and metadata are kept, and no input is overwritten.

    Each image of a folder gets the same name in the same subfolder: TIFF, .npy, EXR and DICOM keep their format, other
    images become PNG. Unreadable images are listed.
    """
    from lossmith.device import resolve_device
    from lossmith.inference.knob_settings import interpolate_ends, parse_knob_settings
    from lossmith.inference.networks import find_weights_file, load_image_network, select_weights
    from lossmith.inference.output_images import NonFiniteOutputError
    from lossmith.inference.restore import RestoringJob, UnreadableImageError
    from lossmith.inference.samples import network_pixels

    network, source, target = split_arguments(arguments)
    outputs, is_named = plan_outputs(source, target)
    network = select_weights(network, weights)
    model = load_image_network(network).to(resolve_device(device))
    pixels = network_pixels(find_weights_file(network), model, value_range, transfer, no_data)
    model = interpolate_ends(model, network) if interpolate_outputs else model
    knobs = parse_knob_settings(model, at or [], network)
    if seed is not None and not model.uses_noise:
        raise ValueError(f"{network!r} uses no noise; omit --seed.")

    job = RestoringJob(
        model,
        pixels,
        knobs,
        has_map=any(Path(text.partition("=")[2] or text).is_file() for text in at or []),
        seed=seed,
        tile=tile,
        value_range=value_range,
        transfer=transfer,
        page=page,
        each_band=each_band,
    )
    skipped = nonfinite = 0
    for file, out in outputs:
        try:
            with show_tiles(file.name) as on_tile_end:
                line = replace(job, on_tile_end=on_tile_end).run(file, out, has_suffix=is_named)
            print(line)
        except NonFiniteOutputError as error:
            if source.is_file():
                raise
            nonfinite += 1
            print(f"Skipped {file}: {error}")
        except UnreadableImageError as error:
            if source.is_file():
                raise ValueError(f"{str(file)!r} cannot be {error.purpose}: {error}.") from error
            skipped += 1
            print(f"Skipped {file}: {error}")
    if skipped == len(outputs):
        raise ValueError(f"None of the {len(outputs)} images in {str(source)!r} can be restored.")
    if nonfinite:
        raise ValueError(
            f"{nonfinite} of {len(outputs)} images were not written, because the network's output is not finite."
        )


@contextmanager
def show_tiles(name: str) -> Iterator[Callable[[int, int], object]]:
    """Show a bar in a terminal while an image of several tiles is restored; the value is called after each tile."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task(name, total=None, visible=False)
        yield lambda done, total: progress.update(bar, completed=done, total=total, visible=total > 1)


def split_arguments(arguments: Sequence[str]) -> tuple[str, Path, Path]:
    """Return the network, by default that of the package, the input and the output of a command line.

    Raises:
        ValueError: There are not two or three arguments.
    """
    from lossmith.models.shipped import DEFAULT_UPSCALER, SHIPPED_NETWORKS

    if len(arguments) not in (2, 3):
        raise ValueError(f"restore needs [RUN|CHECKPOINT] INPUT OUTPUT; got {' '.join(arguments)!r}.")
    from lossmith.models.files import WEIGHT_SUFFIXES

    first = Path(arguments[0])
    is_run = (first / "config.json").is_file() or (arguments[0] in SHIPPED_NETWORKS and not first.exists())
    if len(arguments) == 2 and (is_run or first.suffix.lower() in WEIGHT_SUFFIXES):
        raise ValueError(f"restore with the network {arguments[0]!r} needs INPUT OUTPUT; got {arguments[1]!r} alone.")
    network = arguments[0] if len(arguments) == 3 else DEFAULT_UPSCALER
    return network, Path(arguments[-2]), Path(arguments[-1])


def plan_outputs(source: Path, target: Path) -> tuple[list[tuple[Path, Path]], bool]:
    """Return each input and its output file, and whether the outputs have a suffix; otherwise, the images decide it.

    Raises:
        ValueError: An output would overwrite an input, or has no image format.
    """
    from lossmith.data import list_images
    from lossmith.inference.output_images import check_output_file

    if source.is_file():
        if target.is_dir():
            return [(source, target / source.stem)], False
        check_output_file(target, [source])
        return [(source, target)], True
    if not source.exists():
        raise ValueError(f"There is no image or folder {str(source)!r}.")
    files = list_images(source)
    if target.exists() and not target.is_dir():
        raise ValueError(f"The output for a folder of images must be a folder; {str(target)!r} is a file.")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"The output folder must lie outside of the input folder; got {str(target)!r}.")
    for left_out, reason in files.skipped:
        print(f"Skipped {left_out}: {reason}")
    names = name_outputs([file.relative_to(source) for file in files])
    return [(file, target / name) for file, name in zip(files, names, strict=True)], False


def name_outputs(files: Sequence[Path]) -> list[Path]:
    """Return a name for the output of each input, without a suffix, all different where case does not count, too.

    A name is that of the input without the suffix; the suffix stays if inputs differ by it alone, and a number follows
    if they still have one name.

    Example:
        >>> [str(name) for name in name_outputs([Path("a.jpg"), Path("a.png"), Path("A.PNG"), Path("b.png")])]
        ['a.jpg', 'a.png', 'A.PNG (2)', 'b']
    """
    stems = Counter(portable_key(str(file.with_suffix(""))) for file in files)
    used: set[str] = set()
    names = []
    for file in files:
        stem = file.with_suffix("")
        numbered = (file.with_name(f"{file.name} ({number})") for number in itertools.count(2))
        candidates = itertools.chain([stem] if stems[portable_key(str(stem))] == 1 else [], [file], numbered)
        names.append(next(name for name in candidates if portable_key(str(name)) not in used))
        used.add(portable_key(str(names[-1])))
    return names
