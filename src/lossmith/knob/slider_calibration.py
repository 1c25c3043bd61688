"""The slider of a knob: what turning it does, measured, so that equal moves of it look equally large."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from lossmith.formula.loss import Loss
from lossmith.losses import SSIM, lpips
from lossmith.metrics import DEFAULT_METRICS, MetricName, find_missing_metrics, compute_metrics
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.output_interpolation import OutputInterpolation
from lossmith.models.slider import Slider
from lossmith.tasks import EvaluationSet, Task

__all__ = ["KnobSweep", "sweep_knob"]

STILL = 1e-3  # of the mean move: where turning does nothing, the slider still has to go through


@final
@dataclass(frozen=True)
class KnobSweep:
    """What a network makes of pictures with its knobs at places from all low to all high.

    Args:
        places: The part of the ranges, in their logarithm, that each place is: from 0 to 1, evenly.
        knobs: Where each knob stands there.
        pictures: By picture, its figures at each place.
        moves: By picture, how far its answer at each place is from that at the next.
        distance: By what that was measured, in words.
    """

    places: tuple[float, ...]
    knobs: tuple[Mapping[str, float], ...]
    pictures: Mapping[str, Sequence[Mapping[str, float]]]
    moves: Mapping[str, Sequence[float]]
    distance: str

    @property
    def figures(self) -> dict[str, tuple[float, ...]]:
        """Each metric's mean over the pictures, at each place; a picture counts where it is finite at all of them."""
        found: dict[str, tuple[float, ...]] = {}
        for name in next(iter(self.pictures.values()))[0]:
            columns = [[row.get(name, math.nan) for row in rows] for rows in self.pictures.values()]
            if whole := [column for column in columns if all(math.isfinite(value) for value in column)]:
                found[name] = tuple(sum(values) / len(whole) for values in zip(*whole, strict=True))
        return found

    def record(self) -> dict[str, Any]:
        """All of it as plain values, with null for what is no finite number."""
        pictures = {
            name: [{key: value if math.isfinite(value) else None for key, value in row.items()} for row in rows]
            for name, rows in self.pictures.items()
        }
        record = {"places": self.places, "knobs": self.knobs, "n": len(pictures), "mean": self.figures}
        return {**record, "pictures": pictures, "moves": self.moves, "distance": self.distance}

    def equalised(self, pictures: str) -> Slider:
        """The slider whose equal moves look equally large, on the mean over the pictures.

        Args:
            pictures: What was looked at, in words, to be kept with the table.

        Raises:
            ValueError: Turning the knobs changes nothing.
        """
        moves = [sum(each) / len(each) for each in zip(*self.moves.values(), strict=True)]
        if not sum(moves) > 0:
            raise ValueError("Turning the knob changes no picture; train the network over its range first.")
        least = STILL * sum(moves) / len(moves)
        way = [0.0, *itertools.accumulate(max(move, least) for move in moves)]
        t = tuple(part / way[-1] for part in way)
        return Slider(t, self.places, self.figures, self.distance, pictures)


@torch.no_grad()
def sweep_knob(
    model: ConditionedNetwork | OutputInterpolation,
    task: Task,
    examples: EvaluationSet,
    *,
    count: int = 21,
    which: Sequence[MetricName] = DEFAULT_METRICS,
    device: torch.device | str = "cpu",
    done: Callable[[str], object] = lambda name: None,
) -> KnobSweep:
    r"""Turns all knobs of a network together from low to high, and judges every place on every picture.

    How far two answers are from each other is :math:`\sqrt{\text{LPIPS}}` (AlexNet) or, where its weights are missing,
    :math:`\sqrt{1 - \text{SSIM}}`: both measures are squares, so that only their roots add up along a way.

    Args:
        model: The network, in eval mode, on the device; by whichever way it is turned.
        task: Its task.
        examples: What it is judged by.
        count: How many places.
        which: The metrics; one whose weights are missing is left out.
        device: Where to do it.
        done: Called with the name of each picture that is done.

    Raises:
        ValueError: Fewer than two places, or no picture can be used.
    """
    if count < 2:
        raise ValueError(f"A sweep wants at least 2 places; got {count}.")
    absent = find_missing_metrics([*which, "lpips_alex"])
    distance, words = (SSIM(), "root of 1 - SSIM") if "lpips_alex" in absent else (lpips("alex"), "root of LPIPS-Alex")
    apart: Loss = distance.to(device)
    places = tuple(i / (count - 1) for i in range(count))
    knobs = tuple({name: float(value) for name, value in model.knobs_at_fraction(place).items()} for place in places)
    pictures: dict[str, list[dict[str, float]]] = {}
    moves: dict[str, list[float]] = {}
    for name, batch in examples:
        there = {view: tensor.to(device) for view, tensor in batch.items()}
        rows, steps = pictures.setdefault(name, []), moves.setdefault(name, [])
        before: Tensor | None = None
        for turned in knobs:
            pred = task.predict(partial(model, **turned), there)
            metrics = [metric for metric in which if metric not in absent]
            rows.append(compute_metrics(pred, there["target"], border=task.border, metrics=metrics))
            now = pred.float().clamp(0, 1)
            if before is not None:
                steps.append(math.sqrt(max(float(apart(now, before)), 0.0)))
            before = now
        done(name)
    if not pictures:
        raise ValueError(f"None of the {len(examples)} pictures can be used to judge by.")
    return KnobSweep(places, knobs, pictures, moves, words)
