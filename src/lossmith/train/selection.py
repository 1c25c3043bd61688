"""The callback that keeps the weights of the best validation of a run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from rich.console import Console

from lossmith._format import print_text
from lossmith.models.files import read_header
from lossmith.train.folder import RunFolder
from lossmith.train.log import StepCallback
from lossmith.train.module import TrainingModule
from lossmith.train.selection_rule import SelectionRule
from lossmith.train.validation_text import read_validation

__all__ = ["BestCheckpoint"]


class BestCheckpoint(StepCallback):
    """A writer of the averaged weights of the best validation so far.

    The header of the file holds the validation, with which later ones are compared. The file is therefore the best of
    all validations of the run, also after an interruption.

    Args:
        folder: The run folder.
        rule: The rule.
        export: Writes the averaged weights of a module, with further values of the header, to a file.
        console: The console of the progress display.
    """

    def __init__(
        self,
        folder: RunFolder,
        rule: SelectionRule,
        *,
        export: Callable[[TrainingModule, Path, Mapping[str, Any]], object],
        console: Console,
    ) -> None:
        self.folder, self.rule, self.export, self.console = folder, rule, export, console

    def after_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        """Keep the weights of this step if its validation is the best so far, and print the best."""
        if not trainer.is_global_zero or (row := read_validation(self.folder.path / "validation.jsonl", step)) is None:
            return
        best = read_header(self.folder.best).get("selected") if self.folder.best.is_file() else None
        if best is None or self.rule.rank(row) > self.rule.rank(best):
            if not all(bool(weight.isfinite().all()) for weight in module.average.parameters()):
                return
            best = row
            with torch.no_grad():
                self.export(module, self.folder.best, {"selected": row, "rule": str(self.rule)})
        where = "this step" if best["step"] == step else f"step {best['step']}"
        print_text(
            self.console, f"best so far by {self.rule}: {where} ({self.rule.describe(best)}), in {self.folder.best}"
        )
