"""Pairs in shards: an input and a target in each sample, ``7.input.png`` and ``7.target.png``."""

from typing import final

import numpy as np
from torch import Tensor

from lossmith.data.cache import current_cache
from lossmith.data.image_files import SkippedFile
from lossmith.data.paired import check_sizes, crop_pair
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.data.shards.archive import INPUT_ROLES, ShardSample, find_member
from lossmith.data.shards.sequence import Shards, ShardSequence, decode_member
from lossmith.data.stored_crops import StoredCrops
from lossmith.data.super_resolution import check_crop_size

__all__ = ["ShardedPairCrops"]


@final
class ShardedPairCrops(StoredCrops):
    """An endless sequence of random crops of the pairs in shards; see :class:`ShardSequence` for their order.

    Args:
        shards: The shards.
        size: Side of a target crop in pixels, a multiple of the scale.
        scale: Size of a target divided by the size of its input.
        pixels: The samples of inputs and targets.
        seed: Random seed.

    Raises:
        ValueError: The first shard has no usable sample, or the size is not a multiple of the scale.
    """

    def __init__(
        self,
        shards: Shards,
        size: int,
        *,
        scale: int = 1,
        pixels: PixelFormat = RGB_8BIT,
        seed: int = 0,
    ) -> None:
        check_crop_size(size, scale)
        self.size, self.scale, self.seed, self.pixels, self.cache = size, scale, seed, pixels, current_cache()
        self.sequence = ShardSequence(shards, self._read, seed=seed)

    def read_stored(self, index: int) -> dict[str, Tensor]:
        """Return an item with the integers of the files."""
        target, low = self.sequence[index]
        return crop_pair(target, low, self.size, self.scale, np.random.default_rng([self.seed, index]))

    def source(self, index: int) -> str:
        """Return the shard and the name of the sample from which a crop is cut."""
        return self.sequence.name(index)

    @property
    def skipped(self) -> list[SkippedFile]:
        """The shards and samples that could not be used so far, with the reasons."""
        return self.sequence.skipped

    def _read(self, sample: ShardSample) -> tuple[Tensor, Tensor]:
        members = find_member(sample), find_member(sample, INPUT_ROLES)
        target, low = (decode_member(*member, self.pixels, self.cache) for member in members)
        check_sizes(tuple(target.shape[1:]), tuple(low.shape[1:]), self.scale, self.size)
        return target, low
