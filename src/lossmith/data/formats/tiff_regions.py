"""Large TIFF files, read by regions and written by tiles, so that memory does not grow with the image."""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lossmith.data.formats.stored import ImageMetadata, Samples, StoredImage
from lossmith.data.formats.tiff import tiff_options
from lossmith.data.formats.tiff_pages import (
    ASSOCIATED_ALPHA,
    alpha_kind,
    bits_of,
    declared_range,
    import_tifffile,
    orientation_of,
    photometric_of,
    select_page,
)
from lossmith.data.formats.tiff_tags import page_metadata

__all__ = ["TILE_MULTIPLE", "TiffRegions", "write_tiff_tiles"]

TILE_MULTIPLE = 16
"""TIFF requires tile sides that are multiples of 16."""
UPRIGHT = 1


class TiffRegions:
    """A page of a TIFF file whose regions are read one at a time.

    Uncompressed samples in one block are mapped into memory; otherwise, the strips or tiles that meet a region are
    decoded, and the last ones are kept, as many as a row of regions needs.

    Args:
        file: The file.
        page: The page, from 1; None for the only one.

    Raises:
        ValueError: The file cannot be read by regions: it has several pages and none is chosen, an orientation, a
            palette, premultiplied alpha or another colour space.
    """

    def __init__(self, file: Path, page: int | None = None) -> None:
        self._opened = import_tifffile().TiffFile(file)
        try:
            self.page = select_page(self._opened, page)
            self._check()
        except BaseException:
            self._opened.close()
            raise
        self.height, self.width = self.page.imagelength, self.page.imagewidth
        self.sample_count, self.dtype = self.page.samplesperpixel, self.page.dtype.newbyteorder("=")
        self.has_alpha = alpha_kind(self.page) is not None
        self.metadata = dataclasses.replace(page_metadata(self.page), value_range=declared_range(self.page))
        self.decoded_segments = self.cached_bytes = self.largest_cache = 0
        self._cache: OrderedDict[int, Samples] = OrderedDict()
        self._mapped = import_tifffile().memmap(file, page=self.page.index, mode="r") if self._is_mappable() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def _check(self) -> None:
        page, kind = self.page, photometric_of(self.page)
        if kind not in ("RGB", "MINISBLACK") or page.imagedepth != 1 or bits_of(page) < 8:
            raise ValueError(f"{kind} of {bits_of(page)} bits cannot be read by regions; convert it to RGB or grey")
        if orientation_of(page) != UPRIGHT or alpha_kind(page) == ASSOCIATED_ALPHA:
            raise ValueError("an orientation or premultiplied alpha cannot be read by regions; convert the image")

    def _is_mappable(self) -> bool:
        return bool(self.page.is_memmappable) and self.page.index == 0

    def read(self, rows: slice, columns: slice) -> StoredImage:
        """Return a region, whose slices lie within the image."""
        planes = np.empty((self.sample_count, rows.stop - rows.start, columns.stop - columns.start), self.dtype)
        if self._mapped is not None:
            values = self._mapped.reshape(self._mapped_shape())
            region = values[:, rows, columns] if self.page.planarconfig == 2 else values[rows, columns]
            planes[:] = region if self.page.planarconfig == 2 else np.moveaxis(region, -1, 0)
        else:
            limit = 2 * (rows.stop - rows.start) * self.width * self.sample_count * self.dtype.itemsize
            for index in self._segments(rows, columns):
                self._copy_segment(index, planes, rows, columns, limit)
        if self.has_alpha:
            return StoredImage(planes[:-1], planes[-1], self.metadata)
        return StoredImage(planes, None, self.metadata)

    def _mapped_shape(self) -> tuple[int, int, int]:
        contiguous = self.height, self.width, self.sample_count
        return (contiguous[2], *contiguous[:2]) if self.page.planarconfig == 2 else contiguous

    def _segments(self, rows: slice, columns: slice) -> Iterator[int]:
        """Yield the indices of the strips or tiles that meet a region, of all separate planes."""
        length, width = self._segment_size()
        across, down = -(-self.width // width), -(-self.height // length)
        planes = self.sample_count if self.page.planarconfig == 2 else 1
        for plane in range(planes):
            for i in range(rows.start // length, -(-rows.stop // length)):
                for j in range(columns.start // width, -(-columns.stop // width)):
                    yield (plane * down + i) * across + j

    def _segment_size(self) -> tuple[int, int]:
        if self.page.is_tiled:
            return self.page.tilelength, self.page.tilewidth
        return min(self.page.rowsperstrip, self.height), self.width

    def _copy_segment(self, index: int, planes: Samples, rows: slice, columns: slice, limit: int) -> None:
        """Copy the part of a strip or tile that lies in a region."""
        length, width = self._segment_size()
        across, down = -(-self.width // width), -(-self.height // length)
        plane, place = divmod(index, across * down)
        top, left = place // across * length, place % across * width
        segment = self._decode(index, limit)
        first, last = max(top, rows.start), min(top + length, rows.stop, self.height)
        start, stop = max(left, columns.start), min(left + width, columns.stop, self.width)
        part = np.moveaxis(segment[first - top : last - top, start - left : stop - left], -1, 0)
        chosen = slice(plane, plane + 1) if self.page.planarconfig == 2 else slice(None)
        planes[chosen, first - rows.start : last - rows.start, start - columns.start : stop - columns.start] = part

    def _decode(self, index: int, limit: int) -> Samples:
        """Return a strip or tile, (length, width, samples), from the cache or from the file."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        page = self.page
        handle = page.parent.filehandle
        handle.seek(page.dataoffsets[index])
        data = handle.read(page.databytecounts[index])
        decoded, _, shape = page.decode(data, index, jpegtables=page.jpegtables)
        segment = np.zeros(shape, self.dtype) if decoded is None else decoded.astype(self.dtype, copy=False)
        segment = segment.reshape(segment.shape[-3:])
        self.decoded_segments += 1
        self._cache[index] = segment
        self.cached_bytes += segment.nbytes
        while self.cached_bytes > limit and len(self._cache) > 1:
            self.cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        self.largest_cache = max(self.largest_cache, self.cached_bytes)
        return segment


def write_tiff_tiles(
    out: Path,
    tiles: Iterator[Samples],
    *,
    size: tuple[int, int],
    sample_count: int,
    dtype: Any,
    tile: int,
    metadata: ImageMetadata,
    has_alpha: bool,
) -> None:
    """Write a tiled TIFF from its tiles, row by row.

    Args:
        out: The file.
        tiles: The tiles, (C, h, w), of `tile` pixels or, at the right and lower border, less.
        size: Height and width of the image.
        sample_count: Number of samples of a pixel, with alpha.
        dtype: The type of the samples.
        tile: Side of a tile in pixels, a multiple of 16.
        metadata: The metadata of the image.
        has_alpha: Whether the last sample is alpha.
    """

    def padded() -> Iterator[Samples]:
        for values in tiles:
            full = np.zeros((tile, tile, sample_count), dtype)
            full[: values.shape[1], : values.shape[2]] = np.moveaxis(values, 0, -1)
            yield full if sample_count > 1 else full[..., 0]

    options = tiff_options(metadata, sample_count, has_alpha=has_alpha)
    shape = (*size, sample_count) if sample_count > 1 else size
    is_big = int(np.prod(shape)) * np.dtype(dtype).itemsize > 2**31
    with import_tifffile().TiffWriter(out, bigtiff=is_big) as opened:
        opened.write(padded(), shape=shape, dtype=dtype, tile=(tile, tile), **options)
