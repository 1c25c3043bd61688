"""The tags of a TIFF beside its samples: resolution, colour profile, georeference, no-data value."""

from collections.abc import Mapping
from typing import Any

from lossmith.data.formats.stored import ImageMetadata
from lossmith.data.formats.tiff_pages import photometric_of

__all__ = ["page_metadata", "parse_no_data_tag", "scale_tag"]

NO_DATA = 42113
PIXEL_SCALE, TIE_POINTS, TRANSFORMATION = 33550, 33922, 34264
KEPT_TAGS = (315, 33432, PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, 34735, 34736, 34737, 42112, NO_DATA)
"""Tags that are copied: artist, copyright, and those of GeoTIFF and GDAL."""


def page_metadata(page: Any) -> ImageMetadata:
    """Return what a page carries beside its samples."""
    tags = [(t.code, int(t.dtype), t.count, t.value) for code in KEPT_TAGS if (t := page.tags.get(code)) is not None]
    resolution = page.get_resolution(unit="INCH") if 282 in page.tags and page.resolutionunit != 1 else None
    return ImageMetadata(
        format="TIFF",
        icc_profile=page.iccprofile if photometric_of(page) in ("RGB", "MINISBLACK") else None,
        resolution=None if resolution is None else (float(resolution[0]), float(resolution[1])),
        no_data=parse_no_data_tag({code: value for code, _, _, value in tags}),
        tags=tuple(tags),
        is_compressed=page.compression != 1,
    )


def parse_no_data_tag(tags: Mapping[int, Any]) -> float | None:
    """Return the no-data value that GDAL wrote among the tags of a page, by their codes."""
    try:
        return float(str(tags[NO_DATA]).strip("\0 "))
    except (KeyError, ValueError):
        return None


def scale_tag(tag: tuple[int, int, int, Any], scale: int) -> tuple[int, int, int, Any]:
    """Return a tag of GeoTIFF for an image that is enlarged by a factor."""
    code, kind, count, value = tag
    if scale == 1:
        return tag
    if code == PIXEL_SCALE:
        value = tuple(v / scale if i < 2 else v for i, v in enumerate(value))
    elif code == TIE_POINTS:
        value = tuple(v * scale if i % 6 < 2 else v for i, v in enumerate(value))
    elif code == TRANSFORMATION:
        value = tuple(v / scale if i % 4 < 2 else v for i, v in enumerate(value))
    return code, kind, count, value
