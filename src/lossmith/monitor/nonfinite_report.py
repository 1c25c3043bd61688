"""The report on the non-finite values of a run: where, when and for which images they occurred, and whether to stop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

__all__ = ["CURE", "MonitorReport", "NonFiniteCounts", "NonFiniteError", "NonFiniteReader"]

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
@dataclass(frozen=True)
class NonFiniteCounts:
    """The counts of one device, a row for each term, for the network's gradient and for all terms together.

    Args:
        total: The number of steps in which the row was non-finite.
        streak: The number of such steps up to the last one.
        longest: The longest streak.
        micro_step: The micro-batch in which the last streak began.
        by_value: Whether a value was non-finite then, and not a gradient alone.
        images: The places of the images that were non-finite then.
        layers: The layers of the term that were non-finite then.
    """

    total: list[int]
    streak: list[int]
    longest: list[int]
    micro_step: list[int]
    by_value: list[bool]
    images: list[list[int]]
    layers: list[list[str]]

    @classmethod
    def unpack(
        cls, numbers: Sequence[float], names: Sequence[str], layers: Sequence[tuple[str, str]]
    ) -> "NonFiniteCounts":
        """Return the counts in what :meth:`NonFiniteMonitor.packed` returned.

        Args:
            numbers: The numbers.
            names: The names of the terms.
            layers: The term and the name of each layer.
        """
        rows = len(names) + 2
        total, streak, longest = ([int(each) for each in numbers[i * rows : (i + 1) * rows]] for i in range(3))
        width = len(numbers) // rows - 3
        table = [numbers[3 * rows + i * width :][:width] for i in range(rows)]
        return cls(
            total,
            streak,
            longest,
            micro_step=[int(row[0]) for row in table],
            by_value=[bool(row[1]) for row in table],
            images=[[i for i, bad in enumerate(row[2 : 2 + MAX_IMAGES]) if bad] for row in table],
            layers=[
                [
                    layer
                    for (term, layer), bad in zip(layers, row[2 + MAX_IMAGES :], strict=True)
                    if bad and term == name
                ]
                for name, row in zip(names, table, strict=False)
            ],
        )


@final
@dataclass(frozen=True)
class NonFiniteReader:
    """The counts of all devices, and what it takes to put them into words.

    Args:
        found: The counts of each device.
        names: The names of the terms.
        weighted: The names of the terms with a weight.
        micro_batches: Micro-batches in a step.
        image_names: See :attr:`NonFiniteMonitor.image_names`.
    """

    found: Sequence[NonFiniteCounts]
    names: Sequence[str]
    weighted: Sequence[str]
    micro_batches: int
    image_names: Callable[[int, int], Sequence[str]] | None

    def report(self) -> MonitorReport:
        """Return the report."""
        rows = [*self.names, "network"]
        worst = [max(self.found, key=lambda one: (one.longest[i], one.total[i])) for i in range(len(rows))]
        totals = {name: one.total[i] for i, (name, one) in enumerate(zip(rows, worst, strict=True))}
        messages = {name: self._describe(i, worst[i]) for i, name in enumerate(rows) if totals[name]}
        stop = self._describe_empty_steps()
        for i, name in enumerate(rows):
            limit = MAX_EMPTY_STEPS if i == len(self.names) else MAX_TERM_STEPS
            if not stop and (longest := worst[i].longest[i]) >= limit:
                stop = f"{messages[name]}, and in {longest} consecutive steps"
        nothing_finite = all(one.streak[NOTHING] for one in self.found)
        return MonitorReport(totals, messages, nothing_finite=nothing_finite, stop=f"{stop}; {CURE}" if stop else None)

    def _describe_empty_steps(self) -> str:
        """Return a message if all terms were non-finite in too many consecutive steps."""
        steps = min(one.longest[NOTHING] for one in self.found)
        if steps < MAX_EMPTY_STEPS:
            return ""
        is_single = len(self.weighted) == 1
        who = (
            f"The term '{self.weighted[0]}' was not"
            if is_single
            else f"None of the terms {', '.join(self.weighted)} was"
        )
        first = min(one.micro_step[NOTHING] for one in self.found) // self.micro_batches + 1
        return f"{who} finite for any image in {steps} consecutive steps from step {first} on"

    def _describe(self, row: int, worst: NonFiniteCounts) -> str:
        """Return a message on what was non-finite, at which step, and in which layers and images."""
        micro_step = worst.micro_step[row]
        step = micro_step // self.micro_batches + 1
        if row == len(self.names):
            return f"The gradient of the network's weights was non-finite at step {step}"
        files: list[str] = []
        for device, one in enumerate(self.found):
            if one.total[row] and one.micro_step[row] == micro_step:
                files += self._file_names(one.images[row], micro_step, device)
        more = f" and {len(files) - MAX_FILES} more" if len(files) > MAX_FILES else ""
        places = [", ".join(worst.layers[row]), ", ".join(files[:MAX_FILES]) + more]
        where = f" ({'; '.join(filter(None, places))})" if any(places) else ""
        if worst.by_value[row]:
            return f"The term '{self.names[row]}' was non-finite at step {step}{where}"
        begun = zip(self.names, worst.total, worst.micro_step, worst.by_value, strict=False)
        same = [name for name, total, when, by_value in begun if total and when == micro_step and not by_value]
        who = f"The term '{self.names[row]}'" if len(same) == 1 else f"One of the terms {', '.join(same)}"
        return f"{who} had a finite value, but a non-finite gradient, at step {step}{where}"

    def _file_names(self, images: Sequence[int], micro_step: int, device: int) -> list[str]:
        if self.image_names is None or not images:
            return [f"image {i + 1} of the batch" for i in images]
        files = self.image_names(micro_step, device)
        return list(dict.fromkeys(files[i] for i in images if i < len(files)))
