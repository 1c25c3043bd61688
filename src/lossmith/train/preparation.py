"""The preparation of a run: task, data, network and loss, checked before the run folder is touched."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from lossmith.balance import Balance, CalibrationReport, calibrate, parse_balance
from lossmith.data.file_paths import file_snapshot
from lossmith.data.find_pixels import PixelOptions
from lossmith.data.pixel_statistics import describe_samples
from lossmith.data.shards.unpack import list_some_images
from lossmith.formula.cost import CostPlan
from lossmith.formula.loss import Loss
from lossmith.formula.weight import shares_to_weights
from lossmith.models import Network, Restorer, build_network, load_network
from lossmith.models.conditioned import ConditionedNetwork
from lossmith.models.custom import wrap_network
from lossmith.models.files import NETWORKS
from lossmith.models.spandrel_model import SPANDREL_PREFIX
from lossmith.parser import parse
from lossmith.tasks import TASKS, Task, TaskData
from lossmith.train.first_batch import check_first_batch
from lossmith.train.folder import RunFolder
from lossmith.train.optimizers import build_optimizer, has_evaluation_mode
from lossmith.train.settings import Settings
from lossmith.train.task_loss import check_loss_for_task, pin_constant_inputs

__all__ = ["PreparedRun", "build_task", "choose_pixels", "prepare_run"]

CALIBRATION_BATCHES = 8
"""Batches over which gradient norms are averaged: their ratios vary by 15 to 25 % between images."""


@dataclass(frozen=True)
class PreparedRun:
    """A run that is ready to start.

    Args:
        settings: The settings.
        task: The task, for the inputs that the loss reads.
        data: The training and the validation set.
        model: The network.
        loss: The loss, with numbers for all weights.
        balance: The balancer of the term weights.
        calibration: The measured gradient norms, if they were measured in this session.
        plan: The cost of a training step.
        warnings: Lines to print before the training.
    """

    settings: Settings
    task: Task
    data: TaskData
    model: Network
    loss: Loss
    balance: Balance | None
    calibration: CalibrationReport | None
    plan: CostPlan
    warnings: list[str]


def prepare_run(settings: Settings, folder: RunFolder, network: nn.Module | None = None) -> PreparedRun:
    """Build and check everything that a run needs, without a write to its folder.

    Args:
        settings: The settings.
        folder: The run folder.
        network: The network to train instead of the one that the settings name.

    Raises:
        ValueError: The formula, the data, the network or their combination cannot be trained.
    """
    task, loss = build_task(settings), parse(settings.loss)
    is_resumed = folder.checkpoint.is_file() and folder.model.is_file()
    balance = None if settings.balance is None else parse_balance(settings.balance)
    with file_snapshot():
        task, notes = (task.with_pixels_of(folder.model), []) if is_resumed else choose_pixels(task, settings)
        check_loss_for_task(task, loss, settings.knobs)
        data = task.load_data(
            settings.images, settings.val, val_count=settings.val_count, crop=settings.crop, seed=settings.seed
        )
    if network is not None:
        network = wrap_network(network, settings.scale)
        settings = replace(settings, model=network.spec)
    model_kwargs = {**channel_arguments(task, settings.model["name"]), **data.model_kwargs}
    model = build_or_load_network(settings, folder, model_kwargs, network)
    check_network(task, model)
    check_optimizer(settings, model)
    loss, warnings = task.prepare_loss(loss, model)
    task = task.with_inputs(loss.input_names)
    run = PreparedRun(
        settings=settings,
        task=task,
        data=data,
        model=model,
        loss=loss,
        balance=balance,
        calibration=None,
        plan=loss.plan((settings.batch, task.pixels.channels, settings.crop, settings.crop)),
        warnings=[*notes, *filter(None, [data.message]), *warnings],
    )
    loss, report = numeric_loss(run, folder)
    findings = check_first_batch(task, model, loss, data.training_set, folder, settings.knobs, balance)
    return replace(run, loss=loss, calibration=report, warnings=[*run.warnings, *findings])


def choose_pixels(task: Task, settings: Settings) -> tuple[Task, list[str]]:
    """Return the task for the samples of its images, and notes for the user.

    Raises:
        ValueError: The images differ, or the range of floats is not stated.
    """
    options = PixelOptions(settings.channels, settings.range, settings.transfer, settings.no_data)
    pixels, notes = task.find_pixels(settings.images, options)
    if settings.val is not None and not pixels.keeps_samples:
        found = describe_samples(list_some_images(settings.val), pixels)
        notes = [*notes, *(f"Validation: {note}" for note in found if note not in notes)]
    return task.with_pixels(pixels), notes


def channel_arguments(task: Task, name: str) -> dict[str, Any]:
    """Return the argument of a network for images that are not RGB; published networks are adapted."""
    is_known = name in NETWORKS or ":" not in name or name.startswith(SPANDREL_PREFIX)
    return {"image_channels": task.pixels.channels} if is_known and task.pixels.channels != 3 else {}


def build_task(settings: Settings) -> Task:
    """Return the task that the settings name.

    Raises:
        ValueError: The task does not exist or does not accept an option.
    """
    if settings.task not in TASKS:
        raise ValueError(f"There is no task {settings.task!r}; the tasks are {', '.join(TASKS)}.")
    try:
        task: Task = TASKS[settings.task](settings.scale, **settings.options)
        return task
    except TypeError as error:
        raise ValueError(f"{settings.task} does not accept an option: {str(error).split('() ')[-1]}.") from error


def build_or_load_network(
    settings: Settings, folder: RunFolder, model_kwargs: Mapping[str, Any], network: Network | None = None
) -> Network:
    """Return the network to train: the given one, that of the folder of a run that resumes, or a new one.

    A checkpoint also holds the weights, which Lightning loads into a given network.

    Raises:
        ValueError: The network does not exist, or has other knobs than the settings.
    """
    if network is None and folder.checkpoint.is_file() and folder.model.is_file():
        return load_network(folder.model, scale=settings.scale)[0].train()
    torch.manual_seed(settings.seed)
    model = network or build_network(**{"scale": settings.scale, **model_kwargs, **settings.model})
    if settings.knobs and not isinstance(model, ConditionedNetwork):
        if not isinstance(model, Restorer):
            raise ValueError(f"The network {settings.model['name']} supports no knobs; use numbers in the formula.")
        model = ConditionedNetwork(model, settings.knobs)
    if isinstance(model, ConditionedNetwork) and dict(model.knobs) != dict(settings.knobs):
        raise ValueError(
            f"The network has the knobs {model.knobs}, but the run asks for {dict(settings.knobs)}. "
            "Use the same ranges."
        )
    return model.train()


def check_optimizer(settings: Settings, model: Network) -> None:
    """Raise ValueError if the optimizer cannot be built, or does not suit the learning-rate schedule."""
    optimizer = build_optimizer(
        settings.optimizer,
        model.parameters(),
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        options=settings.optimizer_options,
    )
    if has_evaluation_mode(optimizer) and settings.schedule != "constant":
        raise ValueError(
            f"The optimizer {settings.optimizer} averages its weights in place of a falling learning rate; use "
            f"--schedule constant; got {settings.schedule}."
        )


def check_network(task: Task, model: Network) -> None:
    """Raise ValueError if a network does not suit a task."""
    needed = task.in_channels - 3 + task.pixels.channels
    if model.in_channels != needed:
        raise ValueError(
            f"{task.name} needs a network with {needed} input channels; {model.spec['name']} has "
            f"{model.in_channels}. Use --model {task.default_model} or another network that fits."
        )
    task.check_model(model)


def numeric_loss(run: PreparedRun, folder: RunFolder) -> tuple[Loss, CalibrationReport | None]:
    """Return the loss with numbers for its shares and, with ``calibrate``, weights in units of equal gradient norms.

    Gradient norms are measured once in a run. A balancer that interprets weights as shares receives the shares
    unmeasured.

    Returns:
        The loss, and the report of the measurement; None without a measurement in this session.
    """
    loss, settings = run.loss, run.settings
    has_shares = any(weight.share is not None for weight in loss.weights)
    if has_shares and run.balance is not None and run.balance.weights_are_shares:
        return loss.reweighted(shares_to_weights(loss.weights)), None
    if not (settings.calibrate or has_shares):
        return loss, None
    record = folder.path / "calibration.json"
    if folder.checkpoint.is_file() and record.is_file():
        return parse(json.loads(record.read_text(encoding="utf-8"))["loss"]), None
    run.model.eval()
    report = calibrate(pin_constant_inputs(loss, run.task), calibration_batches(run))
    run.model.train()
    return report.rescale() if settings.calibrate else report.resolve_shares(), report


def calibration_batches(run: PreparedRun) -> Iterator[Mapping[str, Tensor]]:
    """Yield the loss inputs of the batches at which gradient norms are measured."""
    settings, task = run.settings, run.task

    def predict(image: Tensor, **kwargs: Any) -> Tensor:
        with torch.no_grad():
            pred: Tensor = run.model(image, **settings.knob_midpoints, **kwargs)
        return pred.requires_grad_()  # inputs derived from the prediction, such as a filled hole, then depend on it

    for index in range(CALIBRATION_BATCHES):
        samples = [run.data.training_set[index * settings.batch + i] for i in range(settings.batch)]
        inputs = task.compute_inputs(run.model if task.is_generative else predict, default_collate(samples))
        yield task.calibration_inputs(inputs)
