"""Figures of many networks on the same pictures, kept in a folder so that what was judged once is not judged again."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lossmith.metrics import Metric, protocol
from lossmith.tasks import Batch, Examples, Task
from lossmith.train.evaluation import judge
from lossmith.train.folder import replaced, writer

__all__ = ["Judging"]

Figures = dict[str, dict[str, float]]


class Judging:
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
        examples: Examples,
        which: Sequence[Metric],
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
        told = json.dumps([[str(part) for part in identity], protocol(self.task.border, self.which)])
        file = self.kept / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.json" if self.kept else None
        before: dict[str, dict[str, float]] = json.loads(file.read_text()) if file and file.is_file() else {}
        found: Figures = {}

        def restore(batch: Batch) -> Tensor:
            return self.task.plain(batch) if model is None else self.task.answer(model, batch)

        for example in self.examples:
            digest = content(example.batch)
            if digest not in before:
                (row,) = judge([example], restore, border=self.task.border, which=self.which, device=self.device)
                before[digest] = row.figures
                if file:
                    replaced(file, writer(json.dumps(before)))
            found[example.name] = before[digest]
        return found


def content(batch: Mapping[str, Tensor]) -> str:
    """What tells an example from all others, whatever its file is called."""
    digest = hashlib.sha256()
    for name in sorted(batch):
        digest.update(f"{name}{tuple(batch[name].shape)}".encode())
        digest.update(batch[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
