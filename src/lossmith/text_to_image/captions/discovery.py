"""Discovery of images with captions: metadata.jsonl, a text file for each image, or webdataset shards."""

import json
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lossmith.data.folder_walk import walk_folders
from lossmith.data.formats.files import PILLOW_SUFFIXES
from lossmith.data.image_files import SkippedFile
from lossmith.data.image_listing import list_images
from lossmith.data.shards.archive import TarMember, find_member, read_shard
from lossmith.data.shards.copies import ShardStore
from lossmith.data.shards.locate import are_shards, list_shards

__all__ = ["CaptionEntry", "find_captioned_images", "parse_captions"]

METADATA = "metadata.jsonl"


class CaptionEntry(NamedTuple):
    """An image and its captions.

    Args:
        name: The name in messages.
        source: The image file, or the member of a shard.
        captions: One or more captions of the image.
        split_group: Images of one group stay on one side of a split; "" for none.
    """

    name: str
    source: Path | TarMember
    captions: tuple[str, ...]
    split_group: str = ""

    @property
    def identity(self) -> Hashable:
        """The resolved path of the image file, or the place of the image in its resolved shard."""
        place = self.source
        return place.resolve() if isinstance(place, Path) else (place.file.resolve(), place.start)


def find_captioned_images(path: str | Path) -> tuple[list[CaptionEntry], list[SkippedFile]]:
    """Return the images with captions at a path, and the skipped files with the reasons.

    The path is one of:

    - a folder with metadata.jsonl in the layout of Hugging Face's imagefolder, at any depth: one line
      ``{"file_name": "a.png", "text": "a cat"}`` for each image or caption; "text" may be a list, and "group" may hold
      a name; files may be links, as in the hub's cache;
    - a folder with a text file beside each image, of the same name; every line is a caption;
    - webdataset shards: a .tar, a folder of them, several (``train-{000..146}.tar``), or a URL, whose shards are copied
      to this machine; see :func:`lossmith.data.shards.locate.list_shards`.

    Raises:
        ValueError: The path does not exist, a URL cannot be read, or there is no image with a caption.
    """
    root = Path(path)
    if not root.exists() and not are_shards(path):
        raise ValueError(f"Images with captions: {str(path)!r} does not exist. Give a folder or a .tar.")
    skipped: list[SkippedFile] = []
    folders = list(walk_folders(root, skipped)) if root.is_dir() else []
    tables = sorted(folder / METADATA for folder, names in folders if METADATA in names)
    shards = [] if tables or not (root.is_file() or are_shards(path) or any(root.glob("*.tar"))) else list_shards(path)
    entries: Iterator[CaptionEntry | SkippedFile]
    if tables:
        entries = (entry for table in tables for entry in _read_table(table))
    elif shards:
        entries = (entry for tar in shards for entry in _read_shard_entries(tar))
    else:
        entries = _read_text_files(root, [folder / name for folder, names in folders for name in names])
    rows: list[CaptionEntry] = []
    for entry in entries:
        if isinstance(entry, CaptionEntry):
            rows.append(entry)
        else:
            skipped.append(entry)
    found = merge_rows(rows)
    if not found:
        first = f" First skipped: {skipped[0].file!r}: {skipped[0].reason}." if skipped else ""
        raise ValueError(
            f"{str(path)!r} has no image with a caption. Add a {METADATA} with lines such as "
            f'{{"file_name": "a.png", "text": "a cat"}}, a text file beside each image, or .tar shards.{first}'
        )
    return found, skipped


def merge_rows(entries: Iterable[CaptionEntry]) -> list[CaptionEntry]:
    """Return each image of each group once, with the captions of all its rows.

    Links of one file are one image; the name is that of the first row.
    """
    merged: dict[tuple[Hashable, str], CaptionEntry] = {}
    for entry in entries:
        first = merged.setdefault((entry.identity, entry.split_group), entry)
        captions = tuple(dict.fromkeys(first.captions + entry.captions))
        merged[entry.identity, entry.split_group] = first._replace(captions=captions)
    return list(merged.values())


def parse_captions(value: object) -> tuple[str, ...]:
    """Return the distinct captions in a string or a list of strings, with white space normalized.

    Raises:
        ValueError: There is no caption.
    """
    if value is None:
        raise ValueError("no caption")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("no caption: 'text' is not a string")
    captions = tuple(dict.fromkeys(clean for text in texts if (clean := " ".join(text.split()))))
    if not captions:
        raise ValueError("the caption is empty")
    return captions


def _read_table(table: Path) -> Iterator[CaptionEntry | SkippedFile]:
    listed: set[Path] = set()
    with table.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = _parse_json(line)
                file = table.parent / os.path.normpath(str(row.get("file_name", "")))
                listed.add(file)
                if not file.is_file():
                    raise ValueError(f"the image {row.get('file_name')!r} does not exist")
                if not file.is_relative_to(table.parent) or ".." in file.relative_to(table.parent).parts:
                    raise ValueError(f"{row.get('file_name')!r} is outside the folder")
                captions = parse_captions(row.get("text", row.get("caption")))
                yield CaptionEntry(str(file), file, captions, str(row.get("group", "")))
            except ValueError as error:
                yield SkippedFile(f"{table}, line {number}", str(error))
    for file in sorted(table.parent.iterdir()):
        if file.suffix.lower() in PILLOW_SUFFIXES and file not in listed and not file.name.startswith("."):
            yield SkippedFile(str(file), f"{METADATA} has no line for the image")


def _parse_json(text: bytes) -> dict[str, object]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise ValueError("the metadata is not a JSON object")
    return row


def _read_text_files(root: Path, visible: Sequence[Path]) -> Iterator[CaptionEntry | SkippedFile]:
    files = list_images(root)
    for file in files:
        text = file.with_suffix(".txt")
        try:
            if not text.is_file():
                raise ValueError(f"no caption: {text.name} does not exist")
            yield CaptionEntry(str(file), file, parse_captions(_decode(text.read_bytes()).splitlines()))
        except (ValueError, OSError) as error:
            yield SkippedFile(str(file), str(error))
    stems = {file.with_suffix("") for file in files}
    for text in sorted(file for file in visible if file.suffix == ".txt"):
        if text.with_suffix("") not in stems:
            yield SkippedFile(str(text), "the caption has no image of this name")


def _read_shard_entries(shard: str) -> Iterator[CaptionEntry | SkippedFile]:
    for sample in read_shard(shard, ShardStore()):
        name, texts = ":".join(filter(None, [shard, sample.name])), sample.texts
        try:
            _, image = find_member(sample)
            row = _parse_json(texts["json"].encode()) if "json" in texts else {}
            value = texts["txt"].splitlines() if "txt" in texts else row.get("text", row.get("caption"))
            yield CaptionEntry(name, image, parse_captions(value), str(row.get("group", "")))
        except ValueError as error:
            yield SkippedFile(name, str(error))


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("the caption is not UTF-8") from None
