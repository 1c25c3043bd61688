"""Look-up tables of DICOM: palettes and modality tables, after which a data set describes the looked-up values."""

from typing import Any

import numpy as np

from lossmith.data.formats.stored import Samples

__all__ = ["apply_table", "describe_without_table"]

PALETTE = "PALETTE COLOR"
DESCRIBES_STORED_VALUES = ("PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue", "RescaleType")


def describe_without_table(dataset: Any) -> None:
    """Change the header of a data set to that of its looked-up values; without a table, nothing changes.

    Raises:
        ValueError: The table is damaged or not supported.
    """
    if dataset.get("PhotometricInterpretation") == PALETTE:
        bits = stored_bits = _palette_bits(dataset)
        dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PlanarConfiguration = "RGB", 3, 0
        removed = [element.keyword for element in dataset if "PaletteColorLookupTable" in element.keyword]
    elif dataset.get("ModalityLUTSequence"):
        stored_bits = int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])
        bits = 8 if stored_bits <= 8 else 16
        removed = ["ModalityLUTSequence"]
    else:
        return
    for keyword in (*removed, *DESCRIBES_STORED_VALUES):
        dataset.pop(keyword, None)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, stored_bits, stored_bits - 1
    dataset.PixelRepresentation = 0


def apply_table(stored: Samples, dataset: Any) -> Samples:
    """Return the values that the table of a data set gives for stored values; without a table, the stored values.

    Args:
        stored: (H, W).
        dataset: The data set, as it was read.
    """
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

    if dataset.get("PhotometricInterpretation") == PALETTE:
        colours: Samples = apply_color_lut(stored, dataset)[..., :3]  # without the alpha of segmentations
        return colours.astype(f"uint{_palette_bits(dataset)}")
    if dataset.get("ModalityLUTSequence"):
        values: Samples = apply_modality_lut(stored.astype(np.int32), dataset)
        return values
    return stored


def _palette_bits(dataset: Any) -> int:
    """Return the number of bits of an entry of the palette as it is stored, 8 or 16."""
    if dataset.get("PixelPresentation") in ("MIXED", "COLOR"):
        raise ValueError("supplemental palettes of DICOM are not supported")
    entries, _, bits = dataset.RedPaletteColorLookupTableDescriptor
    if "RedPaletteColorLookupTableData" in dataset:
        bits = 8 * len(dataset.RedPaletteColorLookupTableData) // (entries or 2**16)
    if bits not in (8, 16):
        raise ValueError(f"a palette must have 8 or 16 bits; this one has {bits}")
    if bits == 16 and dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.2":
        # pydicom does not swap the bytes, and not every writer of such files did
        raise ValueError("palettes of 16 bits in big-endian files are not supported; convert the file to little endian")
    return int(bits)
