"""Restoration of large TIFF files region by region, with a memory use that does not grow with the image."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from lossmith.data.formats.tiff_regions import TiffRegions
    from lossmith.data.pixel_format import PixelFormat

__all__ = ["LARGE_SAMPLES", "is_large_tiff", "restore_regions"]

LARGE_SAMPLES = 2**25
"""Number of samples from which a TIFF is restored by regions: 134 MB as floats."""
DEFAULT_OVERLAP = 32
"""Overlap in pixels for a network with an unknown receptive field."""


def is_large_tiff(file: Path, page: int | None = None) -> bool:
    """Return whether a file is a TIFF that is restored by regions."""
    from lossmith.data.formats.files import identify, read_image_header

    try:
        if identify(file) != "tiff":
            return False
        header = read_image_header(file, page)
    except ValueError:
        return False
    return header.height * header.width * header.bands > LARGE_SAMPLES


def restore_regions(
    file: Path,
    out: Path,
    restore: "Callable[[Tensor, tuple[int, int]], Tensor]",
    pixels: "PixelFormat",
    *,
    scale: int,
    tile: int,
    radius: int | None,
    page: int | None,
) -> tuple[int, int, list[str]]:
    """Restore a TIFF tile by tile and write a tiled TIFF.

    Args:
        file: The input.
        out: The output, a TIFF.
        restore: Returns the output for an input (1, C, H, W), whose first pixel is at a row and a column of the image.
        pixels: The samples that the network takes.
        scale: Upscaling factor.
        tile: Side of a tile in pixels of the input.
        radius: Receptive radius of the network in input pixels; None if it is unknown.
        page: The page of the input, from 1; None for the only one.

    Returns:
        Height and width of the output, and notes for the user.

    Raises:
        ValueError: The file cannot be read by regions, or does not suit the network.
    """
    from lossmith._files import write_atomically
    from lossmith.data.formats.tiff_regions import TILE_MULTIPLE, TiffRegions, write_tiff_tiles
    from lossmith.data.restored_image import describe_counts, scale_metadata

    side = -(-tile // TILE_MULTIPLE) * TILE_MULTIPLE
    with TiffRegions(file, page) as image:
        counts: Counter[str] = Counter()
        tiles = restored_tiles(image, restore, pixels, counts, scale=scale, tile=side, overlap=radius)
        size = image.height * scale, image.width * scale
        write_atomically(
            out,
            lambda partial: write_tiff_tiles(
                partial,
                tiles,
                size=size,
                sample_count=image.sample_count,
                dtype=image.dtype,
                tile=side * scale,
                metadata=scale_metadata(image.metadata, scale),
                has_alpha=image.has_alpha,
            ),
        )
    return *size, [f"by regions of {side} px", *describe_counts(counts)]


def restored_tiles(
    image: "TiffRegions",
    restore: "Callable[[Tensor, tuple[int, int]], Tensor]",
    pixels: "PixelFormat",
    counts: Counter[str],
    *,
    scale: int,
    tile: int,
    overlap: int | None,
) -> Iterator[Any]:
    """Yield the restored tiles of an image, (C, h, w), row by row; each is restored with a margin."""
    import numpy as np

    from lossmith.data.missing import fill_missing
    from lossmith.data.restored_image import restore_samples

    margin = DEFAULT_OVERLAP if overlap is None else overlap
    for top in range(0, image.height, tile):
        for left in range(0, image.width, tile):
            bottom, right = min(top + tile, image.height), min(left + tile, image.width)
            above, before = min(top, margin), min(left, margin)
            rows = slice(top - above, min(bottom + margin, image.height))
            columns = slice(left - before, min(right + margin, image.width))
            outer = pixels.encode(image.read(rows, columns)).values
            place = (
                slice(above * scale, (above + bottom - top) * scale),
                slice(before * scale, (before + right - left) * scale),
            )

            origin = (rows.start, columns.start)

            def crop(
                _: "Tensor",
                outer: "Tensor" = outer,
                place: tuple[slice, slice] = place,
                origin: tuple[int, int] = origin,
            ) -> "Tensor":
                return restore(fill_missing(outer)[None], origin)[(..., *place)]

            inner = image.read(slice(top, bottom), slice(left, right))
            restored = restore_samples(inner, crop, pixels, scale=scale)
            counts.update(restored.counts)
            alpha = restored.image.alpha
            yield restored.image.samples if alpha is None else np.concatenate([restored.image.samples, alpha[None]])
