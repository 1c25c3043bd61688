"""Pairs of files by name: the input image of each target image."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lossmith.data.image_files import SkippedFile
from lossmith.data.image_listing import ImageFiles

__all__ = ["pair_by_name"]


def pair_by_name(targets: ImageFiles, inputs: ImageFiles, scale: int = 1) -> tuple[dict[Path, Path], list[SkippedFile]]:
    """Return the input file of each target file, and the targets without one.

    The paths relative to the two roots must be equal, apart from the suffix of the image format and from "x2" at the
    end of the input's name for scale 2, as in DIV2K. If all files of one side lie directly in their root, the names
    without folders must be equal, and each name must occur once among the targets.

    If several targets or several inputs share a name, the suffixes must be equal too.

    Args:
        targets: The target files.
        inputs: The input files.
        scale: Size of a target divided by the size of its input.
    """
    target_keys = [_key(targets.name(file)) for file in targets]
    by_path = _index([(_key(inputs.name(file)), file) for file in inputs])
    by_leaf: dict[str, list[Path]] = {}
    if _is_flat(target_keys) != _is_flat([*by_path]):
        by_leaf = _index([(_leaf(_key(inputs.name(file))), file) for file in inputs])
    path_counts, leaf_counts = Counter(target_keys), Counter(map(_leaf, target_keys))
    pairs: dict[Path, Path] = {}
    skipped: list[SkippedFile] = []
    for target, key in zip(targets, target_keys, strict=True):
        found = _lookup(by_path, key, scale)
        if not found and by_leaf and leaf_counts[_leaf(key)] == 1:
            found = _lookup(by_leaf, _leaf(key), scale)
        if len(found) > 1 or path_counts[key] > 1:
            found = [file for file in found if file.suffix.lower() == target.suffix.lower()]
        if len(found) == 1:
            pairs[target] = found[0]
        else:
            number = "several images" if found else "no image"
            skipped.append(SkippedFile(str(target), f"{str(inputs.root)!r} contains {number} named {key!r}"))
    return pairs, skipped


def _key(name: str) -> str:
    """Return a relative path without its suffix; macOS decomposes accented letters."""
    folder, slash, leaf = unicodedata.normalize("NFC", name).rpartition("/")
    return f"{folder}{slash}{leaf.rpartition('.')[0] or leaf}"


def _leaf(key: str) -> str:
    return key.rpartition("/")[2]


def _is_flat(keys: Sequence[str]) -> bool:
    return not any("/" in key for key in keys)


def _index(named: Sequence[tuple[str, Path]]) -> dict[str, list[Path]]:
    index: dict[str, list[Path]] = {}
    for key, file in named:
        index.setdefault(key, []).append(file)
    return index


def _lookup(index: dict[str, list[Path]], key: str, scale: int) -> list[Path]:
    return index.get(key) or (index.get(f"{key}x{scale}", []) if scale > 1 else [])
