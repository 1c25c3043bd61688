"""The captions of the sheets of samples that a validation writes, for the report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["CAPTIONS_FILE", "SHEET_COLUMNS", "SHEET_NAME", "read_sample_captions"]

CAPTIONS_FILE, SHEET_NAME, SHEET_COLUMNS = "samples.json", "samples", 4
"""The file of the captions and the folder of the sheets in a run folder, and the images in a row of a sheet."""


def read_sample_captions(folder: Path) -> Mapping[str, Sequence[Sequence[str]]]:
    """Return the captions of the sheets of samples of a run, row by row; {} if they are not readable."""
    try:
        record = json.loads((folder / CAPTIONS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    captions = record.get("captions") if isinstance(record, dict) else None
    if not isinstance(captions, list):
        return {}
    texts = [str(caption) for caption in captions]
    rows = [texts[i : i + SHEET_COLUMNS] for i in range(0, len(texts), SHEET_COLUMNS)]
    return {SHEET_NAME: [row + [""] * (SHEET_COLUMNS - len(row)) for row in rows]} if rows else {}
