"""`lossmith restore`: a network put to use on one picture, or on a folder of them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

__all__ = ["register"]

EPILOG = """Examples:

  lossmith restore runs/x4 small.jpg large.png

  lossmith restore RealESRGAN_x4plus.pth photos/ large/ --device cuda

  lossmith restore runs/knob photos/ large/ --at "psnr>=28" --tile 512"""

WRITES, OPAQUE = (".png", ".webp", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"), (".jpg", ".jpeg", ".bmp")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("restore", epilog=EPILOG, rich_help_panel="Networks")(restore)


def restore(
    what: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", help="A run folder, or a file of weights.")],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A picture, or a folder of them.")],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The picture to write, or the folder.")],
    at: Annotated[
        list[str] | None,
        typer.Option(help="Where to turn a knob: 0.5 (slider), lam=0.7, psnr>=28, or map.png; again for more knobs."),
    ] = None,
    mix_ends: Annotated[
        bool, typer.Option("--mix-ends", help="Turn it by mixing its answers at both ends, for twice the work.")
    ] = False,
    tile: Annotated[int, typer.Option(min=16, help="Side of the tiles for a large picture, px.")] = 256,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
) -> None:
    """Restore pictures of any size; transparency is kept, and the input is never overwritten.

    From a folder each picture becomes a PNG of the same name, in the same subfolder; broken ones are listed.
    """
    from lossmith.cli.knob_options import mixed, turned
    from lossmith.cli.networks import chosen, device_of
    from lossmith.models import tiled

    pairs = planned(source, target)
    place = device_of(device)
    model = chosen(what).to(place)
    if model.inputs != 3:
        raise ValueError(f"{what!r} wants a hole beside the picture; use lossmith inpaint.")
    model = mixed(model, what) if mix_ends else model
    knobs = turned(model, at or [], what)

    def through(image: "Tensor") -> "Tensor":
        there = image.to(place)
        return tiled(model, there, tile=tile, knobs=knobs(there)).cpu()

    skipped = []
    for file, out in pairs:
        try:
            picture = enlarged(file, through, model.scale)
        except (ValueError, OSError, SyntaxError) as error:  # Pillow raises all three on broken files
            if source.is_file():
                raise ValueError(f"{str(file)!r} cannot be read as a picture: {error}.") from error
            skipped.append(file)
            print(f"Skipped {file}: {error}")
            continue
        write(picture, out)
        print(f"{out}: {picture.width}x{picture.height} px")
    if len(skipped) == len(pairs):
        raise ValueError(f"None of the {len(pairs)} pictures in {str(source)!r} can be read.")


def planned(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Each input and the file that it becomes; no output is an input."""
    from lossmith.data import listed

    if source.is_file():
        out = target / f"{source.stem}.png" if target.is_dir() else target
        if out.suffix.lower() not in WRITES:
            raise ValueError(f"{str(out)!r} wants to end in one of {', '.join(WRITES)}.")
        if out.resolve() == source.resolve():
            raise ValueError(f"{str(source)!r} is the input; give another name for the output.")
        return [(source, out)]
    files = listed(source)
    if target.exists() and not target.is_dir():
        raise ValueError(f"The pictures of a folder go into a folder; {str(target)!r} is a file.")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{str(target)!r} lies in the input folder; give a folder outside of it.")
    bare = Counter(file.with_suffix("") for file in files)
    names = [file.with_suffix("") if bare[file.with_suffix("")] == 1 else file for file in files]
    outs = [target / name.relative_to(source).with_name(f"{name.name}.png") for name in names]
    return list(zip(files, outs, strict=True))


def enlarged(file: Path, through: "Callable[[Tensor], Tensor]", scale: int) -> "Image":
    """A picture restored; its transparency is enlarged by bicubic interpolation."""
    from PIL import Image, ImageOps

    from lossmith.data import upsample
    from lossmith.data.folders import FORMATS
    from lossmith.image import from_pil, to_pil

    with Image.open(file, formats=FORMATS) as opened:
        image = ImageOps.exif_transpose(opened)
        clear = image.has_transparency_data
        if clear:
            image = image.convert("RGBA")
        picture = from_pil(image.convert("RGB") if clear else image)
    restored = to_pil(through(picture[None])[0])
    if clear:
        alpha = from_pil(image.getchannel("A"))
        restored.putalpha(to_pil(upsample(alpha[None], scale)[0]).getchannel(0))
    return restored


def write(picture: "Image", out: Path) -> None:
    """Writes in the format of the name."""
    from PIL import Image

    from lossmith.train.folder import replaced

    if picture.mode == "RGBA" and out.suffix.lower() in OPAQUE:
        raise ValueError(f"The picture is transparent in parts, which {out.suffix} cannot hold; name the output .png.")
    form = Image.registered_extensions()[out.suffix.lower()]
    options = {"quality": 95} if form in ("JPEG", "WEBP") else {}
    replaced(out, lambda partial: picture.save(partial, format=form, **options))
