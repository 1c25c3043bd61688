"""Judging: what a network, or no network, makes of each example of a task, and the figures of it."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lossmith.data import Example
from lossmith.metrics import METRICS, Metric, score
from lossmith.tasks import Batch

__all__ = ["Judged", "judge", "means"]


class Judged(NamedTuple):
    """One example: its name and batch, what was made of it, and the figures."""

    name: str
    batch: Batch
    pred: Tensor
    figures: dict[str, float]


def judge(
    examples: Iterable[Example],
    restore: Callable[[Batch], Tensor],
    *,
    border: int,
    which: Sequence[Metric] = METRICS,
    device: torch.device | str = "cpu",
) -> Iterator[Judged]:
    """Restores and scores examples one at a time.

    Args:
        examples: Those of a task.
        restore: From a batch to the restored picture, (1, 3, H, W).
        border: The rim in pixels that the metrics leave out.
        which: The metrics.
        device: Where to do it.
    """
    for name, batch in examples:
        there = {view: tensor.to(device) for view, tensor in batch.items()}
        with torch.no_grad():
            pred = restore(there)
        yield Judged(name, there, pred, score(pred, there["target"], border=border, which=which))


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each figure's mean over the pictures for which it is a finite number (equal pictures have no finite PSNR).

    Example:
        >>> means([{"psnr_y": 30.0}, {"psnr_y": 32.0}, {"psnr_y": float("inf")}])
        {'psnr_y': 31.0}
    """
    found = {name: [row[name] for row in rows if math.isfinite(row.get(name, math.nan))] for name in METRICS}
    return {name: sum(values) / len(values) for name, values in found.items() if values}
