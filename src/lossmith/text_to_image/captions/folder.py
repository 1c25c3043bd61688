"""Which pictures of a folder have which captions: metadata.jsonl, a text beside each picture, or shards."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lossmith.data.folders import ENDINGS, Skipped, listed
from lossmith.text_to_image.captions.shards import Part, shard

__all__ = ["Entry", "captions_in", "entries"]

METADATA = "metadata.jsonl"


class Entry(NamedTuple):
    """A picture and what it shows.

    Args:
        name: What messages call it.
        source: The file, or the part of a shard.
        captions: Ways to say what it shows.
        group: What it belongs to: pictures of one group stand on one side of a split. "" for none.
    """

    name: str
    source: Path | Part
    captions: tuple[str, ...]
    group: str = ""


def entries(where: str | Path) -> tuple[list[Entry], list[Skipped]]:
    """The pictures with captions in a place, and what cannot be used there, and why.

    A place is a folder with a metadata.jsonl as Hugging Face's imagefolder has it (``{"file_name": "a.png", "text":
    "a cat"}``, one a line; "text" may be a list, and "group" a name), in it or in folders below; or a folder in which
    a text file of the same name lies beside each picture, every line of it a caption; or webdataset shards, which are
    .tar files, one or a folder of them.

    Raises:
        ValueError: There is no such place, or no picture with a caption in it.
    """
    root = Path(where)
    if not root.exists():
        raise ValueError(f"Pictures with captions are wanted; {str(where)!r} does not exist. Give a folder or a .tar.")
    found: list[Entry] = []
    skipped: list[Skipped] = []
    tables = sorted(root.rglob(METADATA)) if root.is_dir() else []
    tars = [root] if root.is_file() else sorted(root.glob("*.tar"))
    read: Iterator[Entry | Skipped]
    if tables:
        read = (each for table in tables for each in _from_table(table))
    elif tars:
        read = (each for tar in tars for each in _from_shard(tar))
    else:
        read = _beside(root)
    for each in read:
        if isinstance(each, Entry):
            found.append(each)
        else:
            skipped.append(each)
    if not found:
        first = f" The first: {skipped[0].file!r}: {skipped[0].why}." if skipped else ""
        raise ValueError(
            f"{str(where)!r} holds no picture with a caption. Put a {METADATA} there with lines such as "
            f'{{"file_name": "a.png", "text": "a cat"}}, a text file beside each picture, or .tar shards.{first}'
        )
    return found, skipped


def captions_in(value: object) -> tuple[str, ...]:
    """The captions that a text or a list of texts holds, without blanks around or in the middle of them.

    Raises:
        ValueError: It holds none.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError("it has no caption: no text under 'text'")
    found = tuple(dict.fromkeys(clean for text in texts if (clean := " ".join(text.split()))))
    if not found:
        raise ValueError("its caption is empty")
    return found


def _from_table(table: Path) -> Iterator[Entry | Skipped]:
    named: set[Path] = set()
    with table.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            name = f"{table}, line {number}"
            try:
                row = _row(line)
                file = table.parent / str(row.get("file_name", ""))
                named.add(file)
                if not file.is_file():
                    raise ValueError(f"there is no picture {row.get('file_name')!r}")
                if not file.resolve().is_relative_to(table.parent.resolve()):
                    raise ValueError(f"{row.get('file_name')!r} leads out of the folder")
                yield Entry(
                    str(file), file, captions_in(row.get("text", row.get("caption"))), str(row.get("group", ""))
                )
            except ValueError as error:
                yield Skipped(name, str(error))
    for file in sorted(table.parent.iterdir()):
        if file.suffix.lower() in ENDINGS and file not in named and not file.name.startswith("."):
            yield Skipped(str(file), f"{METADATA} has no line for it")


def _row(text: bytes) -> dict[str, object]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise ValueError("it is no JSON object")
    return row


def _beside(root: Path) -> Iterator[Entry | Skipped]:
    files = listed(root)
    for file in files:
        text = file.with_suffix(".txt")
        try:
            if not text.is_file():
                raise ValueError(f"it has no caption: there is no {text.name}")
            yield Entry(str(file), file, captions_in(_decoded(text.read_bytes()).splitlines()))
        except (ValueError, OSError) as error:
            yield Skipped(str(file), str(error))
    pictured = {file.with_suffix("") for file in files}
    for text in sorted(root.rglob("*.txt")):
        if text.with_suffix("") not in pictured:
            yield Skipped(str(text), "there is no picture of this name")


def _from_shard(tar: Path) -> Iterator[Entry | Skipped]:
    for name, picture, texts in shard(tar):
        if picture is None:
            yield Skipped(name, texts.get("", "it has no picture"))
            continue
        try:
            row = _row(texts["json"].encode()) if "json" in texts else {}
            value = texts["txt"].splitlines() if "txt" in texts else row.get("text", row.get("caption"))
            yield Entry(name, picture, captions_in(value), str(row.get("group", "")))
        except ValueError as error:
            yield Skipped(name, str(error))


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("its caption is no UTF-8 text") from None
