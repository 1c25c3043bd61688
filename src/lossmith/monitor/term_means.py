"""The means of a loss's terms over the images, micro-batches and processes of a step."""

from collections.abc import Collection, Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from lossmith.device import widest_float
from lossmith.engine.nonfinite import pad_rows

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
        self.total = 0.0
        """The minimized scalar, averaged over the micro-batches and processes that :meth:`read` was given."""
        self.count = 0
        """The number of micro-batches."""
        self.device = torch.device("cpu")
        """The device of the sums."""
        self._sums = torch.zeros(0)  # sum and count of each term, and the scalar
        self._evaluated: frozenset[str] = frozenset()  # in the current step
        self._last: dict[str, Tensor] = {}  # sum and count of the lazy terms in their last step before

    def clear(self) -> None:
        """Begin a new step."""
        for name in self.lazy & self._evaluated:
            row = 2 * self.names.index(name)
            self._last[name] = self._sums[row : row + 2]
        self.count, self._evaluated = 0, frozenset()

    def add(self, values: Mapping[str, Tensor], finite: Tensor, total: Tensor) -> None:
        """Add a micro-batch.

        Args:
            values: The terms (N,), zero for images with a non-finite value.
            finite: The number of images with a finite value, for each of these terms.
            total: The minimized scalar.
        """
        wide = widest_float(total.device)
        sums = pad_rows([value.detach() for value in values.values()]).sum(dim=1, dtype=wide)
        pairs = torch.stack([sums, finite.to(wide)], dim=1)
        if tuple(values) != self.names:
            named, zero = dict(zip(values, pairs, strict=True)), torch.zeros_like(pairs[0])
            pairs = torch.stack([named.get(name, zero) for name in self.names])
        new = torch.cat([pairs.flatten(), total.detach().to(wide).view(1)])
        self._sums = self._sums + new if self.count else new
        self._evaluated |= values.keys()
        self.count += 1
        self.device = new.device

    def packed(self) -> Tensor:
        """Return sum and number of finite images of each term, and the minimized scalar, as a flat tensor."""
        pairs = list(self._sums[:-1].view(-1, 2))
        for i, name in enumerate(self.names):
            if name not in self._evaluated and name in self._last:
                pairs[i] = self._last[name]
        return torch.cat([*pairs, self._sums[-1:] / self.count])

    def read(self, devices: Sequence[Sequence[float]]) -> dict[str, float | None]:
        """Return the mean of each evaluated term from what :meth:`packed` returned on each device.

        A term without a finite image is None.
        """
        totals = [sum(column) for column in zip(*devices, strict=True)]
        self.total = totals[-1] / len(devices)
        means = {n: totals[2 * i] / totals[2 * i + 1] if totals[2 * i + 1] else None for i, n in enumerate(self.names)}
        return {name: mean for name, mean in means.items() if name in self._evaluated or name in self._last}
