"""The means of a loss's terms over the images, micro-batches and processes of a step."""

from collections.abc import Collection, Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from lossmith.device import widest_float

__all__ = ["TermMeans"]


@final
class TermMeans:
    """The sums of each term over its finite images, kept on the device.

    Args:
        names: The names of all terms.
        lazy: The names of terms that act in some steps; in a step in which one rests, its last step counts.
    """

    def __init__(self, names: Sequence[str], lazy: Collection[str] = ()) -> None:
        self.names = tuple(names)
        self.lazy = frozenset(lazy)
        self.evaluated: tuple[str, ...] = self.names
        """The terms that were evaluated in the last micro-batch."""
        self.total = 0.0
        """The minimized scalar, averaged over the micro-batches and processes that :meth:`read` was given."""
        self.count = 0
        """The number of micro-batches."""
        self.device = torch.device("cpu")
        """The device of the sums."""
        self._sums = torch.zeros(0)
        self._last: dict[str, tuple[Tensor, Tensor]] = {}  # sums and counts of the lazy terms

    def clear(self) -> None:
        """Begin a new step."""
        self.count = 0

    def add(self, values: Mapping[str, Tensor], nonfinite: Mapping[str, Tensor], total: Tensor) -> None:
        """Add a micro-batch.

        Args:
            values: The terms (N,), zero for images with a non-finite value.
            nonfinite: Whether each image has a non-finite value, (N,), by term.
            total: The minimized scalar.
        """
        wide, zero = widest_float(total.device), torch.zeros((), device=total.device)
        pairs = {
            name: (value.detach().sum(), (~nonfinite[name]).sum() if name in nonfinite else zero)
            for name, value in values.items()
        }
        for name in self.lazy & pairs.keys():
            last = self._last[name] if self.count else (zero, zero)
            self._last[name] = (last[0] + pairs[name][0], last[1] + pairs[name][1])
        pairs |= self._last
        sums, counts = ([pairs[name][i] if name in pairs else zero for name in self.names] for i in (0, 1))
        new = torch.stack([*sums, *counts, total.detach()]).to(wide)
        is_lazy = [name in self.lazy for name in self.names] * 2 + [False]
        self._sums = self._add_micro_batch(new, is_lazy) if self.count else new
        self.count += 1
        self.device = new.device
        self.evaluated = tuple(name for name in self.names if name in pairs)

    def _add_micro_batch(self, new: Tensor, is_lazy: Sequence[bool]) -> Tensor:
        """Return the sums with those of another micro-batch; the sums of lazy terms are complete already."""
        if not self.lazy:
            return self._sums + new
        return torch.stack([n if lazy else s + n for s, n, lazy in zip(self._sums, new, is_lazy, strict=True)])

    def packed(self) -> Tensor:
        """Return sums, numbers of finite images and minimized scalar of the step as a flat tensor."""
        return torch.cat([self._sums[:-1], self._sums[-1:] / self.count])

    def read(self, devices: Sequence[Sequence[float]]) -> dict[str, float | None]:
        """Return the mean of each evaluated term from what :meth:`packed` returned on each device.

        A term without a finite image is None.
        """
        totals = [sum(column) for column in zip(*devices, strict=True)]
        counts = totals[len(self.names) : -1]
        self.total = totals[-1] / len(devices)
        means = {n: totals[i] / counts[i] if counts[i] else None for i, n in enumerate(self.names)}
        return {name: means[name] for name in self.evaluated}
