"""One session of a run with Lightning: from the step of its checkpoint to its last step."""

import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from rich.console import Console

from lossmith.data.cache import ImageCache
from lossmith.device import trainer_devices
from lossmith.monitor.nonfinite_report import NonFiniteError
from lossmith.tasks import TrainingSet
from lossmith.train.checkpoint import AtomicCheckpointIO, CheckpointWriter
from lossmith.train.data_stream import (
    EndlessBatchSampler,
    TimedLoader,
    choose_workers,
    suggest_cure,
)
from lossmith.train.folder import RunFolder
from lossmith.train.log import LogWriter, StepCallback
from lossmith.train.loggers import ImageLogger, build_loggers, finish_loggers, log_configuration
from lossmith.train.module import TrainingModule
from lossmith.train.progress import TrainingProgress
from lossmith.train.settings import Settings
from lossmith.train.strategies import Strategy, build_strategy

__all__ = ["fit"]

LOST_WORKER = (
    "The system ended a data-loading process, usually for lack of memory, or of shared memory (/dev/shm, in containers "
    "--shm-size). Use fewer --workers, or 0, and rerun the command to resume from the last checkpoint."
)
PREFETCHED_BATCHES = 4
"""Batches that each data-loading process prepares in advance: some images take much longer than others."""


def fit(
    module: TrainingModule,
    items: TrainingSet,
    folder: RunFolder,
    settings: Settings,
    *,
    export: Callable[[TrainingModule, Path], object],
    callbacks: Sequence[Callback] = (),
    selection: Sequence[Callback] = (),
    console: Console | None = None,
    device: str | torch.device = "auto",
    devices: int = 1,
    nodes: int = 1,
    strategy: Strategy = "auto",
    workers: int | None = None,
    cache: ImageCache | None = None,
    loggers: Sequence[str] = ("tensorboard",),
) -> int:
    """Train a module from the step of its folder's checkpoint.

    Args:
        module: The module.
        items: The endless training set; a sample depends only on its index.
        folder: The run folder, which has been claimed.
        settings: The settings of the run.
        export: Writes the averaged weights to a file.
        callbacks: Callbacks that run before the progress is printed and the checkpoint is written.
        selection: Callbacks that run between the two.
        console: The console of the progress display; None for standard output.
        device: The device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        devices: The number of processes on a machine, each with a device of its own.
        nodes: The number of machines.
        strategy: "auto", "ddp" or "fsdp", see :func:`lossmith.train.strategies.build_strategy`.
        workers: Data-loading processes; None for a number that fits, see :func:`choose_workers`.
        cache: The cache of the training set, for the cure if the training waits for data.
        loggers: The names of the loggers, besides log.jsonl, see :mod:`lossmith.train.loggers`.

    Returns:
        The last step; less than ``settings.steps`` if the run was interrupted.

    Raises:
        ValueError: The checkpoint cannot be read, a term stayed non-finite, or the devices or the precision are
            not available.
        OSError: The folder cannot be written.
    """
    start = checkpoint_step(folder)
    rank_zero_only(folder.rewind)(start)
    if start >= settings.steps:
        return start
    console, images = console or Console(), settings.batch * settings.accumulate
    log = LogWriter(folder, module.loss, every=settings.log_every, images=images)
    progress = TrainingProgress(log, console=console)
    checkpoints = CheckpointWriter(
        folder, every=settings.checkpoint_every, poll_every=settings.log_every, export=export, console=console
    )
    with suppress_warnings():
        opened = build_loggers(loggers, folder, start=start)
        log_configuration(opened, {**asdict(settings), "loss": repr(module.loss)}, is_resumed=start > 0)
        images_callback = ImageLogger(folder, every=settings.val_every)
        every_callback = [log, *callbacks, images_callback, progress, *selection, checkpoints]
        where: dict[str, Any] = trainer_devices(device, devices, nodes)
        where["strategy"] = build_strategy(strategy, devices * nodes, settings.precision)
        trainer = build_trainer(folder, settings, every_callback, opened, where)
        loader = build_loader(items, settings, trainer, start=start, workers=workers)
        log.seconds_waited = lambda: loader.waited
        others = [each for each in every_callback if isinstance(each, StepCallback) and each is not log]
        log.seconds_paused = lambda: sum(each.seconds_taken for each in others)
        progress.suggest_cure = partial(suggest_cure, loader.num_workers, cache or ImageCache())
        module.monitor.name_images(file_names(items, settings, trainer))
        with raise_plain_errors(), name_checkpoint(folder):
            trainer.fit(module, loader, ckpt_path=folder.checkpoint if start else None)
        finish_loggers(opened)
        trainer.strategy.barrier()  # all files are written when this function returns in any process
    return trainer.global_step


