"""Webdataset shards: .tar files in which the members of one sample share a name; read in any order, not unpacked."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Part", "shard"]

PICTURES = ("png", "jpg", "jpeg", "webp")
TEXTS = ("txt", "json")
LONGEST = 2**20
"""No caption is longer, in bytes."""
END = bytes(tarfile.BLOCKSIZE)
"""What an archive ends with, at least once."""


class Part(NamedTuple):
    """A member of a shard: where its bytes are, so that no other has to be read before it.

    Args:
        file: The shard.
        start: Its first byte there.
        size: How many there are.
    """

    file: Path
    start: int
    size: int

    def read_bytes(self) -> bytes:
        """The bytes."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


def shard(file: Path) -> Iterator[tuple[str, Part | None, dict[str, str]]]:
    """The samples of a shard: each one's name, its picture, and its texts by the ending, "txt" or "json".

    One that cannot be used has no picture, and says why under "". A shard that ends in the middle gives what is before,
    and then itself, with the reason: tarfile takes the end of a file between two members for the end of the archive.
    """
    samples: dict[str, tuple[list[Part], dict[str, str]]] = {}
    broken, length = "", file.stat().st_size
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                if not member.isreg() or not stem or ending.lower() not in PICTURES + TEXTS:
                    continue
                parts, texts = samples.setdefault(f"{folder}/{stem}" if folder else stem, ([], {}))
                if member.offset_data + member.size > length:
                    continue  # cut off; the next step says so
                if ending.lower() in PICTURES:
                    parts.append(Part(file, member.offset_data, member.size))
                elif member.size <= LONGEST and (data := tar.extractfile(member)) is not None:
                    texts[ending.lower()] = data.read().decode("utf-8-sig", errors="replace")
            if Part(file, tar.offset, len(END)).read_bytes() != END:
                broken = f"it cannot be read to its end: from byte {tar.offset} on it is no archive, or cut off"
    except (tarfile.TarError, OSError) as error:
        with file.open("rb") as start:
            packed = start.read(2) == b"\x1f\x8b"
        broken = "it is compressed; unpack it to a plain .tar" if packed else f"it cannot be read to its end: {error}"
    for name, (parts, texts) in samples.items():
        reason = "" if len(parts) == 1 else "it has several pictures" if parts else "it has no picture"
        yield f"{file}:{name}", parts[0] if not reason else None, {"": reason} if reason else texts
    if broken:
        yield str(file), None, {"": broken}
