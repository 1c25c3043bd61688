"""Non-finite terms during training: a count of the steps in which they occur, and evidence of how each streak began.

The counts stay on the device, as two small tensors, and are read together with the terms of a logged step.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.engine.nonfinite import NonFiniteGuard, find_nonfinite, pad_rows
from lossmith.monitor.nonfinite_report import (
    MAX_IMAGES,
    MAX_TERM_STEPS,
    NETWORK,
    NOTHING,
    MonitorReport,
    NonFiniteCounts,
    NonFiniteReader,
)

__all__ = ["NonFiniteMonitor"]


@final
class NonFiniteMonitor:
    """A counter of the steps in which each term was non-finite, and of how each streak began.

    Args:
        names: The names of the terms.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.image_names: Callable[[int, int], Sequence[str]] | None = None
        """The file names of the images of a micro-batch, counted from 0 over the whole run, on a device."""
        self.layers: tuple[tuple[str, str], ...] = ()
        self.counts: Tensor | None = None
        """For each term, for the network's gradient and for all terms together: the steps in which it was non-finite,
        the current streak of such steps, and the longest one."""
        self.evidence = torch.zeros(0, dtype=torch.long)
        """For each row of the counts, how its last streak began: the micro-batch, whether a value was non-finite, the
        images and the layers."""
        self.current: tuple[Tensor, Tensor] | None = None
        """The non-finite values of the micro-batches of the current step, and their evidence."""
        self.weighted: tuple[str, ...] = ()

    def record_micro_step(self, guard: NonFiniteGuard, weighted: Sequence[str], micro_step: int) -> None:
        """Record the forward and the backward pass of a micro-batch.

        Args:
            guard: The guard of the passes.
            weighted: The terms with a weight other than the number 0; other terms are ignored.
            micro_step: The number of the micro-batch in the run, from 0.
        """
        self.weighted = tuple(weighted)
        values = self._value_rows(guard)
        hit = self._add_gradients(values, guard)
        found = [guard.nonfinite_values[name] for name in weighted]
        is_complete = len(found) == len(self.names) and len({*map(len, found)}) == 1
        nothing = values.all() if is_complete else torch.cat(found).all() if found else values.any()
        bad = torch.cat([hit.any(dim=1), nothing.view(1).expand(2)])  # the row of the network follows with the step
        evidence = self._evidence(values, hit, guard, micro_step)
        if self.current is not None:
            before, begun = self.current
            evidence = torch.where((bad & ~before)[:, None], evidence, _widen(begun, evidence))
            # nothing is finite in a step if nothing is finite in all of its micro-batches
            bad = torch.cat([(before | bad)[:NOTHING], (before & bad)[NOTHING:]])
        self.current = bad, evidence

    def _value_rows(self, guard: NonFiniteGuard) -> Tensor:
        """Return the images with a non-finite value, one row per term; none of terms without a weight."""
        if self.weighted == self.names == tuple(guard.nonfinite_values):
            return guard.nonfinite_rows
        none = torch.zeros_like(next(iter(guard.nonfinite_values.values())))
        return pad_rows([guard.nonfinite_values[n] if n in self.weighted else none for n in self.names])

    def _add_gradients(self, values: Tensor, guard: NonFiniteGuard) -> Tensor:
        """Return the rows with the images whose gradient was stopped; a gradient of all images counts for each."""
        stopped = [guard.nonfinite_samples(name) if name in self.weighted else [] for name in self.names]
        none = torch.zeros_like(values[0])
        for filters in itertools.zip_longest(*stopped):
            named = zip(self.names, filters, strict=True)
            rows = [none if each is None else _fit(each, len(guard.nonfinite_values[n])) for n, each in named]
            values = values | pad_rows(rows)
        return values

    def _evidence(self, values: Tensor, hit: Tensor, guard: NonFiniteGuard, micro_step: int) -> Tensor:
        """Return the evidence of a micro-batch, (terms + 2, columns)."""
        layers = {key: torch.cat(found) if len(found) > 1 else found[0] for key, found in guard.layer_values.items()}
        self.layers += tuple(key for key in layers if key not in self.layers)
        flags = torch.cat([values.any(dim=1)[:, None], hit], dim=1)
        rows = len(flags) + 2
        columns = [
            torch.full((rows, 1), micro_step, device=hit.device),
            F.pad(flags, (0, 1 + MAX_IMAGES - flags.shape[1], 0, 2)),
        ]
        if self.layers:
            bad = find_nonfinite(list(layers.values())).any(dim=1) if layers else hit.new_zeros(0)
            if tuple(layers) != self.layers:
                named, none = dict(zip(layers, bad.unbind(), strict=True)), hit.new_zeros(())
                bad = torch.stack([named.get(key, none) for key in self.layers])
            columns.append(bad.expand(rows, -1))
        return torch.cat(columns, dim=1)

    def record_step(self, broken: Tensor | None) -> None:
        """Record the end of a step.

        Args:
            broken: Whether the network's gradient is non-finite although the gradient at its output was finite; None
                if a gradient scaler checks this.
        """
        if self.current is None:
            return
        bad, evidence = self.current
        self.current = None
        if broken is None:
            bad[NETWORK].zero_()
        else:
            bad[NETWORK].copy_(broken)
        if self.counts is None:
            self.counts = torch.zeros(3, len(bad), dtype=torch.long, device=bad.device)
            self.evidence = torch.zeros_like(evidence)
        total, streak, longest = self.counts.unbind()
        begins = bad & (streak == 0) & (longest < MAX_TERM_STEPS)
        self.evidence = torch.where(begins[:, None], evidence, _widen(self.evidence, evidence))
        streak = (streak + 1) * bad
        self.counts = torch.stack([total + bad, streak, torch.maximum(longest, streak)])

    def packed(self) -> list[Tensor]:
        """Return all counts as flat tensors, for one transfer to the host."""
        return [] if self.counts is None else [self.counts.flatten(), self.evidence.flatten()]

    def read(self, devices: Sequence[Sequence[float]], micro_batches: int) -> MonitorReport:
        """Return the report on what :meth:`packed` returned on each device.

        Args:
            devices: The numbers of each device.
            micro_batches: Micro-batches in a step.
        """
        if self.counts is None:
            return MonitorReport()
        found = [NonFiniteCounts.unpack(numbers, self.names, self.layers) for numbers in devices]
        return NonFiniteReader(found, self.names, self.weighted, micro_batches, self.image_names).report()


def _fit(images: Tensor, count: int) -> Tensor:
    """Return one flag for each of a term's values; if it has fewer values than images, each stands for all images."""
    return images if len(images) == count else images.any().expand(count)


def _widen(evidence: Tensor, newer: Tensor) -> Tensor:
    """Return evidence with columns for the layers that newer evidence has in addition."""
    added = newer.shape[1] - evidence.shape[1]
    return F.pad(evidence, (0, added)) if added else evidence
