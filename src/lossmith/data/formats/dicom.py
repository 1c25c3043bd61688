"""Single slices of DICOM, with pydicom: values in the units of the modality, such as Hounsfield units."""

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.formats.stored import (
    ImageHeader,
    ImageMetadata,
    Samples,
    StoredImage,
    check_bands,
    explain_read_errors,
    missing_library,
)

__all__ = ["read_dicom", "read_dicom_header", "write_dicom"]

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def read_dicom_header(file: Path) -> ImageHeader:
    """Return the header of a DICOM file, without its pixels."""
    dataset = _open(file, stop_before_pixels=True)
    with explain_read_errors():
        dtype, value_range = _value_type(dataset)
        bands = check_bands(int(dataset.get("SamplesPerPixel", 1)))
        return ImageHeader(
            int(dataset.Rows),
            int(dataset.Columns),
            bands,
            dtype,
            value_range,
            _padding(dataset, value_range),
            _window(dataset),
        )


def read_dicom(file: Path, page: int | None = None) -> StoredImage:
    """Return one slice; slope and intercept are applied, and a window is left to the display.

    Args:
        file: The file.
        page: The frame of a file with several frames, from 1.

    Raises:
        ValueError: pydicom is not installed, the file has no pixels, no installed plugin decodes its transfer syntax,
            or it has several frames and none is chosen.
    """
    dataset = _open(file)
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if page is None and frames > 1:
        raise ValueError(f"the file has {frames} frames; choose one with --page 1 to {frames}")
    if not 1 <= (page or 1) <= frames:
        raise ValueError(f"the file has {frames} frames; got --page {page}")
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise ValueError("palettes of DICOM are not supported")
    if "ModalityLUTSequence" in dataset:
        raise ValueError("a modality look-up table is not supported; only slope and intercept are")
    from pydicom.pixels.utils import pixel_array

    with explain_read_errors(), warnings.catch_warnings(action="ignore"):
        stored = pixel_array(dataset, index=(page or 1) - 1)
        dtype, value_range = _value_type(dataset)
        values = _rescale(stored, dataset, dtype)
    samples = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    padding = _padding(dataset, value_range)
    metadata = ImageMetadata(format="DICOM", no_data=padding, value_range=value_range, source=dataset)
    return StoredImage(samples, None, metadata)


def _open(file: Path, *, stop_before_pixels: bool = False) -> Any:
    """Return the data set of a file, which must describe pixels."""
    try:
        import pydicom
    except ImportError as error:
        raise missing_library("DICOM", "pydicom", "dicom") from error
    with explain_read_errors(), warnings.catch_warnings(action="ignore"):
        dataset = pydicom.dcmread(file, stop_before_pixels=stop_before_pixels)
        has_pixels = stop_before_pixels or any(keyword in dataset for keyword in PIXEL_KEYWORDS)
        if "Rows" not in dataset or not has_pixels:
            raise ValueError("the DICOM file has no pixels")
        return dataset


def _slope_and_intercept(dataset: Any) -> tuple[float, float]:
    return float(dataset.get("RescaleSlope", 1) or 1), float(dataset.get("RescaleIntercept", 0) or 0)


def _value_type(dataset: Any) -> tuple[str, tuple[float, float] | None]:
    """Return the type of the rescaled values and the range that the header declares; None for floats."""
    if "BitsStored" not in dataset:  # FloatPixelData or DoubleFloatPixelData
        return ("float64" if dataset.get("BitsAllocated") == 64 else "float32"), None
    bits, is_signed = int(dataset.BitsStored), int(dataset.get("PixelRepresentation", 0)) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    slope, intercept = _slope_and_intercept(dataset)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    if slope.is_integer() and intercept.is_integer():
        kinds = ("uint8", "uint16", "int16", "int32", "uint32")
        fitting = [kind for kind in kinds if np.iinfo(kind).min <= ends[0] and ends[1] <= np.iinfo(kind).max]
        if fitting:
            return fitting[0], (ends[0], ends[1])
    return "float64" if bits > 24 else "float32", (ends[0], ends[1])


def _rescale(stored: Samples, dataset: Any, dtype: str) -> Samples:
    slope, intercept = _slope_and_intercept(dataset)
    if np.dtype(dtype).kind == "f" or stored.dtype.kind == "f":
        return (stored.astype(np.float64) * slope + intercept).astype(dtype)
    return (stored.astype(np.int64) * int(slope) + int(intercept)).astype(dtype)


def _padding(dataset: Any, value_range: tuple[float, float] | None) -> float | None:
    """Return the value of pixels outside of the field of view, in the units of the modality."""
    padding = dataset.get("PixelPaddingValue")
    if padding is None:
        return None
    if isinstance(padding, bytes):
        padding = int.from_bytes(padding[:2], "little")
    slope, intercept = _slope_and_intercept(dataset)
    value = float(padding) * slope + intercept
    return value if value_range is None or value_range[0] <= value <= value_range[1] else None


def _window(dataset: Any) -> tuple[float, float] | None:
    """Return the first window of a data set, as its lowest and its highest value."""
    ends = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if None in ends:
        return None
    centre, width = (float(np.atleast_1d(np.asarray(each, dtype=float))[0]) for each in ends)
    return (centre - width / 2, centre + width / 2) if width > 0 else None


def write_dicom(out: Path, image: StoredImage) -> None:
    """Write a slice with the data set of the file that was read, marked as derived, uncompressed and with a new UID.

    Raises:
        ValueError: The values do not fit the stored type.
    """
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

    dataset = copy.deepcopy(image.metadata.source)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        syntax = ExplicitVRLittleEndian
    stored = _to_stored(image.samples, dataset).astype(">i8" if syntax == ExplicitVRBigEndian else "<i8")
    is_signed = int(dataset.get("PixelRepresentation", 0)) == 1
    kind = f"{stored.dtype.byteorder}{'i' if is_signed else 'u'}{int(dataset.BitsAllocated) // 8}"
    pixels = np.ascontiguousarray(stored.transpose(1, 2, 0).astype(kind))
    if "PixelSpacing" in dataset:  # rows, columns
        old = int(dataset.Rows), int(dataset.Columns)
        spacing = zip(dataset.PixelSpacing, old, pixels.shape[:2], strict=True)
        dataset.PixelSpacing = [f"{float(value) * was / now:.10g}" for value, was, now in spacing]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = pixels.shape
    if dataset.SamplesPerPixel == 3:
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.pop("NumberOfFrames", None)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.ImageType = ["DERIVED", "SECONDARY", *list(dataset.get("ImageType", []))[2:]]
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 and not syntax.is_implicit_VR else "OW"
    dataset["PixelData"].is_undefined_length = False
    with explain_read_errors(), warnings.catch_warnings(action="ignore"):
        dataset.save_as(out, enforce_file_format=True)


def _to_stored(samples: Samples, dataset: Any) -> Samples:
    """Return the stored integers of values in the units of the modality.

    Raises:
        ValueError: They do not fit the bits of the file.
    """
    slope, intercept = _slope_and_intercept(dataset)
    stored = np.rint((samples.astype(np.float64) - intercept) / slope)
    bits, is_signed = int(dataset.BitsStored), int(dataset.get("PixelRepresentation", 0)) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    if stored.min() < low or stored.max() > high:
        raise ValueError(f"The values do not fit {bits} bits with slope {slope:g}; write a .tif.")
    return stored