def checkpoint_step(folder: RunFolder) -> int:
    """Return the step of the checkpoint; 0 without a checkpoint.

    Raises:
        ValueError: The checkpoint cannot be read.
    """
    if not folder.checkpoint.is_file():
        return 0
    try:
        return int(torch.load(folder.checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{str(folder.checkpoint)!r} cannot be read ({reason}). Use another --out, or delete the run's folder "
            "to train again."
        ) from error


def build_trainer(
    folder: RunFolder,
    settings: Settings,
    callbacks: list[Callback],
    loggers: list[Logger],
    devices: Mapping[str, Any],
) -> Trainer:
    """Return Lightning's trainer, which counts steps instead of epochs and writes to the run folder alone.

    Raises:
        ValueError: The devices or the precision are not available.
    """
    try:
        trainer = Trainer(
            **devices,
            precision=settings.precision,
            max_steps=settings.steps,
            max_epochs=-1,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip or None,
            callbacks=callbacks,
            logger=loggers,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder.path,
            use_distributed_sampler=False,  # EndlessBatchSampler divides batches among the devices
            limit_val_batches=0,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            benchmark=True,  # all batches of a run have the same shape
        )
    except (MisconfigurationException, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{devices['devices']} devices of {devices['accelerator']} are not available: {error}"
        ) from error
    if trainer.precision not in (settings.precision, f"{settings.precision}-true"):
        raise ValueError(f"Precision {settings.precision} is not available on this device; use bf16-mixed or 32.")
    return trainer


def build_loader(
    items: TrainingSet, settings: Settings, trainer: Trainer, *, start: int, workers: int | None
) -> TimedLoader:
    """Return the loader of the batches from a step on."""
    device = trainer.strategy.root_device
    if workers is None:
        first = start * settings.accumulate * settings.batch
        workers = choose_workers(items, device.type, start=first, devices=trainer.num_devices)
    return TimedLoader(
        items,
        device,
        batch_sampler=EndlessBatchSampler(
            settings.batch, start=start * settings.accumulate, rank=trainer.global_rank, world=trainer.world_size
        ),
        num_workers=workers,
        worker_init_fn=ignore_sigint,
        pin_memory=device.type == "cuda",
        prefetch_factor=PREFETCHED_BATCHES if workers else None,
    )


def file_names(
    items: TrainingSet, settings: Settings, trainer: Trainer
) -> Callable[[int, int, int], Sequence[str]] | None:
    """Return a function from step, micro-batch and rank to the files of the images; None if samples have no files."""
    source = getattr(items, "source", None)
    if source is None:
        return None

    def names(step: int, micro_batch: int, rank: int) -> list[str]:
        start = step * settings.accumulate + micro_batch
        sampler = EndlessBatchSampler(settings.batch, start=start, rank=rank, world=trainer.world_size)
        return [Path(source(index)).name for index in next(iter(sampler))]

    return names


def ignore_sigint(worker: int) -> None:
    """Leave Ctrl-C to the training process; for data-loading processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def name_checkpoint(folder: RunFolder) -> Iterator[None]:
    """Add the last checkpoint, if there is one, to the message of a training that diverged."""
    try:
        yield
    except NonFiniteError as error:
        step = checkpoint_step(folder)
        saved = f"The last checkpoint is of step {step}." if step else "No checkpoint was saved before."
        raise NonFiniteError(f"{error} {saved}") from error


@contextmanager
def raise_plain_errors() -> Iterator[None]:
    """Raise the error of a data-loading process as one line, and KeyboardInterrupt for SystemExit."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except (ValueError, OSError) as error:
        if "in DataLoader worker" in str(error):  # the message contains the traceback of the process
            raise type(error)(str(error).strip().splitlines()[-1].partition(": ")[2]) from error
        raise
    except RuntimeError as error:
        if "DataLoader worker (pid" in str(error):
            raise ValueError(LOST_WORKER) from error
        raise
    except SystemExit:  # Lightning raises SystemExit on Ctrl-C, and ignores SIGINT from then on
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Suppress Lightning's messages about choices that are intended."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    os.environ.setdefault("POSSIBLE_USER_WARNINGS", "off")  # Lightning's own switch
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message="This DataLoader will create.*")  # --workers was given
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
        warnings.filterwarnings("ignore", message=".*fp16 is not supported on CPU.*")  # build_trainer raises
        warnings.filterwarnings("ignore", category=FutureWarning)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
