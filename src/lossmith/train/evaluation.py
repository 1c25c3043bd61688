"""Evaluation of a network, or of a baseline, on the images of an evaluation set."""

import itertools
import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from lossmith.data import Example
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.device import count_cores
from lossmith.metrics import DEFAULT_METRICS, METRICS
from lossmith.metrics.protocol import compute_batch_metrics
from lossmith.tasks import Batch

__all__ = ["EvaluatedImage", "evaluate_images", "mean_metrics", "metrics_by_image", "unused_name"]

T = TypeVar("T")

BATCH_PIXELS = 2**20
"""Target pixels of a batch on an accelerator, less than those of one image of DIV2K, so that its memory suffices."""

WINDOW = 4
"""The batches among which images of equal size are searched."""


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
    batch_pixels: int | None = None,
) -> Iterator[EvaluatedImage]:
    """Restore and score the images of an evaluation set, in its order.

    On an accelerator, images of equal size are restored and scored together; on a CPU one by one, which is faster
    there. A thread computes the metrics while the network restores the next images, unless the network uses more than
    half of the cores of a CPU.

    Args:
        examples: The evaluation set.
        restore: Returns the restored images (N, C, H, W) of a batch.
        border: The width in pixels of the border that the metrics exclude.
        which: The metrics.
        device: The device.
        pixels: The samples of the images.
        scale: Upscaling factor, the period of the patterns that ``grid`` measures.
        optional: Metrics that are left out for an image that is too small for them.
        batch_pixels: Largest number of target pixels of a batch of several images; None for 2**20 on an accelerator and
            0, batches of one, on a CPU.
    """
    device = torch.device(device)
    if batch_pixels is None:
        batch_pixels = BATCH_PIXELS if device.type != "cpu" else 0

    def score(pred: Tensor, target: Tensor) -> list[dict[str, float]]:
        side = min(target.shape[-2:]) - 2 * border
        fitting = [metric for metric in which if metric not in optional or side >= METRICS[metric].min_side]
        return compute_batch_metrics(pred, target, border=border, metrics=fitting, pixels=pixels, scale=scale)

    def run(window: Sequence[Example]) -> list[_Group]:
        groups = []
        for indices in _group_by_shape(window, batch_pixels):
            parts = [window[index].batch for index in indices]
            batch = {key: torch.cat([each[key] for each in parts]).to(device) for key in parts[0]}
            with torch.no_grad():
                pred = restore(batch)
            groups.append(_Group(indices, batch, pred, submit(score, pred, batch["target"])))
        return groups

    uses_all_cores = device.type == "cpu" and 2 * torch.get_num_threads() > count_cores()
    # a new thread computes on as many cores as the last thread that set a number
    cores = partial(torch.set_num_threads, torch.get_num_threads())
    with ThreadPoolExecutor(1, thread_name_prefix="metrics", initializer=cores) as scorer:
        submit = _run_at_once if uses_all_cores else scorer.submit  # each thread has its own threads of OpenMP
        last: tuple[Sequence[Example], list[_Group]] = [], []
        for window in itertools.chain(_windows(examples, WINDOW * batch_pixels), [[]]):
            current = window, run(window)
            yield from _evaluated(*last)
            last = current


def _run_at_once(function: Callable[..., T], *args: object) -> Future[T]:
    """Return the result of a function as a thread would."""
    future: Future[T] = Future()
    future.set_result(function(*args))
    return future


class _Group(NamedTuple):
    """Images of one shape: their indices in the window, their batch, the predictions and the metrics."""

    indices: list[int]
    batch: Batch
    pred: Tensor
    rows: Future[list[dict[str, float]]]


def _windows(examples: Iterable[Example], pixels: int) -> Iterator[list[Example]]:
    """Yield the examples in lists, each of at least one example and about as many target pixels."""
    window: list[Example] = []
    size = 0
    for example in examples:
        window.append(example)
        size += math.prod(example.batch["target"].shape[-2:])
        if size >= pixels:
            yield window
            window, size = [], 0
    if window:
        yield window


def _group_by_shape(window: Sequence[Example], pixels: int) -> Iterator[list[int]]:
    """Yield the indices of examples of equal shapes, as many as fit into a number of target pixels."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, (_, batch) in enumerate(window):
        groups.setdefault(tuple((key, tensor.shape) for key, tensor in batch.items()), []).append(index)
    for indices in groups.values():
        count = max(1, pixels // math.prod(window[indices[0]].batch["target"].shape[-2:]))
        yield from (indices[start : start + count] for start in range(0, len(indices), count))


def _evaluated(window: Sequence[Example], groups: Sequence[_Group]) -> Iterator[EvaluatedImage]:
    """Yield the images of a window in their order, as soon as their metrics are computed."""
    places = {index: (group, place) for group in groups for place, index in enumerate(group.indices)}
    for index, (name, _) in enumerate(window):
        group, place = places[index]
        one = slice(place, place + 1)
        batch = {key: tensor[one] for key, tensor in group.batch.items()}
        yield EvaluatedImage(name, batch, group.pred[one], group.rows.result()[place])


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
