"""The order of the training data: picture `index` of a run is a function of the seed and the index alone."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from lossmith.tasks import Items

__all__ = ["Batches", "Reading"]


class Batches(Sampler[list[int]]):
    """The endless row 0, 1, 2, ... in batches, from any batch on, each shared out among the devices.

    It has no length: a run ends at its last step and not with an epoch, so that it can go on from any step, on any
    number of devices, with the same pictures.

    Args:
        size: Pictures in a batch, over all devices together.
        start: The batch to begin with.
        rank: Which device this is.
        world: How many there are.

    Raises:
        ValueError: A batch cannot be shared out evenly.

    Example:
        >>> batches = iter(Batches(4, start=2, rank=1, world=2))
        >>> next(batches), next(batches)
        ([9, 11], [13, 15])
    """

    def __init__(self, size: int, *, start: int = 0, rank: int = 0, world: int = 1) -> None:
        if size % world:
            raise ValueError(
                f"A batch of {size} cannot be shared out evenly among {world} devices; take a multiple of {world}."
            )
        self.size, self.start, self.rank, self.world = size, start, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        first = self.start * self.size
        while True:
            yield list(range(first + self.rank, first + self.size, self.world))
            first += self.size


class Reading(Dataset[dict[str, Tensor]]):
    """Reads a batch of items on one thread: where threads are many, such small work waits for them most of the time.

    Args:
        items: What is read.
    """

    def __init__(self, items: Items) -> None:
        self.items = items

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return [self.items[index] for index in indices]
        finally:
            torch.set_num_threads(threads)
