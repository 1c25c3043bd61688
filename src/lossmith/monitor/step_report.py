"""The numbers of a training step on the host, averaged over the processes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from lossmith.distributed import all_gather_with_own_gradient
from lossmith.formula.weight import WeightValue
from lossmith.monitor.nonfinite_monitor import MonitorReport

__all__ = ["StepReport", "gather_rows", "scalars_by_path", "stack_scalars"]


@final
@dataclass(frozen=True)
class StepReport:
    """The numbers of the last step, as :meth:`lossmith.LossMonitor.read` returns them.

    Args:
        terms: The mean of each evaluated term over images, micro-batches and processes, unweighted; None for a term
            without a finite image.
        loss: The minimized scalar; None if it is not finite.
        weights: The weight of each term in the last logged step, on average over images and processes.
        gradient_shares: Each weighted term's part of the sum of the gradient norms at the prediction, in [0, 1], in the
            last logged step. A term without a path to the prediction, or with a non-finite norm, is absent.
        discriminators: The metrics of the discriminators, by the term's name, a dot and the metric's name.
        nonfinite: The non-finite values so far.
    """

    terms: dict[str, float | None] = field(default_factory=dict)
    loss: float | None = None
    weights: dict[str, float] = field(default_factory=dict)
    gradient_shares: dict[str, float] = field(default_factory=dict)
    discriminators: dict[str, float] = field(default_factory=dict)
    nonfinite: MonitorReport = field(default_factory=MonitorReport)

    def scalars(self) -> dict[str, float]:
        """Return all numbers by names such as "terms/L1"; a term is under "nonfinite" if it ever was non-finite."""
        counts = {name: float(count) for name, count in self.nonfinite.totals.items() if count}
        groups: dict[str, Mapping[str, float | None]] = {
            "terms": self.terms,
            "weights": self.weights,
            "gradient_shares": self.gradient_shares,
            "discriminators": self.discriminators,
            "nonfinite": counts,
        }
        return {**({} if self.loss is None else {"loss": self.loss}), **scalars_by_path(groups)}


def scalars_by_path(groups: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    """Return the numbers of groups by ``"<group>/<name>"``, without None."""
    return {f"{g}/{name}": v for g, group in groups.items() for name, v in group.items() if v is not None}


def stack_scalars(values: Sequence[WeightValue], device: torch.device) -> Tensor:
    """Stack numbers and the means of tensors as float64, without a wait for the device."""
    scalars = [
        value.detach().double().mean()
        if isinstance(value, Tensor)
        else torch.full((), value, dtype=torch.float64, device=device)
        for value in values
    ]
    return torch.stack(scalars) if scalars else torch.zeros(0, dtype=torch.float64, device=device)


def gather_rows(parts: Mapping[str, Tensor]) -> dict[str, list[list[float]]]:
    """Return flat float64 tensors as numbers, one list for each process, with one wait for the device."""
    rows = all_gather_with_own_gradient(torch.cat(list(parts.values()))[None]).tolist()
    found, start = {}, 0
    for name, part in parts.items():
        found[name] = [row[start : start + part.numel()] for row in rows]
        start += part.numel()
    return found


def finite_means(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of each column over the rows in which it is finite; NaN if it is finite in none."""
    columns = [[value for value in column if math.isfinite(value)] for column in zip(*rows, strict=True)]
    return [sum(column) / len(column) if column else math.nan for column in columns]
