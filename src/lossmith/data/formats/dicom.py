"""Single slices of DICOM, with pydicom: values in the units of the modality, such as Hounsfield units."""

import copy
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.formats.dicom_header import (
    count_frames,
    find_frame_item,
    open_dataset,
    padding_value,
    rescale_factors,
    select_frame,
    stored_limits,
    value_type,
    window,
)
from lossmith.data.formats.dicom_tables import apply_table, describe_without_table
from lossmith.data.formats.stored import (
    ImageHeader,
    ImageMetadata,
    Samples,
    StoredImage,
    check_bands,
    choose_page,
    explain_read_errors,
)

__all__ = ["can_hold_dicom", "read_dicom", "read_dicom_header", "write_dicom"]


def read_dicom_header(file: Path) -> ImageHeader:
    """Return the header of a DICOM file, without its pixels; of several frames, that of the first."""
    dataset = open_dataset(file, stop_before_pixels=True)
    with explain_read_errors():
        describe_without_table(dataset)
        dtype, value_range = value_type(dataset)
        bands = check_bands(int(dataset.get("SamplesPerPixel", 1)))
        return ImageHeader(
            int(dataset.Rows),
            int(dataset.Columns),
            bands,
            dtype,
            value_range,
            padding_value(dataset, value_range),
            window(dataset),
        )


def read_dicom(file: Path, page: int | None = None) -> StoredImage:
    """Return one slice; slope and intercept, or a table, are applied, and a window is left to the display.

    Args:
        file: The file.
        page: The frame of a file with several frames, from 1.

    Raises:
        ValueError: pydicom is not installed, the file has no pixels, no installed plugin decodes its transfer syntax,
            or it has several frames and none is chosen.
    """
    dataset = open_dataset(file)
    frame = choose_page(page, count_frames(dataset), "frame")
    with explain_read_errors("pydicom"):
        stored = apply_table(_decode(dataset, frame), dataset)
        select_frame(dataset, frame)
        describe_without_table(dataset)
        dtype, value_range = value_type(dataset)
        values = _rescale(stored, dataset, dtype)
    samples = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    padding = padding_value(dataset, value_range)
    metadata = ImageMetadata(format="DICOM", no_data=padding, value_range=value_range, source=dataset)
    return StoredImage(samples, None, metadata)


def _decode(dataset: Any, frame: int) -> Samples:
    """Return the stored values of a frame.

    Raises:
        ValueError: No installed plugin decodes the transfer syntax, or the data are damaged.
    """
    from pydicom.pixels.utils import pixel_array

    try:
        return pixel_array(dataset, index=frame)
    except RuntimeError as error:
        if "missing dependencies" not in str(error):
            raise
        raise ValueError(
            f"no installed plugin of pydicom decodes {dataset.file_meta.TransferSyntaxUID.name!r}; "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        ) from error


def _rescale(stored: Samples, dataset: Any, dtype: str) -> Samples:
    slope, intercept = rescale_factors(dataset)
    if np.dtype(dtype).kind == "f" or stored.dtype.kind == "f":
        return (stored.astype(np.float64) * slope + intercept).astype(dtype)
    return (stored.astype(np.int64) * int(slope) + int(intercept)).astype(dtype)


def can_hold_dicom(metadata: ImageMetadata) -> bool:
    """Return whether an image with this metadata can be written as DICOM: it was read from integers of whole bytes."""
    return metadata.format == "DICOM" and "BitsStored" in metadata.source and metadata.source.BitsAllocated % 8 == 0


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
    measures = find_frame_item(dataset, "PixelMeasuresSequence")
    if "PixelSpacing" in measures:  # rows, columns
        old = int(dataset.Rows), int(dataset.Columns)
        spacing = zip(measures.PixelSpacing, old, pixels.shape[:2], strict=True)
        measures.PixelSpacing = [f"{float(value) * was / now:.10g}" for value, was, now in spacing]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = pixels.shape
    if dataset.SamplesPerPixel == 3:
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.ImageType = ["DERIVED", "SECONDARY", *list(dataset.get("ImageType", []))[2:]]
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 and not syntax.is_implicit_VR else "OW"
    dataset["PixelData"].is_undefined_length = False
    with explain_read_errors("pydicom"):
        _decode_implicit_elements(dataset)
        dataset.save_as(out, enforce_file_format=True)


def _decode_implicit_elements(dataset: Any) -> None:
    """Decode the elements without a type, which some files mix with those of explicit types."""
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if getattr(element, "is_raw", False) and element.VR is None:
            _ = dataset[tag]


def _to_stored(samples: Samples, dataset: Any) -> Samples:
    """Return the stored integers of values in the units of the modality.

    Raises:
        ValueError: They do not fit the bits of the file.
    """
    slope, intercept = rescale_factors(dataset)
    stored = np.rint((samples.astype(np.float64) - intercept) / slope)
    low, high = stored_limits(dataset)
    if stored.min() < low or stored.max() > high:
        raise ValueError(f"The values do not fit {dataset.BitsStored} bits with slope {slope:g}; write a .tif.")
    return stored
