"""Lists of image files: find the images of a folder, and identify them."""

import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lossmith.data.file_identity import find_copies, resolve_files
from lossmith.data.formats.files import IMAGE_SUFFIXES, identify
from lossmith.data.image_files import SkippedFile

__all__ = [
    "ImageFiles",
    "image_root",
    "list_images",
    "summarize_skipped",
    "walk_folders",
]

UNREAD_SUFFIXES = frozenset(
    (".avif", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jxl", ".ppm", ".psd", ".tga")
)
"""Suffixes of images that are not read; a note says that they are left out."""


class ImageFiles(list[Path]):
    """Image files, each identified by its path relative to a root folder.

    Args:
        files: The files.
        root: The folder that was given; None for the deepest folder that contains all files.
        skipped: Folders and files below the root that are left out, with the reasons.

    Example:
        >>> files = ImageFiles([Path("photos/x/1.png"), Path("photos/y/1.png")])
        >>> [files.name(file) for file in files]
        ['x/1.png', 'y/1.png']
    """

    def __init__(
        self, files: Iterable[Path], root: str | Path | None = None, skipped: Iterable[SkippedFile] = ()
    ) -> None:
        super().__init__(files)
        self.root = _common_folder(self) if root is None else Path(root)
        self.skipped = list(skipped)

    def name(self, file: Path) -> str:
        """Return the identity of a file: its path relative to the root, with forward slashes."""
        top, path = f"{self.root}{os.sep}", str(file)
        if path.startswith(top):  # a tenth of the time of Path.relative_to, for data sets of many files
            return path[len(top) :].replace(os.sep, "/")
        if not file.is_relative_to(self.root):
            with suppress(ValueError):  # another drive
                file = Path(os.path.relpath(file, self.root))
        return file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else file.as_posix()

    def select(self, files: Iterable[Path]) -> "ImageFiles":
        """Return some of the files, with the same root."""
        return ImageFiles(files, self.root)

    def distinct(self) -> "ImageFiles":
        """Return each file once, under its own path if it has one; other names of it, links, become skipped files."""
        resolved = resolve_files(self)
        if len(set(resolved)) == len(self):
            return ImageFiles(self, self.root, self.skipped)
        root = os.path.realpath(self.root)
        names: dict[str, list[tuple[bool, int, Path]]] = {}
        for file, path in zip(self, resolved, strict=True):
            is_link = path != f"{root}{os.sep}{self.name(file).replace('/', os.sep)}"
            names.setdefault(path, []).append((is_link, len(names), file))
        kept = {min(files)[2]: files for files in names.values()}
        others = [
            SkippedFile(str(link), f"the file is the same as {self.name(file)!r}")
            for file, files in kept.items()
            for *_, link in files
            if link != file
        ]
        return ImageFiles((file for file in self if file in kept), self.root, [*self.skipped, *others])

    def exclude(self, others: Iterable[Path], role: str, *, copies: bool = True) -> "ImageFiles":
        """Return the files that are none of others and no copies of them, see :func:`find_copies`.

        Args:
            others: The files to leave out.
            role: What they are, for the reasons, such as "a validation image".
            copies: Whether to leave out files of equal content, too.
        """
        found = {file: each for file, each in find_copies(self, others).items() if copies or each[1]}
        left_out = [
            SkippedFile(str(file), f"the image is {role}" if is_same else f"the image is a copy of {role}")
            for file, (_, is_same) in found.items()
        ]
        return ImageFiles((file for file in self if file not in found), self.root, [*self.skipped, *left_out])


def list_images(folder: str | Path) -> ImageFiles:
    """Return all image files in a folder and its subfolders, sorted.

    Images are PNG, JPEG, WebP, BMP, TIFF, OpenEXR and DICOM, the last one also without a suffix. NumPy arrays (.npy)
    count only in a folder without other images, since they often hold features of the images beside them.

    Hidden files and folders are left out, and so are the folders of training runs and studies below the folder. If the
    folder has the subfolders ``HR`` and ``LR...``, as benchmarks with ``HR/`` and ``LRx4/`` do, only the images in
    ``HR`` are returned, with ``HR`` as root.

    Raises:
        ValueError: The folder does not exist or contains no image.
    """
    root = Path(folder)
    if not root.is_dir():
        problem = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"Expected a folder of images; {str(folder)!r} {problem}. Give the folder that contains them.")
    skipped: list[SkippedFile] = []
    found: list[Path] = []
    unread: list[Path] = []
    for directory, names in walk_folders(root, skipped):
        for name in names:
            suffix = _suffix_of(name)
            if suffix in IMAGE_SUFFIXES or _is_image(directory / name):
                found.append(directory / name)
            elif suffix in UNREAD_SUFFIXES:
                unread.append(directory / name)
    if unread:
        unread.sort()
        kinds = ", ".join(sorted({file.suffix.lower() for file in unread}))
        reason = f"images in formats that are not read ({kinds}), {len(unread)} in all; convert them to PNG"
        skipped.append(SkippedFile(str(unread[0]), reason))
    arrays = [file for file in found if _suffix_of(file.name) == ".npy"]
    if 0 < len(arrays) < len(found):
        found = [file for file in found if file.suffix.lower() != ".npy"]
        skipped.append(SkippedFile(str(arrays[0]), f"{len(arrays)} arrays (.npy) beside images of other formats"))
    top = image_root(root)
    if top != root:
        others = [file for file in found if not file.relative_to(root).parts[0].startswith(("HR", "LR"))]
        found = [file for file in found if file.is_relative_to(top)]
        if others:
            reason = f"only the images in its subfolder HR are used; {len(others)} beside HR and LR are left out"
            skipped.append(SkippedFile(str(root), reason))
    if not found:
        first = f" Left out: {skipped[0].file!r}: {skipped[0].reason}." if skipped else ""
        raise ValueError(
            f"{str(folder)!r} contains no images (PNG, JPEG, WebP, BMP, TIFF, .npy, EXR or DICOM). Add some, or give "
            "another folder." + first
        )
    return ImageFiles(sorted(found, key=lambda file: file.parts), top, skipped)


