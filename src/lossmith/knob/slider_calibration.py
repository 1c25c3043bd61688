"""Calibration of a knob's slider: measurement of the outputs over the range, so that equal moves look equal."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from lossmith._checks import check_integer
from lossmith.formula.loss import Loss
from lossmith.losses import SSIM, lpips
from lossmith.metrics import DEFAULT_METRICS, compute_metrics, find_missing_metrics
from lossmith.models.knob_network import KnobNetwork
from lossmith.models.slider import Slider
from lossmith.tasks import EvaluationSet, Task
from lossmith.train.evaluation import unused_name

__all__ = ["KnobSweep", "sweep_knob"]

MIN_STEP = 1e-3
"""The least slider length of a step, relative to the mean step: the slider must pass steps without any change."""


@final
@dataclass(frozen=True)
class KnobSweep:
    """The metrics of a network at evenly spaced points of its knobs' ranges, from all low to all high.

    Args:
        fractions: The fraction of the logarithmic ranges at each point, from 0 to 1.
        knobs: The knob values at each point.
        image_metrics: For each image the metrics at each point.
        step_distances: For each image the perceptual distances between the outputs at neighbouring points.
        distance: The name of the perceptual distance.
    """

    fractions: tuple[float, ...]
    knobs: tuple[Mapping[str, float], ...]
    image_metrics: Mapping[str, Sequence[Mapping[str, float]]]
    step_distances: Mapping[str, Sequence[float]]
    distance: str

    @property
    def mean_metrics(self) -> dict[str, tuple[float, ...]]:
        """The mean of each metric at each point, over the images with finite values at all points."""
        means: dict[str, tuple[float, ...]] = {}
        for name in next(iter(self.image_metrics.values()))[0]:
            columns = [[row.get(name, math.nan) for row in rows] for rows in self.image_metrics.values()]
            if finite := [column for column in columns if all(math.isfinite(value) for value in column)]:
                means[name] = tuple(sum(values) / len(finite) for values in zip(*finite, strict=True))
        return means

    def to_record(self) -> dict[str, Any]:
        """Return the sweep as plain values, with None for non-finite numbers."""
        image_metrics = {
            name: [{key: value if math.isfinite(value) else None for key, value in row.items()} for row in rows]
            for name, rows in self.image_metrics.items()
        }
        return {
            "fractions": self.fractions,
            "knobs": self.knobs,
            "n": len(image_metrics),
            "mean": self.mean_metrics,
            "image_metrics": image_metrics,
            "step_distances": self.step_distances,
            "distance": self.distance,
        }

    def calibrate_slider(self, images: str) -> Slider:
        """Return the slider whose equal moves change the output by equal distances, in the mean over the images.

        Args:
            images: A description of the images, which is stored with the slider.

        Raises:
            ValueError: The knobs change no output.
        """
        steps = [sum(each) / len(each) for each in zip(*self.step_distances.values(), strict=True)]
        if not sum(steps) > 0:
            raise ValueError("The knob changes the output of no image; train the network over the knob's range first.")
        least = MIN_STEP * sum(steps) / len(steps)
        lengths = [0.0, *itertools.accumulate(max(step, least) for step in steps)]
        positions = tuple(length / lengths[-1] for length in lengths)
        return Slider(positions, self.fractions, self.mean_metrics, self.distance, images)


@torch.no_grad()
def sweep_knob(
    model: KnobNetwork,
    task: Task,
    images: EvaluationSet,
    *,
    points: int = 21,
    metrics: Sequence[str] = DEFAULT_METRICS,
    device: torch.device | str = "cpu",
    on_image_end: Callable[[str], object] = lambda name: None,
) -> KnobSweep:
    r"""Evaluate a network at evenly spaced points of its knobs' ranges; all knobs move together.

    The distance of two outputs is :math:`\sqrt{\text{LPIPS}}` (AlexNet), or :math:`\sqrt{1 - \text{SSIM}}` if the
    weights of LPIPS are missing: both measures are squared distances, so their roots add up along a path.

    Args:
        model: The network, in evaluation mode, on the device.
        task: The task of the network.
        images: The evaluation set.
        points: The number of points, at least 2.
        metrics: The metrics; metrics whose weights are missing are left out.
        device: Where to evaluate.
        on_image_end: Called with the name of each finished image.

    Raises:
        ValueError: `points` is less than 2, or no image can be used.
    """
    check_integer("points", points, low=2)
    missing = find_missing_metrics([*metrics, "lpips_alex"], channels=task.pixels.channels)
    distance, name = (SSIM(), "root of 1 - SSIM") if "lpips_alex" in missing else (lpips("alex"), "root of LPIPS-Alex")
    available = [metric for metric in metrics if metric not in missing]
    fractions = tuple(i / (points - 1) for i in range(points))
    knobs = tuple({k: float(value) for k, value in model.knobs_at_fraction(each).items()} for each in fractions)
    image_metrics: dict[str, list[dict[str, float]]] = {}
    step_distances: dict[str, list[float]] = {}
    for given_name, batch in images:
        image = unused_name(given_name, image_metrics)
        moved = {key: tensor.to(device) for key, tensor in batch.items()}
        predictions = (task.predict(partial(model, **values), moved) for values in knobs)
        image_metrics[image], step_distances[image] = _evaluate_path(
            predictions, moved["target"], distance.to(device), task, available
        )
        on_image_end(image)
    if not image_metrics:
        raise ValueError(f"None of the {len(images)} images can be used.")
    return KnobSweep(fractions, knobs, image_metrics, step_distances, name)


def _evaluate_path(
    predictions: Iterable[Tensor], target: Tensor, distance: Loss, task: Task, metrics: Sequence[str]
) -> tuple[list[dict[str, float]], list[float]]:
    """Return the metrics of each prediction, and the distances of neighbouring predictions."""
    rows: list[dict[str, float]] = []
    steps: list[float] = []
    previous: Tensor | None = None
    for pred in predictions:
        rows.append(
            compute_metrics(pred, target, border=task.border, metrics=metrics, pixels=task.pixels, scale=task.scale)
        )
        clipped = pred.float().clamp(0, 1)
        if previous is not None:
            steps.append(math.sqrt(max(float(distance(clipped, previous)), 0.0)))
        previous = clipped
    return rows, steps
