"""Evaluation of many networks on the same images, with a cache on disk."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lossmith._files import write_text_atomically
from lossmith.data.evaluation_images import KeptExamples
from lossmith.metrics import describe_protocol
from lossmith.tasks import Batch, EvaluationSet, Task
from lossmith.train.evaluation import evaluate_images, unused_name

__all__ = ["CachedEvaluator"]

ImageMetrics = dict[str, dict[str, float]]
"""The metrics of each image, by the name of the image."""


class CachedEvaluator:
    """Evaluates networks on the images of an evaluation set.

    Args:
        task: The task of the networks.
        images: The evaluation set.
        metrics: The metrics.
        folder: The folder of the cache; None for no cache.
        device: Where to evaluate.
    """

    def __init__(
        self,
        task: Task,
        images: EvaluationSet,
        metrics: Sequence[str],
        *,
        folder: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.task, self.images, self.metrics = task, KeptExamples(images), list(metrics)
        self.folder, self.device = folder, device

    def __call__(self, identity: Sequence[object], model: Callable[[Tensor], Tensor] | None) -> ImageMetrics:
        """Return the metrics of each image.

        Args:
            identity: What distinguishes the network and its knob value from all others, such as hashes of weights.
            model: The network, from the input to the output; None for the task's baseline.
        """
        key = json.dumps(
            [
                [str(part) for part in identity],
                describe_protocol(self.task.border, self.metrics, self.task.pixels, self.task.scale),
            ]
        )
        file = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json" if self.folder else None
        cached: ImageMetrics = json.loads(file.read_text()) if file and file.is_file() else {}
        found: ImageMetrics = {}

        def restore(batch: Batch) -> Tensor:
            return self.task.baseline_output(batch) if model is None else self.task.predict(model, batch)

        for example in self.images:
            digest = _batch_digest(example.batch)
            if digest not in cached:
                (evaluated,) = evaluate_images(
                    [example],
                    restore,
                    border=self.task.border,
                    which=self.metrics,
                    device=self.device,
                    pixels=self.task.pixels,
                    scale=self.task.scale,
                )
                cached[digest] = evaluated.metrics
                if file:
                    write_text_atomically(file, json.dumps(cached))
            found[unused_name(example.name, found)] = cached[digest]
        return found


def _batch_digest(batch: Mapping[str, Tensor]) -> str:
    """Return a hash of the tensors of an example, which does not depend on the name of its file."""
    digest = hashlib.sha256()
    for name in sorted(batch):
        digest.update(f"{name}{tuple(batch[name].shape)}".encode())
        digest.update(batch[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
