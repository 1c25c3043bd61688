"""A whole training: from settings to a run folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from rich.console import Console
from torch import Tensor
from torch.utils.data import default_collate

from lossmith import __version__, balance
from lossmith.balance import calibrate
from lossmith.formula.cost import Plan
from lossmith.formula.loss import Loss
from lossmith.formula.weight import asked
from lossmith.models import (
    Network,
    Restorer,
    build,
    load_network,
)
from lossmith.models import save as save_model
from lossmith.models.conditioned import Knobbed
from lossmith.parser import load, parse, save
from lossmith.tasks import (
    TASKS,
    Examples,
    Items,
    Task,
)
from lossmith.train.first_batch import look
from lossmith.train.fit import fit
from lossmith.train.folder import RunFolder, replaced
from lossmith.train.module import Training, refuse, steady
from lossmith.train.settings import Settings
from lossmith.train.validation import Validation

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from lossmith.balance import Card

__all__ = ["train"]

CALIBRATION = 8
"""Batches that gradient norms are averaged over: their ratios differ by 15 to 25 % from picture to picture."""


def train(
    settings: Settings,
    out: str | Path,
    *,
    console: Console | None = None,
    accelerator: str = "auto",
    devices: int | str = 1,
    workers: int | None = None,
) -> int:
    """Trains as the settings ask, in a run folder; the same call again goes on where it stands.

    Everything that can be refused is refused before the folder is touched: the formula, the views that it reads, the
    weights that it needs, the pictures, the network.

    Args:
        settings: What to train, on what, how long.
        out: The run's folder.
        console: Where to show the progress; None for the standard output.
        accelerator: "cpu", "gpu", "auto", ... as Lightning names them.
        devices: How many, or "auto".
        workers: Processes that read pictures; None for 4 beside a GPU and none on a CPU.

    Returns:
        The step that was reached; less than asked if somebody stopped it.

    Raises:
        ValueError: Something that cannot work, or a term that was not finite; the message says what to do.
        OSError: The folder cannot be written.
    """
    console = console or Console()
    folder = RunFolder(out)
    task, loss = task_of(settings), parse(settings.loss)
    keeping = None if settings.balance is None else balance.parse(settings.balance)
    refuse(task, loss, settings.knobs)
    material = task.material(
        settings.images, settings.val, count=settings.val_count, crop=settings.crop, seed=settings.seed
    )
    items, examples = material.items, material.examples
    model = network(settings, folder, material.told)
    if model.inputs != task.inputs:
        raise ValueError(
            f"{task.name} gives a network {task.inputs} channels; {model.spec['name']} takes {model.inputs}. "
            f"Take --model {task.network}, or another that fits."
        )
    task.fits(model)
    loss, remarks = task.prepare_loss(loss, model)
    task = task.giving(loss.reads)
    loss, card = in_units(loss, settings, task, model, items, folder, keeping)
    findings = look(task, model, loss, items, folder, settings.middle)
    plan = loss.plan((settings.batch, 3, settings.crop, settings.crop))

    judging = judges(folder, task, examples, settings.val_every)

    def skipped() -> list[dict[str, str]]:
        return [file._asdict() for file in [*items.skipped, *(examples.skipped if examples else [])]]

    def export(module: Training, path: Path) -> None:
        facts = {"task": task.name, "options": dict(settings.options), "step": module.global_step, "loss": repr(loss)}
        average = module.average
        assert isinstance(average, Network)
        replaced(path, lambda partial: save_model(average, partial, {**facts, **material.facts}))
        folder.write("skipped.json", skipped())

    @rank_zero_only
    def prepare() -> None:
        if folder.claim(settings, __version__):
            unchanged(folder, loss)
        replaced(folder.path / "loss.json", lambda partial: save(loss, partial))
        folder.write("plan.json", {"rows": rows(plan), "citations": loss.citation().split("\n\n")})
        folder.write("skipped.json", skipped())
        if card is not None:
            folder.write("calibration.json", {"loss": repr(loss), "card": card.record()})
            console.print(card.table())
        bad = len(items.skipped)
        used = f"{material.found} captions" if task.samples else f"{material.found - bad} pictures"  # files, bad or not
        console.print(f"{used}, {bad} skipped", highlight=False)
        for finding in [*filter(None, [material.remark]), *remarks, *findings]:
            console.print(finding, highlight=False, soft_wrap=True, markup=False)
        for metric, why in [pair for each in judging for pair in getattr(each, "missing", {}).items()]:
            console.print(f"Judged without {metric}. {why}", highlight=False, soft_wrap=True, markup=False)

    prepare()
    module = Training(
        task,
        model,
        loss,
        steps=settings.steps,
        lr=settings.lr,
        schedule=settings.schedule,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        ema=settings.ema,
        seed=settings.seed,
        knobs=settings.knobs,
        balance=keeping,
    )
    return fit(
        module,
        items,
        folder,
        settings,
        export=export,
        callbacks=judging,
        console=console,
        accelerator=accelerator,
        devices=devices,
        workers=workers,
    )


def judges(folder: RunFolder, task: Task, examples: Examples | None, every: int) -> "list[Callback]":
    """Return the callbacks that validate the network."""
    if examples is None:
        return []
    own = task.validation_callbacks(folder.path, examples, every)
    return [Validation(folder, task, examples, every=every)] if own is None else own


def task_of(settings: Settings) -> Task:
    """The task by its name."""
    if settings.task not in TASKS:
        raise ValueError(f"There is no task {settings.task!r}; there are {', '.join(TASKS)}.")
    task = TASKS[settings.task]
    try:
        return task(settings.scale, **settings.options)
    except TypeError as error:
        raise ValueError(f"{settings.task} has no such option: {str(error).split('() ')[-1]}.") from error


def network(settings: Settings, folder: RunFolder, told: Mapping[str, Any]) -> Network:
    """The network to train; a run that goes on has it in its folder, and needs no file that it once began with."""
    if folder.checkpoint.is_file() and folder.model.is_file():
        return load_network(folder.model, scale=settings.scale)[0].train()
    torch.manual_seed(settings.seed)
    model = build(**{"scale": settings.scale, **told, **settings.model})
    if settings.knobs and not isinstance(model, Knobbed):
        if not isinstance(model, Restorer):
            raise ValueError(f"A {settings.model['name']} has no knobs; write numbers in the formula.")
        model = Knobbed(model, settings.knobs)
    if isinstance(model, Knobbed) and dict(model.knobs) != dict(settings.knobs):
        raise ValueError(
            f"The network turns {model.knobs}; the training asks for {dict(settings.knobs)}. Give the same."
        )
    return model.train()


def in_units(
    loss: Loss,
    settings: Settings,
    task: Task,
    model: Network,
    items: Items,
    folder: RunFolder,
    keeping: balance.Balance | None,
) -> tuple[Loss, "Card | None"]:
    """The loss with its weights in units of equal gradient norms, or shares as numbers; measured once in a run.

    A balance that takes weights for shares anyway gets the shares as they are asked for.

    Returns:
        The loss, and the card of the measurement; None where there was none, or it was an earlier session's.
    """
    shares = any(weight.share is not None for weight in loss.weights)
    if shares and keeping is not None and keeping.relative:
        return loss.reweighted(asked(loss.weights)), None
    if not (settings.calibrate or shares):
        return loss, None
    record = folder.path / "calibration.json"
    if folder.checkpoint.is_file() and record.is_file():
        return parse(json.loads(record.read_text(encoding="utf-8"))["loss"]), None
    model.eval()

    def network(image: Tensor, **notes: Any) -> Tensor:
        with torch.no_grad():
            made: Tensor = model(image, **settings.middle, **notes)
        return made.requires_grad_()  # so that views made of it, such as a filled hole, are known to be

    def views(index: int) -> Mapping[str, Tensor]:
        examples = [items[index * settings.batch + i] for i in range(settings.batch)]
        return task.measured(task.views(model if task.samples else network, default_collate(examples)))

    card = calibrate(steady(loss, task), (views(index) for index in range(CALIBRATION)))
    model.train()
    return card.rescaled() if settings.calibrate else card.resolved(), card


def unchanged(folder: RunFolder, loss: Loss) -> None:
    """Refuses to go on with other terms or other networks' weights than before.

    Raises:
        ValueError: The formula means something else by now, or its networks' weights are others.
    """
    before = load(folder.path / "loss.json")
    if repr(before) != repr(loss):
        raise ValueError(
            f"{str(folder.path)!r} was begun with the loss {before!r}; the formula means {loss!r} now. "
            "Write the first out, or give another --out."
        )


def rows(plan: Plan) -> list[dict[str, Any]]:
    """The plan of a step as a table."""
    return [
        {
            "network": f"{p.network} @ {p.through}" if p.through else p.network,
            "view": p.view,
            "layers": list(p.layers),
            "terms": list(p.terms),
            "GFLOP forward": p.forward / 1e9,
            "GFLOP backward": p.backward / 1e9,
        }
        for p in plan.passes
    ]
