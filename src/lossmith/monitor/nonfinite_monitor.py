"""Non-finite terms during training: excluded where they occur, counted, reported, and a reason to stop if they persist.

The counts stay on the device, as a few small tensors, and are read together with the terms of a logged step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.engine.nonfinite import NonFiniteGuard, pad_rows

__all__ = [
    "CURE",
    "MonitorReport",
    "NonFiniteError",
    "NonFiniteMonitor",
]

MAX_TERM_STEPS = 10
"""Consecutive steps in which a term may be non-finite. Images are drawn at random, so a longer streak is not due to
single bad images, and the run should not continue without the term unnoticed."""

MAX_EMPTY_STEPS = 3
"""Consecutive steps in which all terms may be non-finite: without any gradient the weights cannot recover, but a single
small batch may consist of bad images."""

MAX_IMAGES = 64
"""Images of a micro-batch on each device that can be named, so that the counts have a fixed size."""

MAX_FILES = 3
"""Files that a message names."""

Counts = dict[str, list[float]]

NETWORK, NOTHING = -2, -1  # rows behind those of the terms
CURE = "check the images, or lower the learning rate or the weight of the term."


class NonFiniteError(ValueError):
    """A value was infinite or NaN for too many steps; the message names the value and the step."""


@final
@dataclass(frozen=True)
class MonitorReport:
    """The non-finite values of a run so far.

    Args:
        totals: For each term and for the network's gradient, the number of steps in which it was non-finite, on the
            device with the most such steps.
        messages: For each term with such steps, where, when and for which images the last streak began.
        nothing_finite: Whether all terms were non-finite in the last step.
        stop: Why the run must stop; None if it may continue.
    """

    totals: dict[str, int] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    nothing_finite: bool = False
    stop: str | None = None


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
        self.state: dict[str, Tensor] = {}
        self.current: Tensor | None = None
        """What was non-finite in the micro-batches of the current step."""
        self.weighted: tuple[str, ...] = ()

    def record_micro_step(self, guard: NonFiniteGuard, weighted: Sequence[str], micro_step: int) -> None:
        """Record the forward and the backward pass of a micro-batch.

        Args:
            guard: The guard of the passes.
            weighted: The terms with a weight other than the number 0; other terms are ignored.
            micro_step: The number of the micro-batch in the run, from 0.
        """
        self.weighted = tuple(weighted)
        none = torch.zeros_like(next(iter(guard.nonfinite_values.values())))
        values = {name: guard.nonfinite_values[name] if name in weighted else none for name in self.names}
        hit = pad_rows(
            [_union(values[name], guard.nonfinite_samples(name)) if name in weighted else none for name in self.names]
        )
        by_value = pad_rows(list(values.values())).any(dim=1)
        nothing = torch.cat([values[name] for name in weighted]).all() if weighted else none.any()
        bad = torch.cat([hit.any(dim=1), none.any().view(1), nothing.view(1)])
        layers = {key: ~torch.cat(found).isfinite().all() for key, found in guard.layer_values.items()}
        self._allocate(tuple(layers), bad.device)
        state = self.state
        begins = bad & (state["streak"] == 0) & (state["longest"] < MAX_TERM_STEPS)
        if self.current is not None:
            begins = begins & ~self.current
        new = {"micro_step": torch.full_like(state["micro_step"], micro_step), "by_value": by_value}
        new["images"] = F.pad(hit, (0, MAX_IMAGES - hit.shape[1]))
        new["layers"] = torch.stack([layers.get(key, none.any()) for key in self.layers])
        where = {"micro_step": begins, "by_value": begins[:NETWORK], "images": begins[:NETWORK, None]}
        where["layers"] = torch.stack([begins[self.names.index(name)] for name, _ in self.layers])
        for key, value in new.items():
            state[key] = torch.where(where[key], value, state[key])
        if self.current is not None:  # nothing is finite in a step if nothing is finite in all of its micro-batches
            bad = torch.cat([(self.current | bad)[:NOTHING], (self.current & bad)[NOTHING:]])
        self.current = bad

    def record_step(self, broken: Tensor | None, micro_step: int) -> None:
        """Record the end of a step.

        Args:
            broken: Whether the network's gradient is non-finite although the gradient at its output was finite; None
                if a gradient scaler checks this.
            micro_step: The number of the last micro-batch.
        """
        if self.current is None:
            return
        state, bad = self.state, self.current
        if broken is not None:
            bad[NETWORK] = broken
            begins = broken & (state["streak"][NETWORK] == 0)
            state["micro_step"][NETWORK] = torch.where(begins, micro_step, state["micro_step"][NETWORK])
        state["count"] = state["count"] + bad
        state["streak"] = (state["streak"] + 1) * bad
        state["longest"] = torch.maximum(state["longest"], state["streak"])
        self.current = None

    def _allocate(self, layers: tuple[tuple[str, str], ...], device: torch.device) -> None:
        """Create the counts, or extend them by the layers of a term that was inactive before."""
        if not self.state:
            terms, rows = len(self.names), len(self.names) + 2
            for key in ("count", "streak", "longest", "micro_step"):
                self.state[key] = torch.zeros(rows, dtype=torch.long, device=device)
            self.state["by_value"] = torch.zeros(terms, dtype=torch.bool, device=device)
            self.state["images"] = torch.zeros(terms, MAX_IMAGES, dtype=torch.bool, device=device)
            self.state["layers"] = torch.zeros(0, dtype=torch.bool, device=device)
        if added := tuple(key for key in layers if key not in self.layers):
            self.layers += added
            self.state["layers"] = F.pad(self.state["layers"], (0, len(added)))

    def packed(self) -> list[Tensor]:
        """Return all counts as flat tensors, for one transfer to the host."""
        return [each.flatten() for each in self.state.values()]

    def read(self, devices: Sequence[Sequence[float]], micro_batches: int) -> MonitorReport:
        """Return the report on what :meth:`packed` returned on each device.

        Args:
            devices: The numbers of each device.
            micro_batches: Micro-batches in a step.
        """
        if not self.state:
            return MonitorReport()
        found = [self._unpack(numbers) for numbers in devices]
        rows = [*self.names, "network"]
        worst = [max(found, key=lambda one: (one["longest"][i], one["count"][i])) for i in range(len(rows))]
        totals = {name: int(one["count"][i]) for i, (name, one) in enumerate(zip(rows, worst, strict=True))}
        messages = {
            name: self._describe(i, worst[i], found, micro_batches) for i, name in enumerate(rows) if totals[name]
        }
        stop = self._describe_empty_steps(found, micro_batches)
        for i, name in enumerate(rows):
            limit = MAX_EMPTY_STEPS if i == len(self.names) else MAX_TERM_STEPS
            if not stop and (longest := int(worst[i]["longest"][i])) >= limit:
                stop = f"{messages[name]}, and in {longest} consecutive steps"
        nothing_finite = all(one["streak"][NOTHING] for one in found)
        return MonitorReport(totals, messages, nothing_finite=nothing_finite, stop=f"{stop}; {CURE}" if stop else None)

    def _unpack(self, numbers: Sequence[float]) -> Counts:
        left, counts = list(numbers), {}
        for key, each in self.state.items():
            counts[key], left = left[: each.numel()], left[each.numel() :]
        return counts

    def _describe_empty_steps(self, found: Sequence[Counts], micro_batches: int) -> str:
        """Return a message if all terms were non-finite in too many consecutive steps."""
        steps = min(int(one["longest"][NOTHING]) for one in found)
        if steps < MAX_EMPTY_STEPS:
            return ""
        is_single = len(self.weighted) == 1
        who = (
            f"The term '{self.weighted[0]}' was not"
            if is_single
            else f"None of the terms {', '.join(self.weighted)} was"
        )
        first = min(int(one["micro_step"][NOTHING]) for one in found) // micro_batches + 1
        return f"{who} finite for any image in {steps} consecutive steps from step {first} on"

    def _describe(self, row: int, worst: Counts, found: Sequence[Counts], micro_batches: int) -> str:
        """Return a message on what was non-finite, at which step, and in which layers and images."""
        micro_step = int(worst["micro_step"][row])
        step = micro_step // micro_batches + 1
        if row == len(self.names):
            return f"The gradient of the network's weights was non-finite at step {step}"
        name = self.names[row]
        layers = [n for (term, n), bad in zip(self.layers, worst["layers"], strict=True) if bad and term == name]
        files: list[str] = []
        for device, one in enumerate(found):
            if one["count"][row] and one["micro_step"][row] == micro_step:
                images = one["images"][row * MAX_IMAGES :][:MAX_IMAGES]
                files += self._file_names([i for i, bad in enumerate(images) if bad], micro_step, device)
        places = [", ".join(layers)] if layers != ["pixels"] else []
        places += [
            ", ".join(files[:MAX_FILES]) + (f" and {len(files) - MAX_FILES} more" if len(files) > MAX_FILES else "")
        ]
        where = f" ({'; '.join(filter(None, places))})" if any(places) else ""
        if worst["by_value"][row]:
            return f"The term '{name}' was non-finite at step {step}{where}"
        same = [
            n for i, n in enumerate(self.names) if worst["micro_step"][i] == micro_step and not worst["by_value"][i]
        ]
        same = [n for n in same if worst["count"][self.names.index(n)]]
        who = f"The term '{name}'" if len(same) == 1 else f"One of the terms {', '.join(same)}"
        return f"{who} had a finite value, but a non-finite gradient, at step {step}{where}"

    def _file_names(self, images: Sequence[int], micro_step: int, device: int) -> list[str]:
        if self.image_names is None or not images:
            return [f"image {i + 1} of the batch" for i in images]
        files = self.image_names(micro_step, device)
        return list(dict.fromkeys(files[i] for i in images if i < len(files)))


def _union(broken: Tensor, hits: Sequence[Tensor]) -> Tensor:
    """Return which images are non-finite; a hit that is not known per image counts for all images."""
    for hit in hits:
        broken = broken | (hit if hit.shape == broken.shape else hit.any())
    return broken
