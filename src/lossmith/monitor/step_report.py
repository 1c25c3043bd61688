"""The numbers of a training step on the host, averaged over the processes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from lossmith.device import widest_float
from lossmith.distributed import all_gather_with_own_gradient
from lossmith.formula.weight import WeightValue
from lossmith.monitor.gradient_record import GradientRecord
from lossmith.monitor.nonfinite_monitor import NonFiniteMonitor
from lossmith.monitor.nonfinite_report import MonitorReport, NonFiniteError
from lossmith.monitor.term_means import TermMeans

__all__ = ["StepReport", "gather_rows", "read_report", "scalars_by_path", "stack_scalars"]


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


def read_report(
    names: Sequence[str],
    term_means: TermMeans,
    gradients: GradientRecord,
    discriminators: Mapping[str, Tensor],
    nonfinite: NonFiniteMonitor,
    keys_per_step: int,
) -> StepReport:
    """Return the report of a step, averaged over the processes, with one wait for the device.

    Args:
        names: The terms' names.
        term_means: The terms' sums.
        gradients: The weights and gradient norms of the last logged step.
        discriminators: The metrics of the discriminators.
        nonfinite: The counts of non-finite values.
        keys_per_step: The number of keys of micro-batches in a step.

    Raises:
        NonFiniteError: A term was non-finite for too many steps in a row.
    """
    device = term_means.device
    is_measured = bool(gradients.weights)  # not before the first logged step after a start or a resumption
    norms = {name: 0.0 for name in names if is_measured and name not in gradients.weights} | gradients.norms
    counts = nonfinite.packed()
    rows = gather_rows(
        {
            "terms": term_means.packed(),
            "nonfinite": torch.cat([to_wide(each) for each in counts]) if counts else stack_scalars([], device),
            "weights": stack_scalars([gradients.weights.get(name, 0.0) for name in names], device),
            "norms": stack_scalars([norms.get(name, math.nan) for name in names], device),
            "discriminators": stack_scalars(list(discriminators.values()), device),
        }
    )
    found = nonfinite.read(rows["nonfinite"], keys_per_step)
    if found.stop is not None:
        raise NonFiniteError(found.stop)
    terms = term_means.read(rows["terms"])
    means = dict(zip(names, finite_means(rows["norms"]), strict=True))
    finite = {name: norm for name, norm in means.items() if math.isfinite(norm)}
    total = sum(finite.values())
    return StepReport(
        terms=terms,
        loss=term_means.total if math.isfinite(term_means.total) else None,
        weights=dict(zip(names, finite_means(rows["weights"]), strict=True)) if is_measured else {},
        gradient_shares={name: norm / total if total else 0.0 for name, norm in finite.items()},
        discriminators=dict(zip(discriminators, finite_means(rows["discriminators"]), strict=True)),
        nonfinite=found,
    )


def stack_scalars(values: Sequence[WeightValue], device: torch.device) -> Tensor:
    """Stack numbers and the means of tensors in the device's widest precision, without a wait for the device."""
    scalars = [
        to_wide(value.detach()).mean()
        if isinstance(value, Tensor)
        else torch.full((), value, dtype=widest_float(device), device=device)
        for value in values
    ]
    return torch.stack(scalars) if scalars else torch.zeros(0, dtype=widest_float(device), device=device)


def to_wide(tensor: Tensor) -> Tensor:
    """Return a tensor in the widest precision of its device."""
    return tensor.to(widest_float(tensor.device))


def gather_rows(parts: Mapping[str, Tensor]) -> dict[str, list[list[float]]]:
    """Return flat tensors as numbers, one list for each process, with one wait for the device."""
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
