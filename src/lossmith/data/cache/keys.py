"""The keys of decoded images: their source, its content, the samples that are wanted and the libraries that decode."""

import hashlib
import json
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from lossmith.data.formats.files import is_uncompressed
from lossmith.data.pixel_format import PixelFormat

__all__ = ["ArchiveMember", "decoder_versions", "hash_content", "hash_text", "is_hashed", "variant_of"]

DECODERS = ("pillow", "tifffile", "imagecodecs")
"""The libraries whose versions may change the samples of a decoded image."""


class ArchiveMember(Protocol):
    """An image inside another file, such as a member of a .tar."""

    @property
    def file(self) -> Path:
        """The file."""

    @property
    def start(self) -> int:
        """Offset of the first byte."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read_bytes(self) -> bytes:
        """Return the content."""


def hash_text(text: str) -> str:
    """Return a key for a text: 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def is_hashed(source: Path | ArchiveMember) -> bool:
    """Return whether the content of a source is hashed: a hash of an uncompressed file takes longer than decoding."""
    return not isinstance(source, Path) or not is_uncompressed(source)


def hash_content(source: Path | ArchiveMember) -> str:
    """Return the SHA-256 of an image's file; "" of a file that cannot be read, which its decoder reports."""
    try:
        if not isinstance(source, Path):
            return hashlib.sha256(source.read_bytes()).hexdigest()
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


@lru_cache(maxsize=64)
def variant_of(pixels: PixelFormat) -> str:
    """Return everything but the file on which the values of an image depend."""
    record = pixels.to_record()
    del record["window"]  # of displays only
    return json.dumps(record)


@cache
def decoder_versions() -> str:
    """Return the names and versions of the libraries that decode images."""
    found = []
    for name in DECODERS:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)
