"""Samples of shards as image files in a temporary folder, for evaluations and for a look at their format."""

import atexit
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lossmith.data.file_paths import TemporaryCopies
from lossmith.data.image_files import SkippedFile
from lossmith.data.image_listing import ImageFiles, list_images
from lossmith.data.pixel_format import PixelFormat
from lossmith.data.pixel_statistics import describe_samples
from lossmith.data.shards.archive import INPUT_ROLES, TARGET_ROLES, TarMember, find_member, read_shard
from lossmith.data.shards.copies import ShardStore
from lossmith.data.shards.locate import are_shards, list_shards

__all__ = ["UnpackedSamples", "describe_clips", "hold_out_samples", "list_some_images", "unpack_samples"]

PROBED = 64
"""Samples of the first shard whose format stands for all."""


class UnpackedSamples(NamedTuple):
    """Samples as files, which disappear with the process.

    Args:
        targets: The files of the images, or of the targets; those that cannot be used are listed as skipped.
        inputs: The folder of the inputs, under the same names.
        names: The names of the samples.
    """

    targets: ImageFiles
    inputs: Path
    names: list[str]


@cache
def unpack_samples(source: str, limit: int | None = None, *, pairs: bool = False) -> UnpackedSamples:
    """Write samples of shards to a temporary folder, once in a process.

    Args:
        source: The shards, see :func:`lossmith.data.shards.locate.list_shards`.
        limit: Largest number of samples, evenly spaced over all shards. None unpacks all.
        pairs: Whether a sample holds an input and a target.

    Raises:
        ValueError: A shard cannot be read, or no sample can be used; the message names the first problem.
        OSError: The files cannot be written.
    """
    return _unpack(list_shards(source), source, limit, pairs=pairs)


@cache
def hold_out_samples(source: str, limit: int, *, pairs: bool = False) -> UnpackedSamples:
    """Write some samples of the first shard to a temporary folder: one in ten, at most `limit`; of a single one none.

    Raises:
        ValueError: The shard cannot be read, or has no usable sample.
        OSError: The files cannot be written.
    """
    return _unpack(list_shards(source)[:1], source, limit, pairs=pairs, is_held_out=True)


def list_some_images(source: str | Path) -> ImageFiles:
    """Return all images of a folder, or some images of the first shard, in a temporary folder.

    Raises:
        ValueError: The folder or the shard has no image.
    """
    if not are_shards(source):
        return list_images(source)
    return _unpack_some(str(source)).targets


def describe_clips(source: str | Path, pixels: PixelFormat) -> list[str]:
    """Return lines on the samples of a folder or of shards that are clipped to a stated range, or have no data."""
    return [] if pixels.keeps_samples else describe_samples(list_some_images(source), pixels)


@cache
def _unpack_some(source: str) -> UnpackedSamples:
    return _unpack(list_shards(source)[:1], source, PROBED)


def _unpack(
    shards: Sequence[str], source: str, limit: int | None, *, pairs: bool = False, is_held_out: bool = False
) -> UnpackedSamples:
    """Write evenly spaced usable samples as files, each in the folder of its shard if there are several shards."""
    usable: list[tuple[str, str, str, list[tuple[str, TarMember]]]] = []
    skipped: list[SkippedFile] = []
    store = ShardStore()
    for index, shard in enumerate(shards):
        folder = f"{index:05d}-{Path(shard).stem}/" if len(shards) > 1 else ""
        for sample in read_shard(shard, store, texts=False):
            try:
                members = [find_member(sample, roles) for roles in (TARGET_ROLES, INPUT_ROLES)[: 1 + pairs]]
                usable.append((shard, folder, sample.name, members))
            except ValueError as error:
                skipped.append(SkippedFile(":".join(filter(None, [shard, sample.name])), str(error)))
    if not usable:
        raise ValueError(f"{source!r} has no usable sample; the first is {skipped[0].file!r}: {skipped[0].reason}.")
    count = len(usable) if limit is None else min(limit, len(usable))
    if is_held_out:
        count = 0 if len(usable) < 2 else min(count, max(1, len(usable) // 10))
    chosen = [usable[(2 * place + 1) * len(usable) // (2 * count)] for place in range(count)]
    top = tempfile.TemporaryDirectory(prefix="lossmith-shards-")
    atexit.register(top.cleanup)
    roots = [Path(top.name) / kind for kind in ("targets", "inputs")]
    files = []
    for shard, folder, name, members in chosen:
        for root, (suffix, member) in zip(roots, members, strict=False):
            file = root / f"{folder}{name}.{suffix.rpartition('.')[2]}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(member.read_bytes())
            TemporaryCopies.add(file, f"{shard}:{name}")
            files += [file] if root == roots[0] else []
    return UnpackedSamples(ImageFiles(files, roots[0], skipped), roots[1], [name for _, _, name, _ in chosen])
