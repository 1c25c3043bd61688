"""`lossmith inpaint`: a network fills a hole in an image."""

from pathlib import Path
from typing import Annotated

import typer

from lossmith.cli.common_options import Device

__all__ = ["register"]

EPILOG = """Example:

  lossmith inpaint runs/fill image.png mask.png filled.png"""

LOSSLESS_FORMATS = (".png", ".tif", ".tiff", ".bmp")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inpaint", epilog=EPILOG, rich_help_panel="Networks")(inpaint_image)


def inpaint_image(
    network: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", help="Run of inpainting, or its weights.")],
    image: Annotated[Path, typer.Argument(help="Image.")],
    mask: Annotated[Path, typer.Argument(help="Mask of the image's size, white where the network fills.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Image to write.")],
    device: Device = "auto",
) -> None:
    """Fill a hole in an image; the pixels outside of the mask and the alpha channel stay identical in 8 bits."""
    import torch

    from lossmith.cli.networks import load_trained_network
    from lossmith.cli.output_images import attach_alpha, check_finite_output, load_image_with_alpha, select_alpha
    from lossmith.cli.restore import check_output_file, write_image
    from lossmith.data import read_image
    from lossmith.device import resolve_device
    from lossmith.image import to_pil

    check_output_file(target, (image, mask), LOSSLESS_FORMATS)
    (pixels, alpha), hole = load_image_with_alpha(image), read_image(mask).mean(dim=0, keepdim=True) > 0.5
    alpha = select_alpha(alpha, target)
    if pixels.shape[-2:] != hole.shape[-2:]:
        (height, width), (mask_height, mask_width) = pixels.shape[-2:], hole.shape[-2:]
        raise ValueError(
            f"The mask must have the image's size, {width}x{height} px; {str(mask)!r} has "
            f"{mask_width}x{mask_height} px."
        )
    if not bool(hole.any()):
        raise ValueError(f"The mask {str(mask)!r} is empty; paint the pixels to fill in white.")
    model, place = load_trained_network(network), resolve_device(device)
    if model.in_channels != 4:
        raise ValueError(f"{network!r} is not an inpainting network; give a run of lossmith train inpainting.")
    batch = torch.cat([pixels * ~hole, hole.float()])[None].to(place)
    with torch.no_grad():
        filled = model.to(place)(batch)[0].cpu()
    check_finite_output(filled, str(image))
    result = attach_alpha(to_pil(torch.where(hole, filled, pixels)), alpha)
    write_image(result, target)
    print(f"{target}: {result.width}x{result.height} px, {100 * hole.float().mean():.1f} % filled")
