"""TIFF of any depth and up to 16 bands, with tifffile; Pillow reads one page of at most 8 bits, grey or colour."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.formats.layout import SampleLayout
from lossmith.data.formats.pillow import open_image, read_pillow
from lossmith.data.formats.stored import (
    ImageHeader,
    ImageMetadata,
    Samples,
    StoredImage,
    apply_orientation,
    check_bands,
    turn_resolution,
)
from lossmith.data.formats.tiff_pages import (
    ASSOCIATED_ALPHA,
    PHOTOMETRIC,
    UNASSOCIATED_ALPHA,
    alpha_kind,
    bits_of,
    declared_range,
    dtype_of,
    import_tifffile,
    open_tiff,
    orientation_of,
    photometric_of,
    select_page,
    shape_of,
)
from lossmith.data.formats.tiff_tags import page_metadata

__all__ = [
    "has_plain_samples",
    "is_uncompressed_tiff",
    "locate_tiff_samples",
    "read_tiff",
    "read_tiff_header",
    "tiff_options",
    "write_tiff",
]

CONVERTED_BY_PILLOW = ("YCBCR", "SEPARATED", "CIELAB", "ICCLAB")
PILLOW_COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)
"""None, CCITT, LZW, JPEG, deflate and PackBits; Pillow may lack others."""
BITS, PALETTE_BITS = 258, 8
UNCOMPRESSED = 1


def has_plain_samples(file: Path) -> bool:
    """Return whether a TIFF has one page of at most 8 bits, grey or colour, with or without alpha, which Pillow reads.

    Raises:
        ValueError: tifffile is not installed, and the file needs it.
    """
    try:
        import_tifffile()
    except ValueError as error:
        if not _is_read_by_pillow(file):
            raise error
        return True
    with open_tiff(file) as opened:
        return _is_plain(opened)


def _is_plain(opened: Any) -> bool:
    """Return whether Pillow reads all samples of an opened TIFF."""
    if len(opened.pages) > 1:
        return False
    page = opened.pages[0]
    extra = [int(each) for each in page.extrasamples or ()]
    is_unsigned = bits_of(page) in (1, 2, 4, 8) and page.sampleformat in (1, 4)
    is_alpha = not extra or (extra in ([UNASSOCIATED_ALPHA], [ASSOCIATED_ALPHA]) and page.planarconfig == 1)
    is_colour = page.samplesperpixel - len(extra) in (1, 3) or photometric_of(page) == "SEPARATED"
    is_known = page.compression in PILLOW_COMPRESSIONS and PHOTOMETRIC in page.tags
    return bool(is_unsigned and is_alpha and is_colour and is_known and page.imagedepth == 1)


def _is_read_by_pillow(file: Path) -> bool:
    """Return whether Pillow alone reads all samples of a TIFF."""
    try:
        with open_image(file) as image:
            bits = np.atleast_1d(image.tag_v2.get(BITS, 1))  # type: ignore[attr-defined]
            return bool(max(bits) <= 8 and image.n_frames == 1 and image.mode != "RGBX")  # type: ignore[attr-defined]
    except ValueError:
        return False


def is_uncompressed_tiff(file: Path) -> bool:
    """Return whether the first page of a TIFF is not compressed; False for a file that cannot be read."""
    try:
        with open_tiff(file) as opened:
            return bool(opened.pages[0].compression == UNCOMPRESSED)
    except ValueError:
        return False


def locate_tiff_samples(file: Path) -> SampleLayout | None:
    """Return where the samples of a TIFF lie; None if they have to be decoded or converted."""
    try:
        with open_tiff(file) as opened:
            if len(opened.pages) != 1 or not _holds_samples(page := opened.pages[0]):
                return None
            height, width, bands = shape_of(page)
            strides = (height * width, width, 1) if page.planarconfig == 2 else (1, width * bands, bands)
            dtype = np.dtype(opened.byteorder + page.dtype.char)
            return SampleLayout(dtype, (bands, height, width), strides, page.dataoffsets[0])
    except ValueError:
        return None


def _holds_samples(page: Any) -> bool:
    """Return whether the bytes of a page are the samples of an upright image without alpha, in one block."""
    is_plain = page.compression == UNCOMPRESSED and page.predictor == 1 and page.fillorder == 1
    is_upright = orientation_of(page) == 1 and photometric_of(page) in ("RGB", "MINISBLACK")
    is_full = page.sampleformat == 1 and bits_of(page) == 8 * page.dtype.itemsize
    has_no_alpha = not any(int(each) for each in page.extrasamples or ())
    is_block = page.is_contiguous and not page.is_tiled and sum(page.databytecounts) == page.nbytes
    return bool(
        is_plain and is_upright and is_full and has_no_alpha and is_block and page_metadata(page).no_data is None
    )


def read_tiff_header(file: Path, page: int | None = None) -> ImageHeader:
    """Return the header of a TIFF that Pillow does not read."""
    with open_tiff(file) as opened:
        chosen = select_page(opened, page)
        height, width, samples = shape_of(chosen)
        is_turned = orientation_of(chosen) in (5, 6, 7, 8)
        bands = 3 if photometric_of(chosen) == "PALETTE" else samples - (alpha_kind(chosen) is not None)
        size = (width, height) if is_turned else (height, width)
        no_data = page_metadata(chosen).no_data
        return ImageHeader(*size, check_bands(bands), dtype_of(chosen), declared_range(chosen), no_data)


def read_tiff(file: Path, page: int | None = None) -> StoredImage:
    """Return the content of a TIFF; white-is-zero integers are inverted, and palettes are resolved.

    Args:
        file: The file.
        page: The page, from 1; overviews and masks are no pages.

    Raises:
        ValueError: tifffile or a codec is not installed, the file is damaged, or it has several pages and none is
            chosen.
    """
    with open_tiff(file) as opened:
        chosen = select_page(opened, page)
        shape_of(chosen)  # raises
        metadata, kind, orientation = page_metadata(chosen), photometric_of(chosen), orientation_of(chosen)
        metadata = dataclasses.replace(metadata, resolution=turn_resolution(metadata.resolution, orientation))
        if _is_plain(opened) or (kind in CONVERTED_BY_PILLOW and bits_of(chosen) <= 8):
            if chosen.index:
                raise ValueError(f"page {page} is {kind} and not the first; convert it to RGB")
            return dataclasses.replace(read_pillow(file), metadata=metadata)
        if kind in CONVERTED_BY_PILLOW:
            raise ValueError(f"{kind} with {chosen.dtype} is not supported; convert the image to RGB")
        planes = apply_orientation(_read_planes(chosen, kind), orientation)
        kind_of_alpha = alpha_kind(chosen)
        metadata = dataclasses.replace(metadata, value_range=declared_range(chosen))
    if kind_of_alpha is None or kind == "PALETTE":
        check_bands(len(planes))
        return StoredImage(planes, None, metadata)
    alpha, samples = planes[-1], planes[:-1]
    check_bands(len(samples))
    return StoredImage(
        _divide_by_alpha(samples, alpha) if kind_of_alpha == ASSOCIATED_ALPHA else samples, alpha, metadata
    )


def _read_planes(page: Any, kind: str) -> Samples:
    """Return the samples (C, H, W) of a page, black at 0 and in whole bytes."""
    height, width, bands = shape_of(page)
    values = page.asarray()
    is_separate = page.planarconfig == 2
    planes: Samples = values.reshape((bands, height, width) if is_separate else (height, width, bands))
    planes = planes if is_separate else np.moveaxis(planes, -1, 0)
    bits = bits_of(page)
    if kind == "PALETTE":
        colours = np.asarray(page.colormap)[:, planes[0].astype(np.intp)]
        return colours if bits > PALETTE_BITS else (colours // 256).astype(np.uint8)
    if planes.dtype.kind not in "bu":
        return planes
    if bits < 8:
        planes = np.rint(planes * (255 / (2**bits - 1))).astype(np.uint8)
    if kind != "MINISWHITE":
        return planes
    return (np.iinfo(planes.dtype).max if bits < 8 else planes.dtype.type(2**bits - 1)) - planes


def _divide_by_alpha(samples: Samples, alpha: Samples) -> Samples:
    """Return samples that were multiplied by alpha, divided by it; samples under full transparency are 0."""
    top = float(np.iinfo(alpha.dtype).max) if alpha.dtype.kind in "iu" else 1.0
    values = samples * np.where(alpha > 0, top / np.maximum(alpha, 1e-9), 0)
    if alpha.dtype.kind in "iu":
        values = np.rint(values).clip(0, top)
    return values.astype(samples.dtype)


def tiff_options(image: ImageMetadata, samples: int, *, has_alpha: bool) -> dict[str, Any]:
    """Return the arguments of tifffile for an image.

    Args:
        image: The metadata of the image that was read.
        samples: Number of samples of a pixel, with alpha.
        has_alpha: Whether the last sample is alpha.
    """
    is_rgb = samples - has_alpha == 3
    extra = [0] * (samples - has_alpha - (3 if is_rgb else 1)) + [UNASSOCIATED_ALPHA] * has_alpha
    options: dict[str, Any] = {
        "photometric": "rgb" if is_rgb else "minisblack",
        "planarconfig": "contig" if samples > 1 else None,
        "extrasamples": extra or None,
        "compression": "zlib" if image.is_compressed else None,
        "metadata": None,
        "software": False,
        "extratags": [(*tag, True) for tag in image.tags],
        "iccprofile": image.icc_profile,
    }
    if image.resolution is not None:
        options |= {"resolution": image.resolution, "resolutionunit": "INCH"}
    return options


def write_tiff(out: Path, image: StoredImage) -> None:
    """Write a TIFF with the metadata of the file that was read.

    Raises:
        ValueError: tifffile is not installed.
    """
    planes = image.samples if image.alpha is None else np.concatenate([image.samples, image.alpha[None]])
    options = tiff_options(image.metadata, len(planes), has_alpha=image.alpha is not None)
    values = planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1)
    with import_tifffile().TiffWriter(out, bigtiff=values.nbytes > 2**31) as opened:
        opened.write(np.ascontiguousarray(values), **options)
