"""The pixel format of a data set, found from its files and from what the user states."""

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lossmith.data.cache import current_cache
from lossmith.data.file_paths import FilePaths
from lossmith.data.formats.stored import ImageHeader, type_range
from lossmith.data.pixel_format import PixelFormat
from lossmith.data.pixel_statistics import describe_samples, percentile_range, sample_images_of

__all__ = [
    "PixelOptions",
    "find_pixel_format",
    "parse_no_data",
    "parse_value_range",
]


class PixelOptions(NamedTuple):
    """The statements of a user about the samples of a data set; None for a value that is found from the files.

    Args:
        channels: Number of channels.
        range: ``"low:high"``, or "auto" for the 0.1th and the 99.9th percentile.
        transfer: The transfer function.
        no_data: The value of samples without data, a number or "nan".
    """

    channels: int | None = None
    range: str | None = None
    transfer: str = "linear"
    no_data: str | None = None


NOTHING_STATED = PixelOptions()


def parse_value_range(text: str) -> tuple[float, float]:
    """Return the two ends in the value of ``--range``.

    Raises:
        ValueError: The text is not ``low:high``.

    Example:
        >>> parse_value_range("-1024:3071")
        (-1024.0, 3071.0)
    """
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"--range must be LOW:HIGH, such as 0:1, or auto; got {text!r}.") from None
    return low, high


def parse_no_data(text: str | None) -> float | None:
    """Return the number in the value of ``--no-data``; "nan" is one.

    Raises:
        ValueError: The text is not a number.
    """
    try:
        return None if text is None else float(text)
    except ValueError:
        raise ValueError(f"--no-data must be a number or nan; got {text!r}.") from None


def find_pixel_format(
    files: Iterable[Path], options: PixelOptions = NOTHING_STATED, *, owner: str = "The images"
) -> tuple[PixelFormat, list[str]]:
    """Return the pixel format of image files, and notes on samples that it does not hold.

    Args:
        files: The files; unreadable ones are passed over.
        options: What the user states.
        owner: The data set, for messages.

    Raises:
        ValueError: The files differ in bands or type, or the range of floats is not stated.
    """
    headers = _read_headers(files)
    no_data = parse_no_data(options.no_data)
    if not headers:
        ends = None if options.range in (None, "auto") else parse_value_range(options.range)
        channels = options.channels or 3
        return PixelFormat(channels=channels, value_range=ends, transfer=options.transfer, no_data=no_data), []  # type: ignore[arg-type]
    channels, notes = _find_channels(headers, options.channels, owner)
    used = {file: header for file, header in headers.items() if header.bands in (channels, 1 if channels == 3 else 0)}
    dtype = _find_type(used, options.range, owner)
    no_data = _declared_no_data(used) if no_data is None else no_data
    if no_data is None:
        no_data = next((header.no_data for header in used.values() if header.no_data is not None), None)
    draft = PixelFormat(channels=channels, dtype=dtype, no_data=no_data)
    if options.range == "auto":
        ends = percentile_range(sample_images_of(FilePaths(used), draft), draft, positive=options.transfer == "log")
    else:
        ends = parse_value_range(options.range) if options.range else _declared_range(used, dtype, owner)
    window = next((header.window for header in used.values() if header.window), None)
    pixels = PixelFormat(
        channels=channels,
        dtype=dtype,
        value_range=ends,
        transfer=options.transfer,  # type: ignore[arg-type]  # checked by the class
        no_data=no_data,
        window=window,
    )
    if not (dtype == "uint8" and pixels.keeps_samples):
        notes += [f"Samples: {pixels}.", *describe_samples(FilePaths(used), pixels)]
    return pixels, notes


def _read_headers(files: Iterable[Path]) -> dict[str, ImageHeader]:
    paths = FilePaths(files)
    headers = zip(paths.paths, current_cache().headers.read_all(paths), strict=True)
    return {path: header for path, header in headers if not isinstance(header, ValueError)}


def _find_channels(headers: dict[str, ImageHeader], stated: int | None, owner: str) -> tuple[int, list[str]]:
    """Return the number of channels; grey images in a folder of RGB are repeated."""
    counts = Counter(header.bands for header in headers.values())
    if stated is not None:
        if stated not in counts and not (stated == 3 and 1 in counts):
            raise ValueError(f"{owner} have {_list_counts(headers, 'bands')}; --channels is {stated}.")
        return stated, []
    if len(counts) == 1:
        return next(iter(counts)), []
    if set(counts) == {1, 3}:
        return 3, [f"{counts[1]} of {len(headers)} images are grey; they are repeated as RGB."]
    raise ValueError(
        f"{owner} differ in the number of bands: {_list_counts(headers, 'bands')}. Give a folder with equal bands, or "
        "--channels N to use those with N bands."
    )


def _find_type(headers: dict[str, ImageHeader], stated_range: str | None, owner: str) -> str:
    """Return the type of the samples; differing types need a common range."""
    types = {header.dtype for header in headers.values()}
    has_range = stated_range is not None or all(header.value_range is not None for header in headers.values())
    if len(types) > 1 and not has_range:
        raise ValueError(
            f"{owner} differ in depth: {_list_counts(headers, 'dtype')}. Give a folder with equal depth, or the common "
            "range of their values with --range LOW:HIGH."
        )
    return str(np.result_type(*types))


def _list_counts(headers: dict[str, ImageHeader], name: str) -> str:
    """Return how many images have each value of a field, with an example."""
    counts = Counter(getattr(header, name) for header in headers.values())
    examples = {getattr(header, name): Path(path).name for path, header in reversed(headers.items())}
    unit = "" if name == "dtype" else " bands"
    return ", ".join(f"{value}{unit} in {count} ({examples[value]!r})" for value, count in counts.most_common())


def _declared_range(headers: dict[str, ImageHeader], dtype: str, owner: str) -> tuple[float, float] | None:
    """Return the union of the ranges that headers declare; None for the full range of an integer type.

    Raises:
        ValueError: The type has no range of its own.
    """
    declared = [header.value_range for header in headers.values()]
    if all(declared):
        ends = min(each[0] for each in declared if each), max(each[1] for each in declared if each)
        return None if ends == type_range(dtype) else ends
    if type_range(dtype) is None:
        raise ValueError(
            f"{owner} are {dtype}, whose values have no range of their own. Give --range LOW:HIGH, such as "
            "--range 0:1, or --range auto for their percentiles."
        )
    return None


def _declared_no_data(headers: dict[str, ImageHeader]) -> float | None:
    """Return the no-data value of the files; NaN if they declare several, each of which holds for its own file."""
    declared = {header.no_data for header in headers.values() if header.no_data is not None}
    return declared.pop() if len(declared) == 1 else math.nan if declared else None
