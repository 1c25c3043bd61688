"""The order of the training data: sample `index` of a run depends only on the seed and the index."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lossmith.data.cache import ImageCache
from lossmith.data.stored_crops import StoredCrops
from lossmith.device import count_cores
from lossmith.image import convert_stored
from lossmith.tasks import TrainingSet
from lossmith.train.shared_batches import SharedBatch, SharedBatchReader, SharedCollate

__all__ = ["EndlessBatchSampler", "SingleThreadedDataset", "TimedLoader", "choose_workers", "suggest_cure"]

PROBED_SAMPLES = 3
SLOW_SAMPLE_SECONDS = 0.02
"""A sample that takes longer was decoded from a large image: a crop of a decoded image takes less than 1 ms."""
MAX_WORKERS = 8
"""Largest default number of data-loading processes; each takes about 0.2 GB of memory of its own."""


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
        items: The training set. Of :class:`lossmith.data.stored_crops.StoredCrops`, images keep the integers of their
            files, which :class:`TimedLoader` converts.
    """

    def __init__(self, items: TrainingSet) -> None:
        self.items = items

    def __getitems__(self, indices: list[int]) -> list[dict[str, Tensor]]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            if not isinstance(self.items, StoredCrops):
                return [self.items[index] for index in indices]
            samples = [self.items.read_stored(index) for index in indices]
            types = [{name: each.dtype for name, each in sample.items()} for sample in samples]
            return samples if types.count(types[0]) == len(types) else [convert_stored(each) for each in samples]
        finally:
            torch.set_num_threads(threads)


class TimedLoader(DataLoader[Any]):
    """A loader that converts stored images on the device, and measures how long a training waits for its batches.

    While an accelerator still computes, no time counts as waiting.

    Args:
        items: The training set.
        device: The device of the training.
        options: Further arguments of :class:`torch.utils.data.DataLoader`, without `persistent_workers`: every
            iteration has data-loading processes of its own, which send their batches in shared memory.

    Attributes:
        waited: The seconds so far.
    """

    def __init__(self, items: TrainingSet, device: torch.device, **options: Any) -> None:
        super().__init__(SingleThreadedDataset(items), **options)
        if self.prefetch_factor:
            self.collate_fn = SharedCollate(self.prefetch_factor)
        self.items, self.device, self.waited = items, device, 0.0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches."""
        batches, shared = super().__iter__(), SharedBatchReader()
        while True:
            work: Any = torch.cuda.Event() if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
            if work is not None:
                work.record(torch.cuda.current_stream(self.device))
            start = time.monotonic()
            batch = next(batches, None)
            if work is None or work.query():
                self.waited += time.monotonic() - start
            if batch is None:
                return
            if isinstance(batch, SharedBatch):
                batch = shared.read(batch, pin=self.device.type == "cuda")
            yield self._convert(batch) if isinstance(self.items, StoredCrops) else batch

    def _convert(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.device.type == "cuda":  # others may lack uint16
            batch = {name: each.to(self.device, non_blocking=True) for name, each in batch.items()}
        return convert_stored(batch)


def suggest_cure(workers: int, cache: ImageCache) -> str:
    """Return what makes a training wait less for its data.

    Args:
        workers: The number of data-loading processes.
        cache: The cache of decoded images.
    """
    if cache.is_incomplete:
        if cache.folder is None:
            return "Omit --no-cache, so that every image is decoded once; in Python, pass cache=ImageCache(folder)."
        return "Not all decoded images have room: raise --cache-size, free disk space, or choose another --cache."
    if workers < (cores := count_cores()) - 1:
        more = min(2 * workers + 1, cores)
        return f"The first pass decodes every image once; if later passes wait too, use --workers {more}."
    return "All cores prepare data: the degradation is the bottleneck; use a machine with more cores per device."


def choose_workers(items: TrainingSet, device: str, *, start: int = 0, devices: int = 1) -> int:
    """Return the default number of data-loading processes for each device.

    With an accelerator, one for each CPU core but one, up to eight. On a CPU, where they share the cores with the
    training, none, or one for every four cores if some samples are slow, as those of large images that have to be
    decoded.

    Args:
        items: The training set, of which some samples are loaded if the device is a CPU.
        device: The type of the device.
        start: The first sample of the training; later ones are loaded for the decision.
        devices: The number of devices that share the cores.
    """
    cores = count_cores() // devices
    if device != "cpu":
        return min(max(cores - 1, 1), MAX_WORKERS)
    if cores < 2:
        return 0
    begin = time.monotonic()
    for k in range(1, PROBED_SAMPLES + 1):
        items[start + 1000 * k]
    is_slow = time.monotonic() - begin > PROBED_SAMPLES * SLOW_SAMPLE_SECONDS
    return min(max(cores // 4, 1), MAX_WORKERS) if is_slow else 0
