"""Figures of many networks on the same pictures, kept in a folder so that what was judged once is not judged again."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lossmith._files import write_text_atomically
from lossmith.metrics import MetricName, describe_protocol
from lossmith.tasks import Batch, EvaluationSet, Task
from lossmith.train.evaluation import evaluate_images

__all__ = ["CachedEvaluator"]

Figures = dict[str, dict[str, float]]


class CachedEvaluator:
    """Judges networks on the pictures of a folder.

    Args:
        task: What the networks do.
        examples: The pictures.
        which: The metrics.
        kept: The folder in which figures are kept; None keeps none.
        device: Where to do it.
    """

    def __init__(
        self,
        task: Task,
        examples: EvaluationSet,
        which: Sequence[MetricName],
        *,
        kept: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.task, self.examples, self.which = task, examples, list(which)
        self.kept, self.device = kept, device

    def __call__(self, identity: Sequence[object], model: Callable[[Tensor], Tensor] | None) -> Figures:
        """The figures of each picture by its name.

        Args:
            identity: What tells this network, at its place, from all others: hashes of weights, numbers.
            model: The network, from the input to the answer; None for the answer without one.
        """
        told = json.dumps([[str(part) for part in identity], describe_protocol(self.task.border, self.which)])
        file = self.kept / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.json" if self.kept else None
        before: dict[str, dict[str, float]] = json.loads(file.read_text()) if file and file.is_file() else {}
        found: Figures = {}

        def restore(batch: Batch) -> Tensor:
            return self.task.baseline_output(batch) if model is None else self.task.predict(model, batch)

        for example in self.examples:
            digest = content(example.batch)
            if digest not in before:
                (row,) = evaluate_images([example], restore, border=self.task.border, which=self.which, device=self.device)
                before[digest] = row.metrics
                if file:
                    write_text_atomically(file, json.dumps(before))
            found[example.name] = before[digest]
        return found


def content(batch: Mapping[str, Tensor]) -> str:
    """What tells an example from all others, whatever its file is called."""
    digest = hashlib.sha256()
    for name in sorted(batch):
        digest.update(f"{name}{tuple(batch[name].shape)}".encode())
        digest.update(batch[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
