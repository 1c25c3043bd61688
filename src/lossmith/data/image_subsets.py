"""Subsets of image files: hold some out, or select some evenly."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lossmith.data.image_files import SkippedFile
from lossmith.data.image_listing import ImageFiles, list_images
from lossmith.data.shards.locate import are_shards
from lossmith.data.shards.unpack import unpack_samples

__all__ = ["hold_out", "hold_out_usable", "select_evenly"]


def hold_out(files: Sequence[Path], count: int) -> tuple[ImageFiles, ImageFiles]:
    """Split files into training files and `count` validation files, evenly spaced.

    Returns:
        The training files and the held-out files.

    Raises:
        ValueError: No training file or no validation file would remain.

    Example:
        >>> hold_out([Path(name) for name in "abcd"], 1)
        ([PosixPath('a'), PosixPath('b'), PosixPath('d')], [PosixPath('c')])
    """
    return hold_out_usable(files, count, lambda file: None)[:2]


def hold_out_usable(
    files: Sequence[Path], count: int, check: Callable[[Path], object]
) -> tuple[ImageFiles, ImageFiles, list[SkippedFile]]:
    """Split files as :func:`hold_out` does, with the next usable file in place of an unusable one.

    Args:
        files: The files.
        count: The number of files to hold out.
        check: Raises ValueError, whose message is the reason, if a file cannot be held out.

    Returns:
        The training files, at most `count` held-out files, and the files that could not be held out.

    Raises:
        ValueError: No training file or no validation file would remain.
    """
    if not 0 < count < len(files):
        raise ValueError(f"The number of held-out images must be from 1 to {len(files) - 1}; got {count}.")
    listing = files if isinstance(files, ImageFiles) else ImageFiles(files)
    preferred = [(2 * i + 1) * len(files) // (2 * count) for i in range(count)]
    chosen: set[int] = set()
    rejected: dict[int, SkippedFile] = {}
    for start in preferred:
        for step in range(len(files)):
            index = (start + step) % len(files)
            if index in chosen or index in rejected or (index != start and index in preferred):
                continue
            try:
                check(files[index])
            except ValueError as error:
                rejected[index] = SkippedFile(str(files[index]), str(error))
                continue
            chosen.add(index)
            break
    paths = listing.paths
    training = ImageFiles((path for i, path in enumerate(paths) if i not in chosen), listing.root, listing.skipped)
    return training, listing.select(paths[i] for i in sorted(chosen)), list(rejected.values())


def select_evenly(images: str | Path | Sequence[Path], limit: int | None = None) -> ImageFiles:
    """Return the distinct image files of a folder, or the given files; with a limit at most that many, evenly spaced.

    Images of shards are written to a temporary folder.

    Raises:
        ValueError: The folder does not exist or contains no image.
    """
    if isinstance(images, str | Path) and are_shards(images):
        return unpack_samples(str(images), limit).targets
    if isinstance(images, str | Path):
        files = list_images(images).distinct()
    else:
        files = images if isinstance(images, ImageFiles) else ImageFiles(images)
    if limit is None or limit >= len(files):
        return files
    return ImageFiles(hold_out(files, limit)[1], files.root, files.skipped)
