"""`lossmith inpaint`: a network fills a hole in an image."""

from pathlib import Path
from typing import Annotated

import typer

from lossmith.cli.common_options import Device
from lossmith.cli.pixel_options import NoData, Page, Range, Transfer

__all__ = ["register"]

EPILOG = """Example:

  lossmith inpaint runs/fill image.png mask.png filled.png"""

LOSSLESS_FORMATS = (".png", ".tif", ".tiff", ".bmp", ".npy", ".exr", ".dcm")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inpaint", epilog=EPILOG, rich_help_panel="Networks")(inpaint_image)


def inpaint_image(
    network: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", help="Run of inpainting, or its weights.")],
    image: Annotated[Path, typer.Argument(help="Image.")],
    mask: Annotated[Path, typer.Argument(help="Mask of the image's size, white where the network fills.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Image to write.")],
    value_range: Range = None,
    transfer: Transfer = None,
    no_data: NoData = None,
    page: Page = None,
    device: Device = "auto",
) -> None:
    """Fill a hole in an image; the pixels outside of the mask, the alpha channel and the depth stay as they are."""
    import torch

    from lossmith.data import read_image
    from lossmith.data.formats.files import read_stored
    from lossmith.data.restored_image import describe_counts, restore_samples
    from lossmith.device import resolve_device
    from lossmith.inference.networks import find_weights_file, load_trained_network
    from lossmith.inference.output_images import (
        NonFiniteOutputError,
        check_finite_output,
        check_output_file,
        write_stored_atomically,
    )
    from lossmith.inference.samples import image_pixels, network_pixels

    check_output_file(target, (image, mask), LOSSLESS_FORMATS)
    try:
        stored = read_stored(image, page)
    except ValueError as error:
        raise ValueError(f"{str(image)!r} cannot be read as an image: {error}.") from error
    hole = read_image(mask).mean(dim=0, keepdim=True) > 0.5
    if stored.samples.shape[-2:] != hole.shape[-2:]:
        (height, width), (mask_height, mask_width) = stored.samples.shape[-2:], hole.shape[-2:]
        raise ValueError(
            f"The mask must have the image's size, {width}x{height} px; {str(mask)!r} has "
            f"{mask_width}x{mask_height} px."
        )
    if not bool(hole.any()):
        raise ValueError(f"The mask {str(mask)!r} is empty; paint the pixels to fill in white.")
    model, place = load_trained_network(network), resolve_device(device)
    if model.in_channels != model.image_channels + 1:
        raise ValueError(f"{network!r} is not an inpainting network; give a run of lossmith train inpainting.")
    pixels = network_pixels(find_weights_file(network), model, value_range, transfer, no_data)
    pixels = image_pixels(pixels, stored, value_range, transfer)

    def fill(values: "torch.Tensor") -> "torch.Tensor":
        batch = torch.cat([values * ~hole, hole.float()[None]], dim=1).to(place)
        with torch.no_grad():
            filled = model.to(place)(batch).cpu()
        check_finite_output(filled, str(image))
        return torch.where(hole, filled, values)

    try:
        restored, counts = restore_samples(stored, fill, pixels)
    except NonFiniteOutputError:
        raise
    except ValueError as error:
        raise ValueError(f"{str(image)!r} cannot be filled: {str(error).removesuffix('.')}.") from error
    write_stored_atomically(target, restored)
    height, width = restored.samples.shape[-2:]
    print(
        "; ".join(
            [f"{target}: {width}x{height} px, {100 * hole.float().mean():.1f} % filled", *describe_counts(counts)]
        )
    )
