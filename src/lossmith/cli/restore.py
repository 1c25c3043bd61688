"""`lossmith restore`: a network applied to one image or to a folder of images."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossmith.cli.common_options import At, Device, InterpolateOutputs

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

__all__ = ["check_output_file", "register", "write_image"]

EPILOG = """Examples:

  lossmith restore runs/x4 small.jpg large.png

  lossmith restore RealESRGAN_x4plus.pth photos/ large/ --device cuda

  lossmith restore runs/knob photos/ large/ --at "psnr>=28" --tile 512"""

OUTPUT_FORMATS = (".png", ".webp", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
OPAQUE_FORMATS = (".jpg", ".jpeg", ".bmp")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restore", epilog=EPILOG, rich_help_panel="Networks")(restore_images)


def restore_images(
    network: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", help="Run folder or file of weights.")],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Image, or folder of images.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Image to write, or folder.")],
    at: At = None,
    interpolate_outputs: InterpolateOutputs = False,
    tile: Annotated[int, typer.Option(min=16, help="Tile size for large images in pixels.")] = 256,
    device: Device = "auto",
) -> None:
    """Restore images of any size; transparency is kept, and an input is never overwritten.

    Each image of a folder becomes a PNG of the same name in the same subfolder; unreadable images are listed.
    """
    from lossmith.cli.knob_options import interpolate_ends, parse_knob_settings
    from lossmith.cli.networks import load_trained_network
    from lossmith.cli.output_images import NonFiniteOutputError, check_finite_output
    from lossmith.data.image_files import read_image_with_alpha
    from lossmith.device import resolve_device
    from lossmith.models import run_tiled

    pairs = plan_outputs(source, target)
    place = resolve_device(device)
    model = load_trained_network(network).to(place)
    if model.in_channels != 3:
        raise ValueError(
            f"{network!r} takes {model.in_channels} input channels, not an RGB image. For an inpainting network use "
            "lossmith inpaint."
        )
    model = interpolate_ends(model, network) if interpolate_outputs else model
    knobs = parse_knob_settings(model, at or [], network)

    def restore(image: "Tensor") -> "Tensor":
        moved = image.to(place)
        return run_tiled(model, moved, tile=tile, knobs=knobs(moved)).cpu()

    skipped = nonfinite = 0
    for file, out in pairs:
        try:
            pixels, alpha = read_image_with_alpha(file)
        except ValueError as error:
            if source.is_file():
                raise ValueError(f"{str(file)!r} cannot be read as an image: {error}.") from error
            skipped += 1
            print(f"Skipped {file}: {error}")
            continue
        restored = restore(pixels[None])[0]
        try:
            check_finite_output(restored, str(file))
        except NonFiniteOutputError as error:
            if source.is_file():
                raise
            nonfinite += 1
            print(f"Skipped {file}: {error}")
            continue
        image = add_upscaled_alpha(restored, alpha, model.scale)
        write_image(image, out)
        print(f"{out}: {image.width}x{image.height} px")
    if skipped == len(pairs):
        raise ValueError(f"None of the {len(pairs)} images in {str(source)!r} can be read.")
    if nonfinite:
        raise ValueError(
            f"{nonfinite} of {len(pairs)} images were not written, because the network's output is not finite."
        )


def plan_outputs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Return each input and its output file.

    Raises:
        ValueError: An output would overwrite an input, or has no image format.
    """
    from lossmith.data import list_images

    if source.is_file():
        out = target / f"{source.stem}.png" if target.is_dir() else target
        check_output_file(out, [source])
        return [(source, out)]
    files = list_images(source)
    if target.exists() and not target.is_dir():
        raise ValueError(f"The output for a folder of images must be a folder; {str(target)!r} is a file.")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"The output folder must lie outside of the input folder; got {str(target)!r}.")
    stems = Counter(file.with_suffix("") for file in files)
    for left_out, reason in files.skipped:
        print(f"Skipped {left_out}: {reason}")
    names = [file.with_suffix("") if stems[file.with_suffix("")] == 1 else file for file in files]
    outs = [target / name.relative_to(source).with_name(f"{name.name}.png") for name in names]
    return list(zip(files, outs, strict=True))


def check_output_file(out: Path, inputs: Iterable[Path], formats: Sequence[str] = OUTPUT_FORMATS) -> None:
    """Raise ValueError if an output file has none of the formats, or is an input."""
    if out.suffix.lower() not in formats:
        raise ValueError(f"The output must end in one of {', '.join(formats)}; got {str(out)!r}.")
    if out.resolve() in {file.resolve() for file in inputs}:
        raise ValueError(f"The output must differ from the inputs; got {str(out)!r}.")


def add_upscaled_alpha(pixels: "Tensor", alpha: "Tensor | None", scale: int) -> "Image":
    """Return a restored image with the alpha channel of the input, upscaled by bicubic interpolation.

    Args:
        pixels: The restored colours, (3, scale * H, scale * W).
        alpha: The alpha channel of the input, (1, H, W); None for an opaque image.
        scale: Upscaling factor.
    """
    from lossmith.data import upsample
    from lossmith.image import to_pil

    restored = to_pil(pixels)
    if alpha is not None:
        upscaled = upsample(alpha[None].expand(-1, 3, -1, -1), scale)
        restored.putalpha(to_pil(upscaled[0]).getchannel(0))
    return restored


def write_image(image: "Image", out: Path) -> None:
    """Write an image in the format of the file name.

    Raises:
        ValueError: The image has transparent pixels and the format has no alpha channel.
    """
    from PIL import Image

    from lossmith._files import write_atomically

    if image.mode == "RGBA" and out.suffix.lower() in OPAQUE_FORMATS:
        raise ValueError(f"The image has an alpha channel, which {out.suffix} does not support; use an output in .png.")
    form = Image.registered_extensions()[out.suffix.lower()]
    options = {"quality": 95} if form in ("JPEG", "WEBP") else {}
    write_atomically(out, lambda partial: image.save(partial, format=form, **options))
