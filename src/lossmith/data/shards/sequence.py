"""The samples of shards in a shuffled, endless order that resumes anywhere."""

import tempfile
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, final

import numpy as np
import torch
from torch import Tensor

from lossmith.data.cache import ImageCache, current_cache
from lossmith.data.image_files import SkippedFile, check_image_size, decode_image
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.data.shards.archive import ShardSample, TarMember, find_member, read_shard
from lossmith.data.shards.copies import ShardStore
from lossmith.data.shards.locate import is_url

__all__ = ["ShardSequence", "ShardedImages", "Shards", "decode_member"]

T = TypeVar("T")

SLOTS = 8
"""Shards that are read at a time: samples of as many shards are in one batch."""
HAS_PROBLEMS, UNREADABLE = 1, 2
"""The states of a shard that has a problem; one that could not be read is not tried again in the run."""
MAX_SKIPPED = 1024
"""Unusable samples that are remembered."""


class Shards(NamedTuple):
    """Shards to train on.

    Args:
        names: Their paths and URLs, see :func:`lossmith.data.shards.locate.list_shards`.
        held_out: Names of samples of the first shard that are left out.
    """

    names: Sequence[str]
    held_out: Collection[str] = ()


@final
class ShardSequence(Generic[T]):
    """An endless shuffled sequence of the samples of shards.

    Sample k is a function of the seed, k and the shards alone, so that a run resumes anywhere, with any number of
    processes. Of S slots, 8 or the largest power of two of fewer shards, slot k mod S gives sample k. A slot visits one
    shard at a time: it takes as many samples as the first shard has, in a random order, and continues with the next
    shard of a random order of all shards. If the number of devices divides S, each device reads the shards of its own
    slots alone.

    An unusable sample is replaced by the next one of its shard, an unreadable shard by the next shard.

    Args:
        shards: The shards.
        read: Returns what a sample holds. It raises ValueError, whose message is the reason, for an unusable sample.
        seed: Random seed of the order.

    Raises:
        ValueError: The first shard has no usable sample.
    """

    def __init__(self, shards: Shards, read: Callable[[ShardSample], T], *, seed: int) -> None:
        self.shards, self.held_out = list(shards.names), frozenset(shards.held_out)
        self.read, self.seed = read, seed
        self.slots = 1 << (min(SLOTS, len(self.shards)).bit_length() - 1)
        self.store = ShardStore()
        self._opened: dict[int, list[ShardSample]] = {}
        self._orders: dict[tuple[int, int], list[int]] = {}
        self._problems: dict[int, list[SkippedFile]] = {}
        # in shared memory, so that data-loading processes tell of shards with problems, and of unusable samples
        self._states = torch.zeros(len(self.shards), dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        self._damaged = torch.full((MAX_SKIPPED, 2), -1).share_memory_()  # type: ignore[no-untyped-call]
        self.length = len(self._open(0))

    def __getitem__(self, index: int) -> T:
        """Return what sample `index` holds.

        Raises:
            ValueError: No sample can be used.
        """
        return self._find(index)[2]

    def name(self, index: int) -> str:
        """Return the shard and the name of sample `index`."""
        shard, place, _ = self._find(index)
        return f"{self.shards[shard]}:{self._open(shard)[place].name}"

    @property
    def skipped(self) -> list[SkippedFile]:
        """The shards and samples that could not be used so far, with the reasons."""
        found = []
        for shard in self._states.nonzero().flatten().tolist():
            if shard not in self._problems:
                try:
                    self._examine(shard)
                except (ValueError, OSError) as error:
                    self._problems[shard] = [SkippedFile(self.shards[shard], str(error))]
            found += self._problems[shard]
        for shard, place in sorted({(shard, place) for shard, place in self._damaged.tolist() if shard >= 0}):
            name = f"place {place}"
            try:
                name = self._open(shard)[place].name
                self.read(self._open(shard)[place])  # a data-loading process shares only the place, not the reason
                reason = "the sample was temporarily unreadable"
            except (ValueError, OSError) as error:
                reason = str(error)
            found.append(SkippedFile(f"{self.shards[shard]}:{name}", reason))
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Leave the lists of samples out of what is sent to a data-loading process."""
        return self.__dict__ | {"_opened": {}, "_orders": {}}

    def _find(self, index: int) -> tuple[int, int, T]:
        """Return the shard of a sample, its place in the shard and what it holds."""
        turn, slot = divmod(index, self.slots)
        round_, step = divmod(turn, self.length)
        visit = round_ * self.slots + slot
        first = self._shard_of(visit)
        if step == 0 and is_url(self.shards[ahead := self._shard_of(visit + self.slots)]):
            threading.Thread(target=self._fetch_ahead, args=(ahead,), daemon=True).start()
        for shard in ((first + offset) % len(self.shards) for offset in range(len(self.shards))):
            if self._states[shard] == UNREADABLE:
                continue  # named by `skipped`
            try:
                samples = self._open(shard)
            except (ValueError, OSError):
                self._states[shard] = UNREADABLE
                continue
            order = self._permutation((visit, shard), len(samples))
            for offset in range(len(order)):
                place = order[(step + offset) % len(order)]
                try:
                    return shard, place, self.read(samples[place])
                except ValueError:
                    self._damaged[hash((shard, place)) % MAX_SKIPPED] = torch.tensor([shard, place])
        skipped = self.skipped
        raise ValueError(
            f"None of the {len(self.shards)} shards can be used; the first is {skipped[0].file!r}: {skipped[0].reason}."
        )

    def _shard_of(self, visit: int) -> int:
        """Return the shard of a visit: each number of shards in a row visits all of them, in a random order."""
        epoch, place = divmod(visit, len(self.shards))
        return self._permutation((epoch, -1), len(self.shards))[place]

    def _permutation(self, key: tuple[int, int], count: int) -> list[int]:
        if key not in self._orders:
            order = np.random.default_rng([self.seed, key[0], key[1] + 1]).permutation(count).tolist()
            _keep(self._orders, key, order, 4 * self.slots)
        return self._orders[key]

    def _open(self, shard: int) -> list[ShardSample]:
        """Return the usable samples of a shard.

        Raises:
            ValueError: The shard cannot be read, or has no usable sample.
        """
        if shard not in self._opened:
            samples = self._examine(shard)
            if not samples:
                problem = next((each.reason for each in self._problems[shard]), "all are held out")
                raise ValueError(f"The shard {self.shards[shard]!r} has no usable sample: {problem}.")
            _keep(self._opened, shard, samples, 2 * self.slots)
        return self._opened[shard]

    def _examine(self, shard: int) -> list[ShardSample]:
        """Return the samples of a shard that are not held out, and remember those with a problem."""
        samples: list[ShardSample] = []
        problems: list[SkippedFile] = []
        for sample in read_shard(self.shards[shard], self.store, texts=False):
            if sample.problem:
                problems.append(SkippedFile(":".join(filter(None, [self.shards[shard], sample.name])), sample.problem))
            elif shard or sample.name not in self.held_out:
                samples.append(sample)
        self._problems[shard] = problems
        if problems:
            self._states[shard] = max(int(self._states[shard]), HAS_PROBLEMS)
        return samples

    def _fetch_ahead(self, shard: int) -> None:
        with suppress(ValueError, OSError):  # reported when the shard is needed
            self.store.fetch(self.shards[shard])


def _keep(kept: dict[Any, Any], key: Any, value: Any, limit: int) -> None:
    """Add an entry, in place of the oldest one beyond a limit."""
    kept[key] = value
    while len(kept) > limit:
        del kept[next(iter(kept))]


@final
class ShardedImages:
    """The images of shards, decoded on demand and cached; see :class:`ShardSequence` for their order.

    Args:
        shards: The shards.
        min_size: Smallest side in pixels; smaller images are skipped.
        pixels: The samples of the images.
        seed: Random seed of the order.

    Raises:
        ValueError: The first shard has no usable sample.
    """

    def __init__(self, shards: Shards, *, min_size: int = 1, pixels: PixelFormat = RGB_8BIT, seed: int = 0) -> None:
        self.min_size, self.pixels, self.cache = min_size, pixels, current_cache()
        self.sequence = ShardSequence(shards, self._read, seed=seed)

    def draw(self, index: int, rng: np.random.Generator) -> Tensor:
        """Return the image of sample `index`, (C, H, W), which must not be changed; the generator is not used."""
        return self.sequence[index]

    def source(self, index: int, rng: np.random.Generator) -> str:
        """Return the shard and the name of the image of sample `index`."""
        return self.sequence.name(index)

    @property
    def skipped(self) -> list[SkippedFile]:
        """The shards and samples that could not be used so far, with the reasons."""
        return self.sequence.skipped

    def _read(self, sample: ShardSample) -> Tensor:
        image = decode_member(*find_member(sample), self.pixels, self.cache)
        check_image_size(image.shape[1], image.shape[2], self.min_size)
        return image


def decode_member(suffix: str, member: TarMember, pixels: PixelFormat, cache: ImageCache) -> Tensor:
    """Return the values of an image in a shard, see :func:`lossmith.data.decode_image`; they must not be changed.

    Args:
        suffix: The name of the member after its first dot, such as ``png``.
        member: The member.
        pixels: The samples of the image.
        cache: The cache of decoded images.

    Raises:
        ValueError: The image cannot be decoded; the message is the reason.
    """

    def decode() -> Tensor:
        try:
            data = member.read_bytes()
        except OSError as error:
            raise ValueError((error.strerror or str(error)).lower()) from error
        with tempfile.NamedTemporaryFile(prefix="lossmith-", suffix=f".{suffix}", delete=False) as file:
            file.write(data)  # some decoders read files only
        try:
            return decode_image(Path(file.name), pixels)
        finally:
            Path(file.name).unlink()

    return cache.load(member, decode, f"image {pixels!r}")
