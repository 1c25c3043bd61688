"""Labelled images side by side in one PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lossmith.report.plot.png import INK, PAPER, SOFT, truncate_text

__all__ = ["save_image_sheet", "stack_sheets"]

Crop = tuple[int, int, int, int]
"""Top, left, height and width of a crop, in pixels."""


def save_image_sheet(
    images: Mapping[str, Tensor], path: Path, *, crop: Crop | None = None, zoom: int | None = None
) -> Path:
    r"""Draw labelled images side by side as one PNG, each above an enlarged crop of the same place.

    Smaller images, such as the input of super-resolution, are enlarged to the size of the largest image by nearest
    neighbour interpolation, so that their pixels remain visible. Crops are enlarged in the same way.

    Args:
        images: Images by their labels, (3, H, W), RGB in [0, 1]; values outside are clipped. The first line of a label
            is the name; further lines stand under the name in grey.
        path: The file to write; its folder is created.
        crop: Top, left, height and width of the crop, in pixels of the largest image; None draws no crops.
        zoom: The magnification of the crop; None for the largest one that fits under an image.

    Returns:
        The file that was written.

    Raises:
        ValueError: There is no image, an image is not RGB, or the crop lies outside the images.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> black, white = torch.zeros(3, 32, 48), torch.ones(3, 32, 48)
        >>> file = save_image_sheet({"pred\\n28.4 dB": black, "truth": white}, folder / "sheet.png", crop=(8, 8, 8, 12))
        >>> file.name
        'sheet.png'
    """
    if not images:
        raise ValueError("images must have at least one image; got none.")
    decoded = {label: _to_pil(label, image) for label, image in images.items()}
    size = max((image.size for image in decoded.values()), key=lambda size: size[0] * size[1])
    drawn = {label: _resize_nearest(image, size) for label, image in decoded.items()}
    crops = [] if crop is None else _cut_crops(list(drawn.values()), crop, zoom)
    canvas = _compose(drawn, crops)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, "PNG")
    return path


def _to_pil(label: str, image: Tensor) -> Image.Image:
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise ValueError(
            f"{label!r} must be a float image (3, H, W) in [0, 1]; got {image.dtype} of shape {tuple(image.shape)}. "
            "Pass one image of a batch, and its RGB channels."
        )
    levels = image.detach().float().nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())


def _resize_nearest(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.copy() if image.size == size else image.resize(size, Image.Resampling.NEAREST)


def _cut_crops(images: Sequence[Image.Image], crop: Crop, zoom: int | None) -> list[Image.Image]:
    """Return the enlarged crops and outline the crop in each image.

    Raises:
        ValueError: The crop lies outside the images.
    """
    top, left, height, width = crop
    full_width, full_height = images[0].size
    if not (0 <= top < top + height <= full_height and 0 <= left < left + width <= full_width):
        raise ValueError(
            f"crop (top, left, height, width) must lie inside the image; got {crop} for an image of height "
            f"{full_height} and width {full_width}. Move or shrink the crop."
        )
    factor = zoom if zoom is not None else max(1, full_width // width)
    box, size = (left, top, left + width, top + height), (width * factor, height * factor)
    crops = [image.crop(box).resize(size, Image.Resampling.NEAREST) for image in images]
    line_width = max(1, round(full_width / 250))
    for image in images:
        pen = ImageDraw.Draw(image)
        for margin, colour in ((2 * line_width, INK), (line_width, PAPER)):  # visible on light and on dark images
            outline = (left - margin, top - margin, left + width + margin - 1, top + height + margin - 1)
            pen.rectangle(outline, outline=colour, width=line_width)
    return crops


def _compose(images: Mapping[str, Image.Image], crops: Sequence[Image.Image]) -> Image.Image:
    """Return a canvas with the images, the crops below them and the labels below the crops."""
    width, height = next(iter(images.values())).size
    column = max([width, *(crop.width for crop in crops)])
    gap, size = max(6, column // 28), max(13, column // 18)
    fonts = ImageFont.load_default(size), ImageFont.load_default(round(size * 0.86))
    lines = max(label.count("\n") + 1 for label in images)
    text_height = round(size * (1.5 + 1.25 * (lines - 1)))
    crop_height = crops[0].height + gap if crops else 0
    full_size = (gap + (column + gap) * len(images), gap + height + crop_height + text_height + gap)
    canvas = Image.new("RGB", full_size, PAPER)
    pen = ImageDraw.Draw(canvas)
    for i, (label, image) in enumerate(images.items()):
        x, y = gap + i * (column + gap), gap
        canvas.paste(image, (x + (column - width) // 2, y))
        y += height
        if crops:
            canvas.paste(crops[i], (x + (column - crops[i].width) // 2, y + gap))
            y += crop_height
        for n, line in enumerate(label.split("\n")):
            font, colour = (fonts[1], SOFT) if n else (fonts[0], INK)
            place = (x + column / 2, y + size * (0.85 + 1.25 * n))
            pen.text(place, truncate_text(pen, line, font, column), colour, font, anchor="mm")
    return canvas


def stack_sheets(sheets: Sequence[Path]) -> Image.Image:
    """Return the sheets one below the other as one image, and delete their files."""
    parts = [Image.open(file).convert("RGB") for file in sheets]
    canvas = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), PAPER)
    for i, part in enumerate(parts):
        canvas.paste(part, (0, sum(above.height for above in parts[:i])))
    for file in sheets:
        file.unlink()
    return canvas
