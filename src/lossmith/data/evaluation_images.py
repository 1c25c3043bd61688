"""Evaluation images: read ahead of their use by threads, and kept so that nothing is read or degraded twice."""

import itertools
import math
import os
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar, cast, final

import numpy as np
import torch
from torch import Tensor

from lossmith.data.example import Example
from lossmith.data.image_files import SkippedFile, raise_no_usable_images
from lossmith.device import count_cores
from lossmith.image import to_float

__all__ = ["EvaluationImages", "KeptExamples", "read_ahead"]

T = TypeVar("T")

MAX_THREADS = 4
"""Threads that read images: more of them would only hold more images in memory."""


class EvaluationImages(ABC):
    """A finite sequence of examples; threads read the next ones, and unusable ones are skipped and listed.

    Args:
        files: The name of each example in messages, the path of its file.
        unusable: Files that are known to be unusable.

    Raises:
        ValueError: During iteration, no example can be used.
    """

    def __init__(self, files: Sequence[str], unusable: Iterable[SkippedFile] = ()) -> None:
        self._files, self._unusable = list(files), list(unusable)
        self.skipped: list[SkippedFile] = list(self._unusable)

    @abstractmethod
    def read(self, index: int) -> Example:
        """Return an example, which depends on its index alone; several threads call this method.

        Raises:
            ValueError: The example cannot be used; the message is the reason.
        """

    def __len__(self) -> int:
        """Return the number of examples, unusable ones included."""
        return len(self._files)

    def __iter__(self) -> Iterator[Example]:
        self.skipped = list(self._unusable)
        for file, reading in zip(self._files, read_ahead(self.read, len(self)), strict=True):
            try:
                example = reading.result()
            except ValueError as error:
                self.skipped.append(SkippedFile(file, str(error)))
            else:
                yield example
        damaged = self.skipped[len(self._unusable) :]
        if len(damaged) == len(self):
            raise_no_usable_images(len(damaged), damaged)


def read_ahead(read: Callable[[int], T], count: int, threads: int | None = None) -> Iterator[Future[T]]:
    """Yield the results of ``read(0)``, ``read(1)``, ... in this order, while threads compute the next ones.

    Each thread computes on one core, so that a result does not depend on the number of cores.

    Args:
        read: The function.
        count: The number of calls.
        threads: The number of threads; None for half of the cores, at most 4.

    Example:
        >>> [each.result() for each in read_ahead(lambda index: index**2, 4)]
        [0, 1, 4, 9]
    """
    threads = threads or max(1, min(MAX_THREADS, count_cores() // 2))
    pool, waiting = ThreadPoolExecutor(threads, thread_name_prefix="read_ahead"), deque[Future[T]]()
    try:
        for index in range(count + threads):
            if index < count:
                waiting.append(pool.submit(_on_one_core, read, index))
            if index >= threads:
                yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def _on_one_core(read: Callable[[int], T], index: int) -> T:
    cores = torch.get_num_threads()
    torch.set_num_threads(1)  # of this thread; new threads begin with the last number that was set
    try:
        return read(index)
    finally:
        torch.set_num_threads(cores)


class _Examples(Protocol):
    """The part of :class:`lossmith.tasks.EvaluationSet` that is needed here."""

    def __iter__(self) -> Iterator[Example]: ...

    def __len__(self) -> int: ...

    @property
    def skipped(self) -> list[SkippedFile]: ...


class _Place(NamedTuple):
    """The place of a tensor in the file of kept tensors; `is_stored` says whether bytes stand for values in [0, 1]."""

    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_stored: bool


@final
class KeptExamples:
    """An evaluation set whose examples are read and degraded once, and then read from a temporary file.

    Images of 8 bits take one byte a sample there; every value is kept exactly. The file disappears with the process. If
    the disk is full, the examples are read and degraded in each iteration.

    Args:
        examples: The evaluation set.
    """

    def __init__(self, examples: _Examples) -> None:
        self.examples = examples
        self._file: BinaryIO | None = None
        self._kept: list[tuple[str, dict[str, _Place]]] = []
        self._rest: Iterator[Example] | None = None
        """The examples that no iteration has reached."""
        self._is_full = False

    def __len__(self) -> int:
        """Return the number of examples, unusable ones included."""
        return len(self.examples)

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that could not be used so far."""
        return self.examples.skipped

    def __iter__(self) -> Iterator[Example]:
        if self._is_full:
            yield from self.examples
            return
        if self._rest is None:
            self._rest = iter(self.examples)
        for index in itertools.count():
            if index < len(self._kept):
                name, places = self._kept[index]
                yield Example(name, {key: self._load(place) for key, place in places.items()})
                continue
            if (example := next(self._rest, None)) is None:
                return
            try:
                self._kept.append((example.name, {key: self._store(each) for key, each in example.batch.items()}))
            except OSError:
                self._is_full, self._file = True, None
                yield example
                yield from self._rest
                return
            yield example

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a new object, since the file belongs to this process."""
        return KeptExamples(self.examples).__dict__

    def _store(self, tensor: Tensor) -> _Place:
        host = tensor.cpu()
        stored = _as_bytes(host)
        values = (host if stored is None else stored).contiguous().numpy()
        if self._file is None:
            self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="lossmith-"))  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        place = _Place(self._file.seek(0, os.SEEK_END), values.dtype, values.shape, stored is not None)
        self._file.write(values.tobytes())
        self._file.flush()
        return place

    def _load(self, place: _Place) -> Tensor:
        assert self._file is not None
        self._file.seek(place.start)
        values = np.frombuffer(bytearray(self._file.read(math.prod(place.shape) * place.dtype.itemsize)), place.dtype)
        tensor = torch.from_numpy(values.reshape(place.shape))
        return to_float(tensor) if place.is_stored else tensor


def _as_bytes(tensor: Tensor) -> Tensor | None:
    """Return floats as bytes that stand for exactly these values; None if there are no such bytes."""
    if tensor.dtype != torch.float32:
        return None
    stored = (tensor * 255).round().nan_to_num().clamp(0, 255).to(torch.uint8)
    return stored if torch.equal(to_float(stored), tensor) else None
