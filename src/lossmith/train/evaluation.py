"""Evaluation of a network, or of a baseline, image by image."""

import itertools
import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lossmith.data import Example
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.metrics import DEFAULT_METRICS, METRICS, compute_metrics
from lossmith.tasks import Batch

__all__ = ["EvaluatedImage", "evaluate_images", "mean_metrics", "metrics_by_image", "unused_name"]


class EvaluatedImage(NamedTuple):
    """An image of an evaluation set, the prediction for it, and its metrics."""

    name: str
    batch: Batch
    pred: Tensor
    metrics: dict[str, float]


def evaluate_images(
    examples: Iterable[Example],
    restore: Callable[[Batch], Tensor],
    *,
    border: int,
    which: Sequence[str] = DEFAULT_METRICS,
    device: torch.device | str = "cpu",
    pixels: PixelFormat = RGB_8BIT,
    scale: int = 4,
    optional: Sequence[str] = (),
) -> Iterator[EvaluatedImage]:
    """Restore and score the images of an evaluation set, one at a time.

    Args:
        examples: The evaluation set.
        restore: Returns the restored image (1, C, H, W) of a batch of one.
        border: The width in pixels of the border that the metrics exclude.
        which: The metrics.
        device: The device.
        pixels: The samples of the images.
        scale: Upscaling factor, the period of the patterns that ``grid`` measures.
        optional: Metrics that are left out for an image that is too small for them.
    """
    for name, batch in examples:
        moved = {key: tensor.to(device) for key, tensor in batch.items()}
        with torch.no_grad():
            pred = restore(moved)
        side = min(moved["target"].shape[-2:]) - 2 * border
        fitting = [metric for metric in which if metric not in optional or side >= METRICS[metric].min_side]
        metrics = compute_metrics(pred, moved["target"], border=border, metrics=fitting, pixels=pixels, scale=scale)
        yield EvaluatedImage(name, moved, pred, metrics)


def metrics_by_image(images: Iterable[EvaluatedImage]) -> dict[str, dict[str, float]]:
    """Return the metrics of each image by its name; of images with equal names the later ones are numbered.

    Example:
        >>> images = [EvaluatedImage(name, {}, torch.zeros(1), {"psnr_y": 30.0}) for name in ("a", "b", "a")]
        >>> list(metrics_by_image(images))
        ['a', 'b', 'a (2)']
    """
    found: dict[str, dict[str, float]] = {}
    for image in images:
        found[unused_name(image.name, found)] = image.metrics
    return found


def unused_name(name: str, used: Container[str]) -> str:
    """Return a name, with a number after it if it is used."""
    names = itertools.chain([name], (f"{name} ({number})" for number in itertools.count(2)))
    return next(each for each in names if each not in used)


def mean_metrics(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the images with a finite value; equal images have no finite PSNR.

    Example:
        >>> mean_metrics([{"psnr_y": 30.0}, {"psnr_y": 32.0}, {"psnr_y": float("inf")}])
        {'psnr_y': 31.0}
    """
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: [row[name] for row in rows if math.isfinite(row.get(name, math.nan))] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items() if values}
