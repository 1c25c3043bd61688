"""Arrays of NumPy: (H, W), (H, W, C) or (C, H, W)."""

from pathlib import Path

import numpy as np

from lossmith.data.formats.layout import SampleLayout
from lossmith.data.formats.stored import (
    MAX_BANDS,
    ImageHeader,
    ImageMetadata,
    Samples,
    StoredImage,
    check_bands,
    explain_read_errors,
)

__all__ = ["locate_npy_samples", "read_npy", "read_npy_header", "write_npy"]


def read_npy_header(file: Path) -> ImageHeader:
    """Return the header of an array; the samples are not read."""
    samples, _ = _open(file)
    return ImageHeader(samples.shape[1], samples.shape[2], len(samples), samples.dtype.newbyteorder("=").name)


def read_npy(file: Path) -> StoredImage:
    """Return the content of a file of one array."""
    samples, axes = _open(file)
    with explain_read_errors():
        values = np.asarray(samples.astype(samples.dtype.newbyteorder("=")))
    return StoredImage(values, None, ImageMetadata(format="NPY", is_compressed=False, source=axes))


def locate_npy_samples(file: Path) -> SampleLayout | None:
    """Return where the samples of an array lie; None for a file that cannot be read."""
    try:
        samples, _ = _open(file)
    except ValueError:
        return None
    assert isinstance(samples, np.memmap)  # np.load maps it
    strides = tuple(stride // samples.itemsize for stride in samples.strides)
    return SampleLayout(samples.dtype, samples.shape, strides, samples.offset)


def write_npy(out: Path, image: StoredImage) -> None:
    """Write an array with the axes of the file that was read; (H, W), or (H, W, C) for bands, from another format."""
    axes = image.metadata.source if image.metadata.format == "NPY" else None
    samples = image.samples
    if axes is None:
        axes = "HW" if len(samples) == 1 else "HWC"
    if axes == "HW" and len(samples) > 1:
        axes = "HWC"
    values = samples if axes == "CHW" else samples.transpose(1, 2, 0) if axes == "HWC" else samples[0]
    with out.open("wb") as opened:  # np.save would add a suffix to the name
        np.save(opened, np.ascontiguousarray(values), allow_pickle=False)


def _open(file: Path) -> tuple[Samples, str]:
    """Return a file as (C, H, W), mapped into memory, and the axes of the array."""
    with explain_read_errors():
        values = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
            raise ValueError(
                f"an array of integers or floats is expected; got {getattr(values, 'dtype', 'an archive')}"
            )
        if values.ndim == 2:
            return values[None], "HW"
        if values.ndim != 3:
            raise ValueError(f"an array (H, W), (H, W, C) or (C, H, W) is expected; got shape {values.shape}")
        if values.shape[-1] > MAX_BANDS >= values.shape[0]:
            check_bands(values.shape[0])
            return values, "CHW"
        check_bands(values.shape[-1])
        return values.transpose(2, 0, 1), "HWC"
