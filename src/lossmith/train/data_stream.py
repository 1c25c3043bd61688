"""The order of the training data: sample `index` of a run depends only on the seed and the index."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from lossmith.tasks import TrainingSet

__all__ = ["EndlessBatchSampler", "SingleThreadedDataset"]


class EndlessBatchSampler(Sampler[list[int]]):
    """A sampler of the endless sequence 0, 1, 2, ... in batches, from any batch on, divided among the devices.

    The sampler has no length: a run ends at its last step, not with an epoch. A run therefore resumes from any step,
    on any number of devices, with the same samples.

    Args:
        size: Samples in a batch, over all devices.
        start: The first batch.
        rank: The rank of this device.
        world: The number of devices.

    Raises:
        ValueError: The batch size is not divisible by the number of devices.

    Example:
        >>> batches = iter(EndlessBatchSampler(4, start=2, rank=1, world=2))
        >>> next(batches), next(batches)
        ([9, 11], [13, 15])
    """

    def __init__(self, size: int, *, start: int = 0, rank: int = 0, world: int = 1) -> None:
        if size % world:
            raise ValueError(
                f"The batch size must be divisible by the number of devices; got {size} and {world}. "
                f"Use a multiple of {world}."
            )
        self.size, self.start, self.rank, self.world = size, start, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        first = self.start * self.size
        while True:
            yield list(range(first + self.rank, first + self.size, self.world))
            first += self.size


class SingleThreadedDataset(Dataset[dict[str, Tensor]]):
    """A dataset that loads each batch on one thread: waiting for many threads takes longer than such small work.

    Args:
        items: The training set.
    """

    def __init__(self, items: TrainingSet) -> None:
        self.items = items

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return [self.items[index] for index in indices]
        finally:
            torch.set_num_threads(threads)
