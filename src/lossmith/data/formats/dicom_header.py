"""The header of a DICOM file: frames, slope and intercept, type and range of the values, padding, window."""

from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.formats.stored import explain_read_errors, missing_library

__all__ = [
    "count_frames",
    "find_frame_item",
    "open_dataset",
    "padding_value",
    "rescale_factors",
    "select_frame",
    "stored_limits",
    "value_type",
    "window",
]

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def open_dataset(file: Path, *, stop_before_pixels: bool = False) -> Any:
    """Return the data set of a file, which must describe pixels; a file without the prefix of DICOM may be one.

    Raises:
        ValueError: pydicom is not installed, the file is damaged or has no pixels.
    """
    try:
        import pydicom
    except ImportError as error:
        raise missing_library("DICOM", "pydicom", "dicom") from error
    with explain_read_errors("pydicom"):
        dataset = pydicom.dcmread(file, stop_before_pixels=stop_before_pixels, force=True)
        has_pixels = stop_before_pixels or any(keyword in dataset for keyword in PIXEL_KEYWORDS)
        if "Rows" not in dataset or not has_pixels:
            raise ValueError("the DICOM file has no pixels")
        if not dataset.file_meta.get("TransferSyntaxUID"):
            is_implicit, is_little = dataset.original_encoding
            syntaxes = pydicom.uid.ExplicitVRBigEndian, pydicom.uid.ExplicitVRLittleEndian
            uncompressed = pydicom.uid.ImplicitVRLittleEndian if is_implicit else syntaxes[bool(is_little)]
            dataset.file_meta.TransferSyntaxUID = uncompressed
        return dataset


def count_frames(dataset: Any) -> int:
    """Return the number of frames.

    Raises:
        ValueError: The header contains no number.
    """
    stated = dataset.get("NumberOfFrames", 1) or 1
    try:
        return int(stated)
    except (TypeError, ValueError):
        raise ValueError(f"the number of frames in the header must be a number; it is {str(stated)!r}") from None


def select_frame(dataset: Any, frame: int) -> None:
    """Reduce the header of a data set to one frame, from 0."""
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups:
        dataset.PerFrameFunctionalGroupsSequence = [groups[min(frame, len(groups) - 1)]]
    dataset.pop("NumberOfFrames", None)


def find_frame_item(dataset: Any, sequence: str) -> Any:
    """Return the holder of attributes of the first frame: a functional group, as in enhanced MR, or the data set."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in (dataset.get(groups) or [])[:1]:
            if group.get(sequence):
                return group[sequence][0]
    return dataset


def rescale_factors(dataset: Any) -> tuple[float, float]:
    """Return slope and intercept, by which stored values become those of the modality."""
    item = find_frame_item(dataset, "PixelValueTransformationSequence")
    return float(item.get("RescaleSlope", 1) or 1), float(item.get("RescaleIntercept", 0) or 0)


def stored_limits(dataset: Any) -> tuple[int, int]:
    """Return the least and the largest stored integer."""
    bits, is_signed = int(dataset.BitsStored), int(dataset.get("PixelRepresentation", 0)) == 1
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)


def value_type(dataset: Any) -> tuple[str, tuple[float, float] | None]:
    """Return the type of the rescaled values and the range that the header declares; None for floats."""
    if "BitsStored" not in dataset:  # FloatPixelData or DoubleFloatPixelData
        return ("float64" if dataset.get("BitsAllocated") == 64 else "float32"), None
    slope, intercept = rescale_factors(dataset)
    ends = sorted(limit * slope + intercept for limit in stored_limits(dataset))
    if slope.is_integer() and intercept.is_integer():
        kinds = ("uint8", "uint16", "int16", "int32", "uint32")
        fitting = [kind for kind in kinds if np.iinfo(kind).min <= ends[0] and ends[1] <= np.iinfo(kind).max]
        if fitting:
            return fitting[0], (ends[0], ends[1])
    return "float64" if int(dataset.BitsStored) > 24 else "float32", (ends[0], ends[1])


def padding_value(dataset: Any, value_range: tuple[float, float] | None) -> float | None:
    """Return the value of pixels outside of the field of view, in the units of the modality."""
    padding = dataset.get("PixelPaddingValue")
    if padding is None:
        return None
    if isinstance(padding, bytes):
        padding = int.from_bytes(padding[:2], "little")
    slope, intercept = rescale_factors(dataset)
    value = float(padding) * slope + intercept
    return value if value_range is None or value_range[0] <= value <= value_range[1] else None


def window(dataset: Any) -> tuple[float, float] | None:
    """Return the first window of a data set, as its lowest and its highest value."""
    item = find_frame_item(dataset, "FrameVOILUTSequence")
    ends = item.get("WindowCenter"), item.get("WindowWidth")
    if None in ends:
        return None
    centre, width = (float(np.atleast_1d(np.asarray(each, dtype=float))[0]) for each in ends)
    return (centre - width / 2, centre + width / 2) if width > 0 else None
