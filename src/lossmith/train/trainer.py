"""Training of a network in a run folder."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from rich.console import Console
from torch import nn

from lossmith import __version__
from lossmith._files import write_atomically
from lossmith._format import print_table, print_text
from lossmith.data.cache import ImageCache, use_cache
from lossmith.device import check_training_precision, trainer_devices
from lossmith.formula.cost import CostPlan
from lossmith.formula.loss import Loss
from lossmith.metrics import ARTEFACT_METRICS, default_metrics, parse_metrics
from lossmith.models import Network, save_network
from lossmith.parser import load, save
from lossmith.train.fitting import fit
from lossmith.train.folder import RunFolder
from lossmith.train.loggers import check_loggers
from lossmith.train.module import TrainingModule
from lossmith.train.preparation import PreparedRun, prepare_run
from lossmith.train.schedules import parse_milestones
from lossmith.train.selection import BestCheckpoint
from lossmith.train.selection_rule import SelectionRule, parse_rule
from lossmith.train.settings import Settings
from lossmith.train.strategies import Strategy, build_strategy
from lossmith.train.validation import ValidationCallback

if TYPE_CHECKING:
    from lightning.pytorch import Callback

__all__ = ["train"]


def train(
    settings: Settings,
    out: str | Path,
    *,
    model: nn.Module | None = None,
    console: Console | None = None,
    device: str | torch.device = "auto",
    devices: int = 1,
    nodes: int = 1,
    strategy: Strategy = "auto",
    workers: int | None = None,
    cache: ImageCache | None = None,
    loggers: Sequence[str] = ("tensorboard",),
) -> int:
    """Train a network in a run folder; the same call resumes the run from its checkpoint.

    The formula, its inputs, the weights of its networks, the data and the network are checked before the folder is
    touched.

    Args:
        settings: The settings of the run.
        out: The run folder.
        model: The network to train, instead of the one that the settings name; a resumed run needs it too. Any
            module from images to images at the settings' scale, which is trained in place; the averaged weights, on
            which validation runs, are those of the run folder.
        console: The console of the progress display; None for standard output.
        device: The device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        devices: The number of processes on a machine, each with a device of its own.
        nodes: The number of machines, on each of which a launcher runs the same call; they share the folder.
        strategy: How the processes share the network: "auto" or "ddp" for copies, "fsdp" for shards of the network, of
            its gradients and of the optimizer's state.
        workers: Data-loading processes; None for a number that fits, see :func:`choose_workers`.
        cache: The cache of decoded images; None for 1 GiB of memory. ``ImageCache("image_cache")`` stores them on disk.
        loggers: "tensorboard", "wandb", "trackio", "mlflow" or "csv", besides log.jsonl; see docs/commands.md.

    Returns:
        The last step; less than ``settings.steps`` if the run was interrupted.

    Raises:
        ValueError: The settings cannot be trained, or a term stayed non-finite; the message names the cure.
        OSError: The folder cannot be written.
    """
    console = console or Console()
    trainer_devices(device, devices, nodes)  # raises before anything is prepared
    check_training_precision(device, settings.precision)
    build_strategy(strategy, devices * nodes, settings.precision)
    folder = RunFolder(out)
    loggers = check_loggers(loggers)
    folder.check_plugins()
    cache = cache or ImageCache()
    with use_cache(cache):
        run = prepare_run(settings, folder, model)
    settings = run.settings
    rule = None if settings.select is None else parse_rule(settings.select, settings.task)
    validation = validation_callbacks(run, folder, rule)
    rank_zero_only(start_folder)(run, folder)
    rank_zero_only(print_start)(run, validation, console, cache)
    module = TrainingModule(
        run.task,
        run.model,
        run.loss,
        steps=settings.steps,
        lr=settings.lr,
        optimizer=settings.optimizer,
        optimizer_options=settings.optimizer_options,
        schedule=settings.schedule,
        milestones=parse_milestones(settings.milestones),
        gamma=settings.gamma,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        ema=settings.ema,
        seed=settings.seed,
        knobs=settings.knobs,
        balance=run.balance,
    )
    selection = []
    if rule is not None:
        export = partial(save_averaged_network, run, folder)
        selection = [BestCheckpoint(folder, rule, export=export, console=console)]
    return fit(
        module,
        run.data.training_set,
        folder,
        settings,
        export=lambda trained, path: save_averaged_network(run, folder, trained, path),
        callbacks=validation,
        selection=selection,
        console=console,
        device=device,
        devices=devices,
        nodes=nodes,
        strategy=strategy,
        workers=workers,
        cache=cache,
        loggers=loggers,
    )


def validation_callbacks(run: PreparedRun, folder: RunFolder, rule: SelectionRule | None = None) -> "list[Callback]":
    """Return the callbacks that validate the network.

    Args:
        run: The run.
        folder: The run folder.
        rule: The rule that selects the best validation, whose metrics are computed too.

    Raises:
        ValueError: The rule has nothing to select by.
    """
    examples, every, given = run.data.evaluation_set, run.settings.val_every, run.settings.metrics
    if examples is None:
        if rule is not None:
            raise ValueError("select needs validation images, and no image is held out; add --val FOLDER.")
        return []
    callbacks = run.task.validation_callbacks(folder.path, examples, every)
    if callbacks is not None:
        own = [metric.key for metric in run.task.report_metrics()]
        if rule is not None and (other := [metric for metric in rule.metrics if metric not in own]):
            raise ValueError(
                f"select names {other[0]}, which {run.task.name} does not validate; it has {', '.join(own)}."
            )
        return callbacks
    requested = [*([] if given is None else parse_metrics(given)), *(rule.metrics if rule else [])]
    metrics = list(dict.fromkeys([*(default_metrics(run.task.scale) if given is None else []), *requested]))
    optional = [metric for metric in ARTEFACT_METRICS if metric not in requested]
    validation = ValidationCallback(folder, run.task, examples, every=every, metrics=metrics, optional=optional)
    for metric in rule.metrics if rule else ():
        if metric in validation.missing:
            raise ValueError(f"select needs the metric {metric}, which is missing. {validation.missing[metric]}")
    return [validation]


def start_folder(run: PreparedRun, folder: RunFolder) -> None:
    """Claim the run folder and write what is known before the first step.

    Raises:
        ValueError: The folder belongs to another run, or to the same run with another loss.
    """
    if folder.claim(run.settings, __version__):
        check_same_loss(folder, run.loss)
    save(run.loss, folder.path / "loss.json")
    folder.write("plan.json", {"rows": plan_rows(run.plan), "citations": run.loss.citation().split("\n\n")})
    folder.write("skipped.json", skipped_files(run))
    if run.calibration is not None:
        folder.write("calibration.json", {"loss": repr(run.loss), "report": run.calibration.as_dict()})


def print_start(run: PreparedRun, validation: "Sequence[Callback]", console: Console, cache: ImageCache) -> None:
    """Print the calibration, what is trained and validated on, where decoded images are stored, and all warnings."""
    if run.calibration is not None:
        for table in run.calibration.to_tables():
            print_table(console, table)
    skipped, found = len(run.data.training_set.skipped), run.data.training_count
    usable = found - skipped
    count, kind = (found, "caption") if run.task.is_generative else (usable, "training image")
    about = "about " if run.data.is_estimate else ""
    print_text(console, f"{about}{count} {kind}{'s' * (count != 1)}, {skipped} skipped")
    print_text(console, describe_validation_set(run))
    missing = [f"Validation runs without {metric}. {why}" for each in validation for metric, why in _missing(each)]
    for line in [*filter(None, [cache.describe()]), *run.warnings, *missing]:
        print_text(console, line)


def describe_validation_set(run: PreparedRun) -> str:
    """Return what the network is validated on, and when."""
    examples, settings = run.data.evaluation_set, run.settings
    if examples is None:
        return "No validation, since no image is held out; --val FOLDER validates on other images."
    kind = ("caption" if run.task.is_generative else "image") + "s" * (len(examples) != 1)
    source = f"of {settings.val}" if settings.val else f"held out of {settings.images}"
    return f"Validation on {len(examples)} {kind} {source}, every {settings.val_every} steps and at the end"


def save_averaged_network(
    run: PreparedRun, folder: RunFolder, module: TrainingModule, path: Path, extra: Mapping[str, Any] | None = None
) -> None:
    """Write the averaged weights with a header that says how they were trained, and with further values."""
    average = module.average
    assert isinstance(average, Network)
    header = {
        "task": run.task.name,
        "options": dict(run.settings.options),
        "step": module.global_step,
        "loss": repr(run.loss),
        "plugins": dict(run.settings.plugins),
        **({} if run.task.pixels.is_default else {"pixels": run.task.pixels.to_record()}),
        **run.data.metadata,
        **(extra or {}),
    }
    write_atomically(path, lambda partial: save_network(average, partial, header))
    folder.write("skipped.json", skipped_files(run))


def skipped_files(run: PreparedRun) -> list[dict[str, str]]:
    """Return the files that could not be used so far."""
    examples = run.data.evaluation_set
    skipped = [*run.data.training_set.skipped, *(examples.skipped if examples else [])]
    return [file._asdict() for file in dict.fromkeys(skipped)]


def check_same_loss(folder: RunFolder, loss: Loss) -> None:
    """Raise ValueError if a run began with another loss, or with other weights of the loss's networks."""
    before = load(folder.path / "loss.json")
    if repr(before) != repr(loss):
        raise ValueError(
            f"{str(folder.path)!r} was started with the loss {before!r}, but the formula now stands for {loss!r}. "
            "Write the first loss in full, or use another --out."
        )


def plan_rows(plan: CostPlan) -> list[dict[str, Any]]:
    """Return the cost of a step as rows for plan.json."""
    return [
        {
            "network": f"{p.network} @ {p.preceding_lenses}" if p.preceding_lenses else p.network,
            "input": p.input_name,
            "layers": list(p.layers),
            "terms": list(p.terms),
            "GFLOP forward": p.forward_flops / 1e9,
            "GFLOP backward": p.backward_flops / 1e9,
        }
        for p in plan.passes
    ]


def _missing(callback: "Callback") -> list[tuple[str, str]]:
    """Return the metrics that a validation callback leaves out, with the reasons."""
    return list(getattr(callback, "missing", {}).items())
