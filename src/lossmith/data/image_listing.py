"""Lists of image files: find the images of a folder, and identify them."""

import os
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from lossmith.data.file_identity import find_copies, find_same_files
from lossmith.data.file_paths import FilePaths, current_snapshot
from lossmith.data.folder_walk import walk_folders
from lossmith.data.formats.files import IMAGE_SUFFIXES, identify
from lossmith.data.image_files import SkippedFile

__all__ = [
    "ImageFiles",
    "image_root",
    "list_images",
    "summarize_skipped",
]

UNREAD_SUFFIXES = frozenset(
    (".avif", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jxl", ".ppm", ".psd", ".tga")
)
"""Suffixes of images that are not read; a note says that they are left out."""


class ImageFiles(FilePaths):
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
        self, files: Iterable[str | Path], root: str | Path | None = None, skipped: Iterable[SkippedFile] = ()
    ) -> None:
        super().__init__(files)
        self.root = _common_folder(self.paths) if root is None else Path(root)
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

    def select(self, files: Iterable[str | Path]) -> "ImageFiles":
        """Return some of the files, with the same root."""
        return ImageFiles(files, self.root)

    def distinct(self) -> "ImageFiles":
        """Return each file once, under its own path if it has one; other names of it, links, become skipped files."""
        root, links = os.path.realpath(self.root), set[str]()
        others: list[SkippedFile] = []
        for resolved, paths in find_same_files(self.paths).items():
            own = [path for path in paths if resolved == f"{root}{os.sep}{self.name(Path(path)).replace('/', os.sep)}"]
            kept = (own or paths)[0]
            links |= {path for path in paths if path != kept}
            reason = f"the file is the same as {self.name(Path(kept))!r}"
            others += [SkippedFile(path, reason) for path in paths if path != kept]
        return self._without(links, others)

    def exclude(self, others: Iterable[Path], role: str, *, copies: bool = True) -> "ImageFiles":
        """Return the files that are none of others and no copies of them, see :func:`find_copies`.

        Args:
            others: The files to leave out.
            role: What they are, for the reasons, such as "a validation image".
            copies: Whether to leave out files of equal content, too.
        """
        found = {str(file): each for file, each in find_copies(self, others).items() if copies or each[1]}
        left_out = [
            SkippedFile(path, f"the image is {role}" if is_same else f"the image is a copy of {role}")
            for path, (_, is_same) in found.items()
        ]
        return self._without(found, left_out)

    def _without(self, left_out: Container[str], skipped: Sequence[SkippedFile]) -> "ImageFiles":
        kept = [path for path in self.paths if path not in left_out] if skipped else self.paths
        return ImageFiles(kept, self.root, [*self.skipped, *skipped])


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
    if folder == "":
        raise ValueError("Expected a folder of images; got ''. Use '.' for the working folder.")
    snapshot = current_snapshot()
    if snapshot is None:
        return _list_images(Path(folder))
    if str(folder) not in snapshot.listings:
        snapshot.listings[str(folder)] = _list_images(Path(folder))
    found: ImageFiles = snapshot.listings[str(folder)]
    return ImageFiles(found, found.root, found.skipped)


def _list_images(root: Path) -> ImageFiles:
    if not os.path.isdir(root):  # noqa: PTH112  # Path.is_dir raises for a folder in an unreadable one
        problem = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"Expected a folder of images; {str(root)!r} {problem}. Give the folder that contains them.")
    skipped: list[SkippedFile] = []
    found: list[str] = []
    unread: list[str] = []
    arrays: list[str] = []
    archives: list[str] = []
    for directory, names in walk_folders(root, skipped):
        prefix = _prefix(directory)
        for name in names:
            suffix = _suffix_of(name)
            if suffix in IMAGE_SUFFIXES or _is_image(prefix + name, suffix):
                (arrays if suffix == ".npy" else found).append(prefix + name)
            elif suffix in UNREAD_SUFFIXES:
                unread.append(prefix + name)
            elif suffix == ".tar":
                archives.append(prefix + name)
    if archives:
        reason = f"shards (.tar), {len(archives)} in all; give the .tar, or the folder that contains shards alone"
        skipped.append(SkippedFile(archives[0], reason))
    if unread:
        kinds = ", ".join(sorted({_suffix_of(path) for path in unread}))
        reason = f"images in formats that are not read ({kinds}), {len(unread)} in all; convert them to PNG"
        skipped.append(SkippedFile(min(unread, key=_parts), reason))
    if arrays and found:
        skipped.append(SkippedFile(arrays[0], f"{len(arrays)} arrays (.npy) beside images of other formats"))
    found = found or arrays
    top = image_root(root)
    if top != root:
        found = _select_benchmark(found, root, top, skipped)
    if not found:
        first = f" Left out: {skipped[0].file!r}: {skipped[0].reason}." if skipped else ""
        raise ValueError(
            f"{str(root)!r} contains no images (PNG, JPEG, WebP, BMP, TIFF, .npy, EXR or DICOM). Add some, or give "
            "another folder." + first
        )
    found.sort(key=_parts)
    return ImageFiles(found, top, skipped)


def _select_benchmark(found: list[str], root: Path, top: Path, skipped: list[SkippedFile]) -> list[str]:
    """Return the files in the folder HR of a benchmark, and note those that lie neither there nor in LR..."""
    start = len(_prefix(root))
    others = [path for path in found if not path.startswith(("HR", "LR"), start)]
    if others:
        reason = f"only the images in its subfolder HR are used; {len(others)} beside HR and LR are left out"
        skipped.append(SkippedFile(str(root), reason))
    return [path for path in found if path.startswith(_prefix(top))]


def _parts(path: str) -> str:
    """Return a key that orders paths as their parts: no character is smaller than the one between the parts."""
    return path.replace(os.sep, "\0")


def _prefix(folder: Path) -> str:
    """Return what precedes a name in the path of a file in a folder, as pathlib joins them."""
    return "" if str(folder) == "." else os.path.join(folder, "")  # noqa: PTH118


def _suffix_of(name: str) -> str:
    """Return the suffix of a name that does not begin with a dot, in lower case, in a tenth of the time of pathlib."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def _is_image(path: str, suffix: str) -> bool:
    """Return whether a file without the suffix of an image format is an image."""
    has_no_suffix = len(suffix) < 2 or suffix[1:].isdigit()  # a UID such as 1.2.840.1 is a usual name of a DICOM file
    return has_no_suffix and identify(Path(path)) == "DICOM"


def image_root(folder: str | Path) -> Path:
    """Return the root of a folder's images: its subfolder ``HR`` beside ``LR...`` in a benchmark, otherwise itself."""
    root = Path(folder)
    if os.path.isdir(root / "HR") and any(path.name.startswith("LR") and path.is_dir() for path in root.iterdir()):  # noqa: PTH112
        return root / "HR"
    return root


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


def _common_folder(paths: Sequence[str]) -> Path:
    """Return the deepest folder that contains all files."""
    if not paths:
        return Path()
    try:
        return Path(os.path.commonpath({os.path.dirname(path) for path in paths}) or ".")  # noqa: PTH120
    except ValueError:  # relative and absolute paths, or two drives
        return Path()
