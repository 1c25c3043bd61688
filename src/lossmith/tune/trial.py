"""One trial: a training in a run folder that is named by its content, judged at its rungs and at its end."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from torch import Tensor, nn

from lossmith._files import write_text_atomically
from lossmith.models import load_restorer
from lossmith.tasks import Batch, Task
from lossmith.train import RunFolder, Settings
from lossmith.train.evaluation import evaluate_images, mean_metrics
from lossmith.tune.search import Search, settings_digest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["TrialInterrupted", "Hardware", "TrialResult", "file_lock", "run_trial", "evaluate_weights", "read_result"]

State = Literal["complete", "pruned", "failed"]
Rows = dict[str, dict[str, float]]
"""Figures by picture and metric."""


class TrialInterrupted(Exception):
    """A trial was asked to stop before its end; it goes on where it stands when it is tried again."""


@dataclass(frozen=True)
class Hardware:
    """Where trials run, as :func:`lossmith.train.train` takes it."""

    accelerator: str = "auto"
    devices: int | str = 1
    workers: int | None = None


@dataclass(frozen=True)
class TrialResult:
    """What came of a trial: the content of its result.json.

    Args:
        number: Its number in the study.
        run: The name of its run folder.
        state: Whether it was trained to its end, given up at a rung, or could not be trained.
        drawn: What it drew.
        loss: Its formula.
        step: How far it was trained.
        seconds: How long that took, judging included, over all its attempts.
        figures: The means over the validation pictures, at its end.
        pictures: The figures of each picture, at its end.
        rungs: The means at each rung, by its step.
        why: Why it is not complete.
    """

    number: int
    run: str
    state: State
    drawn: Mapping[str, Any]
    loss: str
    step: int
    seconds: float
    figures: Mapping[str, float] = field(default_factory=dict)
    pictures: Rows = field(default_factory=dict)
    rungs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    why: str = ""


def run_trial(
    search: Search,
    number: int,
    drawn: Mapping[str, Any],
    folder: Path,
    *,
    machine: Hardware,
    rung: Callable[[int, Mapping[str, float]], str],
) -> TrialResult:
    """Trains and judges what was drawn, from where an earlier attempt at the same stands.

    Args:
        search: The study.
        number: The trial's number, for the record.
        drawn: What the trial drew.
        folder: The study's folder.
        machine: Where to train.
        rung: Told of the step and the figures at each rung; says why the trial is given up there, or "" to go on. Of
            a rung that an earlier attempt has passed it is told, and not asked.

    Raises:
        Interrupted: The training was asked to stop.
        ValueError: It cannot be trained, for a reason that every trial has.
        OSError: The folder cannot be written.
    """
    from lossmith.train import NonFiniteError, train

    settings = search.settings(drawn)
    place = folder / "trials" / settings_digest(settings)
    with file_lock(place), (folder / "logs").joinpath(f"{place.name}.log").open("a", encoding="utf-8") as log:
        if known := read_result(place):
            return known
        console = Console(file=log, width=120)
        began = time.monotonic() - before(place)
        passed = read_json(place / "rungs.json", {})

        def ended(state: State, step: int, **more: Any) -> TrialResult:
            took = round(time.monotonic() - began, 2)
            made = TrialResult(number, place.name, state, dict(drawn), settings.loss, step, took, rungs=passed, **more)
            write_json(place / "result.json", asdict(made))
            return made

        for step in (*search.rung_steps, search.steps):
            if str(step) in passed:
                rung(step, passed[str(step)])
                continue
            try:
                options = {"accelerator": machine.accelerator, "devices": machine.devices, "workers": machine.workers}
                if train(replace(settings, steps=step), place, console=console, **options) < step:  # type: ignore[arg-type]
                    raise TrialInterrupted
            except NonFiniteError as error:
                return ended("failed", step, why=str(error).splitlines()[0])
            finally:
                RunFolder(place).release()  # one worker trains many runs
            rows = evaluate_weights(search, settings, RunFolder(place).model, machine)
            figures = mean_metrics(list(rows.values()))
            if lacking := [axis.metric for axis in search.axes if axis.metric not in figures]:
                return ended("failed", step, why=f"No picture has a finite {lacking[0]}.")
            if step < search.steps:
                passed[str(step)] = figures
                write_json(place / "rungs.json", passed)
                if why := rung(step, figures):
                    return ended("pruned", step, why=why)
        return ended("complete", search.steps, figures=figures, pictures=rows)


def evaluate_weights(search: Search, settings: Settings, weights: Path | None, machine: Hardware) -> Rows:
    """What a network, or the answer that needs none, is worth on each validation picture: the study's axes alone."""
    import torch

    from lossmith.train.preparation import build_task

    task = build_task(settings)
    gpu = machine.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    model = None if weights is None else load_restorer(weights, scale=settings.scale)[0].to(device)
    examples = task.evaluation_set(search.val, limit=settings.val_count)
    which = [axis.metric for axis in search.axes]
    walk = evaluate_images(examples, restorer(task, model), border=task.border, which=which, device=device)
    return {row.name: row.metrics for row in walk}


def restorer(task: Task, model: nn.Module | None) -> Callable[[Batch], Tensor]:
    """What restores a batch."""
    return task.baseline_output if model is None else lambda batch: task.predict(model, batch)


def read_result(place: Path) -> TrialResult | None:
    """What came of the trial of a folder; None while nothing did."""
    try:
        return TrialResult(**read_json(place / "result.json", None))
    except TypeError:
        return None


def read_json(path: Path, otherwise: Any) -> Any:
    """What a JSON file holds, or something else where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return otherwise


def before(place: Path) -> float:
    """The seconds that earlier attempts trained for, as far as they were logged."""
    try:
        lines = (place / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return float(json.loads(lines[-1])["seconds"])
    except (OSError, ValueError, KeyError, IndexError):
        return 0.0


def write_json(path: Path, record: Any) -> None:
    """Writes one JSON file in one step."""
    text = json.dumps(record, indent=1) + "\n"
    write_text_atomically(path, text)


@contextmanager
def file_lock(place: Path) -> Iterator[None]:
    """Waits until no other process is at a place; on a file system without locks, does not."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("a") as file:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.lockf(file, fcntl.LOCK_EX)
        yield
