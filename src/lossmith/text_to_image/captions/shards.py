"""Webdataset shards: uncompressed .tar files in which the members of one sample share a name."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["TarMember", "read_shard"]

SHARD_IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp")
TEXT_SUFFIXES = ("txt", "json")
MAX_TEXT_BYTES = 2**20
"""Longer texts are ignored."""
END_BLOCK = bytes(tarfile.BLOCKSIZE)
"""The block that ends an archive."""


class TarMember(NamedTuple):
    """The location of a file in an uncompressed archive, for random access.

    Args:
        file: The archive.
        start: Offset of the first byte.
        size: Number of bytes.
    """

    file: Path
    start: int
    size: int

    def read_bytes(self) -> bytes:
        """Return the content."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


def read_shard(file: Path) -> Iterator[tuple[str, TarMember | None, dict[str, str]]]:
    """Yield name, image and texts of each sample of a shard; the keys of the texts are "txt" and "json".

    An unusable sample has None as image and the reason under the key "". A truncated shard yields its complete samples
    and then itself with the reason: tarfile takes the end of a file between two members for the end of the archive.
    """
    samples: dict[str, tuple[list[TarMember], dict[str, str]]] = {}
    damage, length = "", file.stat().st_size
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                if not member.isreg() or not stem or suffix.lower() not in SHARD_IMAGE_SUFFIXES + TEXT_SUFFIXES:
                    continue
                images, texts = samples.setdefault(f"{folder}/{stem}" if folder else stem, ([], {}))
                if member.offset_data + member.size > length:
                    continue  # truncated; reported below
                if suffix.lower() in SHARD_IMAGE_SUFFIXES:
                    images.append(TarMember(file, member.offset_data, member.size))
                elif member.size <= MAX_TEXT_BYTES and (data := tar.extractfile(member)) is not None:
                    texts[suffix.lower()] = data.read().decode("utf-8-sig", errors="replace")
            if TarMember(file, tar.offset, len(END_BLOCK)).read_bytes() != END_BLOCK:
                damage = f"the archive is truncated or damaged from byte {tar.offset} on"
    except (tarfile.TarError, OSError) as error:
        with file.open("rb") as opened:
            is_gzip = opened.read(2) == b"\x1f\x8b"
        damage = (
            "the archive is compressed; decompress it to a plain .tar"
            if is_gzip
            else f"the archive is truncated or damaged: {error}"
        )
    for name, (images, texts) in samples.items():
        reason = "" if len(images) == 1 else "the sample has several images" if images else "the sample has no image"
        yield f"{file}:{name}", images[0] if not reason else None, {"": reason} if reason else texts
    if damage:
        yield str(file), None, {"": damage}
