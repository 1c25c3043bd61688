"""Webdataset shards: uncompressed .tar files in which the members of one sample share a name."""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lossmith.data.formats.files import IMAGE_SUFFIXES
from lossmith.data.shards.copies import ShardStore
from lossmith.data.shards.locate import is_url

__all__ = ["INPUT_ROLES", "TARGET_ROLES", "ShardSample", "TarMember", "find_member", "read_shard"]

TARGET_ROLES = ("", "target", "gt", "hr")
"""The names of an image, or of the target of a pair: ``7.png``, ``7.target.png``."""
INPUT_ROLES = ("input", "lq", "lr")
"""The names of the input of a pair: ``7.input.png``."""
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
        url: The URL of which the archive is a copy; "" for other archives.
    """

    file: Path
    start: int
    size: int
    url: str = ""

    def read_bytes(self) -> bytes:
        """Return the content; a copy of an archive that has been removed is copied again."""
        if self.url and not self.file.is_file():
            ShardStore(self.file.parent).fetch(self.url)
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


class ShardSample(NamedTuple):
    """The members of a shard that share a name up to the first dot.

    Args:
        name: The name, with the folders in the archive.
        images: The image files by the rest of their names in lower case, such as ``png`` or ``input.png``.
        texts: The texts, by ``txt`` and ``json``.
        problem: Why the sample, or the shard if the name is "", cannot be used; otherwise "".
    """

    name: str
    images: dict[str, TarMember]
    texts: dict[str, str]
    problem: str = ""


def read_shard(shard: str | Path, store: ShardStore, *, texts: bool = True) -> Iterator[ShardSample]:
    """Yield the samples of a shard, and last the problem of the shard itself, if it has one.

    A truncated shard yields its complete samples: tarfile takes the end of a file between two members for the end of
    the archive.

    Args:
        shard: The path or URL of the shard.
        store: Copies the shard from its URL.
        texts: Whether to read the texts.

    Raises:
        ValueError: The shard cannot be copied from its URL.
        OSError: The copy cannot be written.
    """
    file, url = store.fetch(str(shard)), str(shard) if is_url(str(shard)) else ""
    samples: dict[str, ShardSample] = {}
    damage = ""
    try:
        length = file.stat().st_size
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                located = TarMember(file, member.offset_data, member.size, url)
                _add_member(samples, located, tar, member, length, texts=texts)
            if TarMember(file, tar.offset, len(END_BLOCK)).read_bytes() != END_BLOCK:
                damage = f"the archive is truncated or damaged from byte {tar.offset} on"
    except (tarfile.TarError, OSError) as error:
        damage = _explain_damage(file, error)
    yield from samples.values()
    if not damage and not samples:
        damage = "the archive contains no samples"
    if damage:
        yield ShardSample("", {}, {}, damage)


def _add_member(
    samples: dict[str, ShardSample],
    located: TarMember,
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    length: int,
    *,
    texts: bool,
) -> None:
    """Add a member of a file of `length` bytes to its sample; one that is cut off adds a sample without it."""
    folder, _, base = member.name.rpartition("/")
    stem, _, suffix = base.partition(".")
    suffix = suffix.lower()
    is_image = f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES
    if not member.isreg() or not stem or not (is_image or suffix in TEXT_SUFFIXES):
        return
    name = f"{folder}/{stem}" if folder else stem
    sample = samples.setdefault(name, ShardSample(name, {}, {}))
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
        samples[name] = sample._replace(problem="its name leads out of the archive")
    elif suffix in (sample.images if is_image else sample.texts):
        samples[name] = sample._replace(problem=f"the archive has several files {member.name!r}")
    elif member.offset_data + member.size > length:
        return  # truncated, which the shard reports
    elif is_image:
        sample.images[suffix] = located
    elif texts and member.size <= MAX_TEXT_BYTES and (data := tar.extractfile(member)) is not None:
        sample.texts[suffix] = data.read().decode("utf-8-sig", errors="replace")


def _explain_damage(file: Path, error: Exception) -> str:
    try:
        with file.open("rb") as opened:
            if opened.read(2) == b"\x1f\x8b":
                return "the archive is compressed; decompress it to a plain .tar"
    except OSError as unreadable:
        return f"the archive cannot be read: {(unreadable.strerror or str(unreadable)).lower()}"
    return f"the archive is truncated or damaged: {error}"


def find_member(sample: ShardSample, roles: Sequence[str] = TARGET_ROLES) -> tuple[str, TarMember]:
    """Return the suffix and the member of the image that has one of some roles, such as "input" in ``7.input.png``.

    Args:
        sample: The sample.
        roles: :data:`TARGET_ROLES` or :data:`INPUT_ROLES`.

    Raises:
        ValueError: There is no such image, or there are several; the message is the reason.
    """
    if sample.problem:
        raise ValueError(sample.problem)
    found = [(suffix, member) for suffix, member in sample.images.items() if suffix.rpartition(".")[0] in roles]
    images = [each for each in found if not each[0].endswith("npy")]  # arrays beside images often hold features of them
    found = images or found
    if len(found) != 1:
        kind = "image" if "" in roles else f"{roles[0]} image"
        raise ValueError(f"the sample has several {kind}s" if found else f"the sample has no {kind}")
    return found[0]