def _suffix_of(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # a third of the time of Path.suffix


def _is_image(file: Path) -> bool:
    """Return whether a file without the suffix of an image format is an image."""
    suffix = file.suffix.lower()
    has_no_suffix = not suffix or suffix[1:].isdigit()  # a UID such as 1.2.840.1 is a usual name of a DICOM file
    return has_no_suffix and identify(file) == "DICOM"


def _is_regular(file: str, skipped: list[SkippedFile]) -> bool:
    """Return whether a name is that of a file; a read of a pipe or a socket would block."""
    try:
        mode = os.stat(file).st_mode  # noqa: PTH116  # a third of the time of Path.stat
    except OSError:  # a broken link, which its reader reports
        return True
    if not stat.S_ISREG(mode):
        skipped.append(SkippedFile(file, "not a file but a pipe, a socket or a device"))
    return stat.S_ISREG(mode)


def image_root(folder: str | Path) -> Path:
    """Return the root of a folder's images: its subfolder ``HR`` beside ``LR...`` in a benchmark, otherwise itself."""
    root = Path(folder)
    if (root / "HR").is_dir() and any(path.name.startswith("LR") and path.is_dir() for path in root.iterdir()):
        return root / "HR"
    return root


def walk_folders(root: Path, skipped: list[SkippedFile]) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and its subfolders, each once and with the sorted names of its visible files; links are followed.

    Args:
        root: The folder.
        skipped: Receives the subfolders that are left out: unreadable ones, training runs and studies.
    """

    def report(error: OSError) -> None:
        skipped.append(SkippedFile(str(error.filename), f"the folder cannot be read: {(error.strerror or '').lower()}"))

    visited: set[str] = set()
    tops = [root]
    for top in tops:  # grows by links, which come last, so that a folder is listed under its own path if it has one
        for path, folders, files in os.walk(top, onerror=report):
            directory, real = Path(path), os.path.realpath(path)
            if real in visited:
                folders.clear()
                continue
            visited.add(real)
            if directory != root and _is_output(directory, files, folders):
                skipped.append(SkippedFile(path, "the folder is a training run or a study, whose images are outputs"))
                folders.clear()
                continue
            visible = sorted(name for name in folders if not name.startswith("."))
            tops += [directory / name for name in visible if (directory / name).is_symlink()]
            folders[:] = visible
            yield (
                directory,
                [
                    name
                    for name in sorted(files)
                    if not name.startswith(".") and _is_regular(f"{path}{os.sep}{name}", skipped)
                ],
            )


def summarize_skipped(skipped: Sequence[SkippedFile]) -> list[str]:
    """Return a line for each reason why files are skipped, with their number and the first of them.

    Example:
        >>> summarize_skipped([SkippedFile("a.png", "the file is empty"), SkippedFile("b.png", "the file is empty")])
        ["2 skipped, the first is 'a.png': the file is empty."]
    """
    by_reason: dict[str, list[str]] = {}
    for file, reason in skipped:
        by_reason.setdefault(reason, []).append(file)
    return [
        f"Skipped {files[0]!r}: {reason}."
        if len(files) == 1
        else f"{len(files)} skipped, the first is {files[0]!r}: {reason}."
        for reason, files in by_reason.items()
    ]


def _is_output(directory: Path, files: Sequence[str], folders: Sequence[str]) -> bool:
    """Return whether a folder is that of a training run or of a study."""
    if "study.json" in files and "trials" in folders:
        return True
    if "config.json" not in files:
        return False
    try:
        record = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "lossmith" in record


def _common_folder(files: Sequence[Path]) -> Path:
    """Return the deepest folder that contains all files."""
    if not files:
        return Path()
    try:
        return Path(os.path.commonpath([file.parent for file in files]) or ".")
    except ValueError:  # relative and absolute paths, or two drives
        return Path()
