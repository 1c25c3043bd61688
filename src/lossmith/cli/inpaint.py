"""`lossmith inpaint`: a network fills a hole of one picture."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

EPILOG = """Example:

  lossmith inpaint runs/fill picture.png hole.png filled.png"""

EXACT = (".png", ".tif", ".tiff", ".bmp")  # formats that lose nothing


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("inpaint", epilog=EPILOG, rich_help_panel="Networks")(inpaint)


def inpaint(
    what: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", help="A run of inpainting, or its weights.")],
    picture: Annotated[Path, typer.Argument(help="The picture.")],
    mask: Annotated[Path, typer.Argument(help="A picture of its size, white where the hole is.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The picture to write.")],
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
) -> None:
    """Fill a hole of a picture; outside of it the output equals the input to the bit (of 8)."""
    import torch

    from lossmith.cli.networks import chosen, device_of
    from lossmith.cli.restore import write
    from lossmith.data import picture as opened
    from lossmith.image import to_pil

    if target.suffix.lower() not in EXACT or target.resolve() in (picture.resolve(), mask.resolve()):
        raise ValueError(f"{str(target)!r} wants to be a new file that ends in one of {', '.join(EXACT)}.")
    image, hole = opened(picture), opened(mask).mean(dim=0, keepdim=True) > 0.5
    if image.shape[-2:] != hole.shape[-2:]:
        (h, w), (there, beside) = image.shape[-2:], hole.shape[-2:]
        raise ValueError(f"The hole wants the picture's size, {w}x{h} px; {str(mask)!r} has {beside}x{there} px.")
    if not bool(hole.any()):
        raise ValueError(f"{str(mask)!r} has no hole: white is what shall be filled.")
    model, place = chosen(what), device_of(device)
    if model.inputs != 4:
        raise ValueError(f"{what!r} fills no holes; give a run of lossmith train inpainting.")
    batch = torch.cat([image * ~hole, hole.float()])[None].to(place)
    with torch.no_grad():
        filled = model.to(place)(batch)[0].cpu().clamp(0, 1)
    answer = to_pil(torch.where(hole, filled, image))
    write(answer, target)
    print(f"{target}: {answer.width}x{answer.height} px, {100 * hole.float().mean():.1f} % filled")
