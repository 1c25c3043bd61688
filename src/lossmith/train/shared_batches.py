"""Batches in shared memory that a data-loading process allocates once and writes again and again.

The loader of PyTorch allocates and maps shared memory for every tensor of every batch, and sends each mapping through a
socket, which takes longer than cutting the crops of a cached image.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

__all__ = ["SharedBatch", "SharedBatchReader", "SharedCollate"]

ALIGNMENT = 64
"""Bytes; tensors start at multiples, as those of PyTorch's allocator do."""


class Placement(NamedTuple):
    """The name, type, shape and first byte of a tensor of a batch in its memory."""

    name: str
    dtype: torch.dtype
    shape: torch.Size
    start: int

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return self.shape.numel() * self.dtype.itemsize

    def view(self, memory: Tensor) -> Tensor:
        """Return the tensor."""
        return memory[self.start : self.start + self.nbytes].view(self.dtype).view(self.shape)


@dataclass(frozen=True)
class SharedBatch:
    """A message about a batch in shared memory.

    Attributes:
        key: The process that wrote the batch, and the number of the memory.
        tensors: The tensors of the batch.
        memory: The memory, uint8, if it was allocated for this batch; otherwise None.
    """

    key: tuple[int, int]
    tensors: tuple[Placement, ...]
    memory: Tensor | None


class SharedCollate:
    """A function that collates samples in shared memory, for the data-loading processes of a loader.

    A process writes its batches into several memories in turn. A batch therefore has to be read, with
    :class:`SharedBatchReader`, before the loader returns the next one. Samples that are not tensors of equal shapes and
    types are collated by :func:`torch.utils.data.default_collate`.

    Args:
        prefetched: The batches that a process prepares in advance, ``prefetch_factor`` of the loader.
    """

    def __init__(self, prefetched: int) -> None:
        self.slots = prefetched + 1  # one is being read
        self.batches = 0
        self.memory: dict[int, Tensor] = {}

    def __call__(self, samples: list[dict[str, Any]]) -> SharedBatch | Any:
        """Return the message about a batch, or the batch."""
        kinds = [_tensor_kinds(sample) for sample in samples]
        if kinds[0] is None or kinds.count(kinds[0]) < len(kinds):
            return default_collate(samples)
        tensors, size = [], 0
        for name, (dtype, shape) in kinds[0].items():
            tensors.append(Placement(name, dtype, torch.Size((len(samples), *shape)), size))
            size += -(-tensors[-1].nbytes // ALIGNMENT) * ALIGNMENT
        slot = self.batches % self.slots
        self.batches += 1
        is_new = slot not in self.memory or len(self.memory[slot]) < size
        if is_new:
            self.memory[slot] = torch.empty(size, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        memory = self.memory[slot]
        for each in tensors:
            torch.stack([sample[each.name] for sample in samples], out=each.view(memory))
        return SharedBatch((os.getpid(), slot), tuple(tensors), memory if is_new else None)


class SharedBatchReader:
    """The memories of the batches of one iteration, in the process that reads them."""

    def __init__(self) -> None:
        self.memory: dict[tuple[int, int], Tensor] = {}

    def read(self, batch: SharedBatch, *, pin: bool) -> dict[str, Tensor]:
        """Return a copy of a batch.

        Args:
            batch: The message of :class:`SharedCollate`.
            pin: Whether the copy is in page-locked memory, from which an accelerator reads at once.
        """
        if batch.memory is not None:
            self.memory[batch.key] = batch.memory
        copy = Tensor.pin_memory if pin else Tensor.clone
        return {each.name: copy(each.view(self.memory[batch.key])) for each in batch.tensors}


def _tensor_kinds(sample: Any) -> dict[str, tuple[torch.dtype, torch.Size]] | None:
    """Return the types and shapes of a sample; None if something in it is not a tensor."""
    if not isinstance(sample, Mapping) or not all(isinstance(each, Tensor) for each in sample.values()):
        return None
    return {name: (each.dtype, each.shape) for name, each in sample.items()}
