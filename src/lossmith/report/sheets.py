"""Labelled pictures side by side in one file: for papers, documents, and a look across a room."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lossmith.report.svg import (
    INK,
    PAPER,
    SOFT,
    fitted,
)

__all__ = ["sheet", "stacked"]


def sheet(
    pictures: Mapping[str, Tensor],
    path: Path,
    *,
    crop: tuple[int, int, int, int] | None = None,
    zoom: int | None = None,
) -> Path:
    """Draw labelled pictures side by side as one PNG, each with an enlarged crop of the same place under it.

    Smaller pictures (the input of a super-resolution) are enlarged to the size of the largest without smoothing, so
    that their pixels show; so is the crop.

    Args:
        pictures: Label to image, (3, H, W), RGB, in [0, 1]; values outside are clipped. The first line of a label is
            the name, further lines (figures) stand under it in grey.
        path: The file to write; its folder is made where it is missing.
        crop: Top, left, height and width of the enlarged place, in pixels of the largest picture; None draws no crops.
        zoom: How often the crop is enlarged; by default as often as fits under a picture.

    Returns:
        The file that was written.

    Raises:
        ValueError: If there is no picture, one is no RGB image, or the crop lies outside.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> black, white = torch.zeros(3, 32, 48), torch.ones(3, 32, 48)
        >>> sheet({"pred\\n28.4 dB": black, "truth": white}, folder / "sheet.png", crop=(8, 8, 8, 12)).name
        'sheet.png'
    """
    if not pictures:
        raise ValueError("sheet wants at least one picture; got none. Give label and image.")
    images = {label: _image(label, picture) for label, picture in pictures.items()}
    width, height = max((image.size for image in images.values()), key=lambda size: size[0] * size[1])
    drawn = {label: _enlarged(image, (width, height)) for label, image in images.items()}
    crops: list[Image.Image] = []
    if crop is not None:
        top, left, down, across = crop
        inside = 0 <= top < top + down <= height and 0 <= left < left + across <= width
        if not inside:
            raise ValueError(
                f"sheet wants a crop (top, left, height, width) inside the picture; got {crop} for one of "
                f"height {height} and width {width}. Move or shrink the crop."
            )
        times = zoom if zoom is not None else max(1, width // across)
        box = (left, top, left + across, top + down)
        crops = [
            image.crop(box).resize((across * times, down * times), Image.Resampling.NEAREST) for image in drawn.values()
        ]
        for image in drawn.values():
            pen = ImageDraw.Draw(image)
            thick = max(1, round(width / 250))
            for grown, colour in ((2 * thick, INK), (thick, PAPER)):  # light on dark shows on any picture
                ends = (left - grown, top - grown, left + across + grown - 1, top + down + grown - 1)
                pen.rectangle(ends, outline=colour, width=thick)
    column = max([width, *(image.width for image in crops)])
    gap, size = max(6, column // 28), max(13, column // 18)
    font, small = ImageFont.load_default(size), ImageFont.load_default(round(size * 0.86))
    lines = max(label.count("\n") + 1 for label in drawn)
    text = round(size * (1.5 + 1.25 * (lines - 1)))
    below = crops[0].height + gap if crops else 0
    canvas = Image.new("RGB", (gap + (column + gap) * len(drawn), gap + height + below + text + gap), PAPER)
    pen = ImageDraw.Draw(canvas)
    for i, (label, image) in enumerate(drawn.items()):
        x, y = gap + i * (column + gap), gap
        canvas.paste(image, (x + (column - width) // 2, y))
        y += height
        if crops:
            canvas.paste(crops[i], (x + (column - crops[i].width) // 2, y + gap))
            y += below
        for n, line in enumerate(label.split("\n")):
            shown = fitted(pen, line, small if n else font, column)
            pen.text(
                (x + column / 2, y + size * (0.85 + 1.25 * n)),
                shown,
                SOFT if n else INK,
                small if n else font,
                anchor="mm",
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, "PNG")
    return path


def stacked(sheets: Sequence[Path]) -> Image.Image:
    """Sheets one below the other as one picture; their files are removed."""
    parts = [Image.open(file).convert("RGB") for file in sheets]
    page = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), PAPER)
    for i, part in enumerate(parts):
        page.paste(part, (0, sum(above.height for above in parts[:i])))
    for file in sheets:
        file.unlink()
    return page


def _image(label: str, picture: Tensor) -> Image.Image:
    if picture.ndim != 3 or picture.shape[0] != 3 or not picture.is_floating_point():
        raise ValueError(
            f"sheet wants float pictures (3, H, W) in [0, 1]; {label!r} is {picture.dtype} of shape "
            f"{tuple(picture.shape)}. Take one picture of a batch, and its RGB channels."
        )
    levels = picture.detach().float().nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


def _enlarged(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.copy() if image.size == size else image.resize(size, Image.Resampling.NEAREST)
