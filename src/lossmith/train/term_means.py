"""The means of a loss's terms over the images, micro-batches and devices of a step."""

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
        """The minimized scalar, averaged over the micro-batches and devices that :meth:`read` was given."""
        self._sums: list[Tensor] = []
        self._totals: list[Tensor] = []

    def clear(self) -> None:
        """Begin a new step."""
        self._sums.clear()
        self._totals.clear()

    def add(self, values: Mapping[str, Tensor], nonfinite: Mapping[str, Tensor], device: torch.device) -> None:
        """Add a micro-batch.

        Args:
            values: The terms (N,), zero for images with a non-finite value.
            nonfinite: Whether each image has a non-finite value, (N,), by term.
            device: The device of the sums; a step may evaluate no term.
        """
        zero = torch.zeros((), device=device)
        sums = [values[name].detach().sum() if name in values else zero for name in self.names]
        counts = [(~nonfinite[name]).sum() if name in nonfinite else zero for name in self.names]
        self._sums.append(torch.stack([torch.stack(sums), torch.stack(counts)]))
        self.evaluated = tuple(values)

    def add_total(self, total: Tensor) -> None:
        """Add the minimized scalar of a micro-batch."""
        self._totals.append(total.detach())

    def packed(self) -> Tensor:
        """Return sums, numbers of finite images and minimized scalar of the step as a flat tensor, for one transfer."""
        sums = torch.stack(self._sums).double().sum(dim=0).flatten()
        return torch.cat([sums, torch.stack(self._totals).double().mean().view(1)])

    def read(self, devices: Sequence[Sequence[float]]) -> dict[str, float | None]:
        """Return the mean of each evaluated term from what :meth:`packed` returned on each device.

        A term without a finite image is None.
        """
        totals = [sum(column) for column in zip(*devices, strict=True)]
        counts = totals[len(self.names) : -1]
        self.total = totals[-1] / len(devices)
        means = {n: totals[i] / counts[i] if counts[i] else None for i, n in enumerate(self.names)}
        return {name: means[name] for name in self.evaluated}
