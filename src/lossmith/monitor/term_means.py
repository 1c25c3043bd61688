"""The means of a loss's terms over the images, micro-batches and processes of a step."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

__all__ = ["TermMeans"]


@final
class TermMeans:
    """The sums of each term over its finite images, kept on the device.

    Args:
        names: The names of all terms.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.evaluated: tuple[str, ...] = self.names
        """The terms that were evaluated in the last micro-batch."""
        self.total = 0.0
        """The minimized scalar, averaged over the micro-batches and processes that :meth:`read` was given."""
        self.count = 0
        """The number of micro-batches."""
        self.device = torch.device("cpu")
        """The device of the sums."""
        self._sums = torch.zeros(0)

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
        zero = torch.zeros((), device=total.device)
        sums = [values[name].detach().sum() if name in values else zero for name in self.names]
        counts = [(~nonfinite[name]).sum() if name in nonfinite else zero for name in self.names]
        new = torch.stack([*sums, *counts, total.detach()]).double()
        self._sums = self._sums + new if self.count else new
        self.count += 1
        self.device = new.device
        self.evaluated = tuple(values)

    def packed(self) -> Tensor:
        """Return sums, numbers of finite images and minimized scalar of the step as a flat float64 tensor."""
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
