"""One run with Lightning: from where its folder stands to its last step."""

import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, Trainer
from rich.console import Console
from torch.utils.data import DataLoader

from lossmith.tasks import Items
from lossmith.train.checkpoint import AtomicIO, Checkpoints
from lossmith.train.folder import RunFolder
from lossmith.train.log import Record
from lossmith.train.log_stream import Batches, Reading
from lossmith.train.module import Training
from lossmith.train.progress import Display
from lossmith.train.settings import Settings
from lossmith.train.tensorboard import board

__all__ = ["fit"]


def fit(
    module: Training,
    items: Items,
    folder: RunFolder,
    settings: Settings,
    *,
    export: Callable[[Training, Path], object],
    callbacks: Sequence[Callback] = (),
    console: Console | None = None,
    devices: int | str = "auto",
    accelerator: str = "auto",
    workers: int | None = None,
) -> int:
    """Trains a module from where its folder stands.

    Args:
        module: The task, the network and the loss.
        items: An endless row: the example of an index is a function of the index alone.
        folder: The run's folder, which has been claimed.
        settings: What was asked.
        export: Writes the averaged weights to a file.
        callbacks: What else is done after steps, before the checkpoint.
        console: Where to show the progress; None for the standard output.
        devices: How many, or "auto".
        accelerator: "cpu", "gpu", "auto", ... as Lightning names them.
        workers: Processes that read pictures; None for 4 beside a GPU, and none on a CPU, which they disturb.

    Returns:
        The step that was reached; less than asked if somebody stopped it.

    Raises:
        ValueError: The checkpoint cannot be read, a term was not finite, or the machine has not what is asked for.
        OSError: The folder cannot be written.
    """
    start = stands_at(folder)
    rank_zero_only(folder.rewind)(start)
    if start >= settings.steps:
        return start
    pictures = settings.batch * settings.accumulate
    record = Record(folder, module.loss, every=settings.log_every, pictures=pictures)
    console = console or Console()
    display = Display(record, pictures=pictures, console=console)
    saving = Checkpoints(
        folder, every=settings.checkpoint_every, listen=settings.log_every, export=export, console=console
    )
    with quiet():
        trainer = made(folder, settings, [record, *callbacks, display, saving], accelerator, devices, start)
        loader: DataLoader[Any] = DataLoader(
            Reading(items),
            batch_sampler=Batches(
                settings.batch, start=start * settings.accumulate, rank=trainer.global_rank, world=trainer.world_size
            ),
            num_workers=(0 if trainer.strategy.root_device.type == "cpu" else 4) if workers is None else workers,
            worker_init_fn=deaf,
            pin_memory=trainer.strategy.root_device.type == "cuda",
        )
        if (source := getattr(items, "source", None)) is not None:

            def sources(batch: int, rank: int) -> list[str]:
                row = Batches(settings.batch, start=batch, rank=rank, world=trainer.world_size)
                return [Path(source(index)).name for index in next(iter(row))]

            module.quarantine.sources = sources
        hearing = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, loader, ckpt_path=folder.checkpoint if start else None)
        except ValueError as error:
            if "in DataLoader worker" in str(error):  # what the process said comes with its traceback
                raise ValueError(str(error).strip().splitlines()[-1].removeprefix("ValueError: ")) from error
            raise
        except SystemExit:  # which Lightning makes of Ctrl-C, and is deaf from then on
            signal.signal(signal.SIGINT, hearing)
            raise KeyboardInterrupt from None
    return trainer.global_step


def made(
    folder: RunFolder, settings: Settings, callbacks: list[Callback], accelerator: str, devices: int | str, start: int
) -> Trainer:
    """Lightning's trainer: steps instead of epochs, and nothing that writes beside the folder.

    Raises:
        ValueError: The machine has no such accelerator, devices or precision.
    """
    try:
        trainer = Trainer(
            accelerator=accelerator,
            devices=devices,
            precision=settings.precision,
            max_steps=settings.steps,
            max_epochs=-1,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip or None,
            callbacks=callbacks,
            logger=board(folder.path, start=start),
            plugins=[AtomicIO()],
            default_root_dir=folder.path,
            use_distributed_sampler=False,  # Batches shares out
            limit_val_batches=0,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            benchmark=True,  # every batch of a training has one shape
        )
    except (MisconfigurationException, RuntimeError, TypeError) as error:
        raise ValueError(f"{accelerator} with {devices} devices cannot be had here: {error}") from error
    if trainer.precision not in (settings.precision, f"{settings.precision}-true"):
        raise ValueError(f"precision {settings.precision} cannot be had on this device; take bf16-mixed or 32.")
    return trainer


def stands_at(folder: RunFolder) -> int:
    """The step of the checkpoint; 0 without one.

    Raises:
        ValueError: There is one that cannot be read.
    """
    if not folder.checkpoint.is_file():
        return 0
    try:
        return int(torch.load(folder.checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{str(folder.checkpoint)!r} cannot be read ({reason}); delete it to begin again, or give another --out."
        ) from error


def deaf(worker: int) -> None:
    """Leaves Ctrl-C to the process that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps back what Lightning says about things that are so on purpose."""
    talkers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [talker.level for talker in talkers]
    for talker in talkers:
        talker.setLevel(logging.ERROR)
    os.environ.setdefault("POSSIBLE_USER_WARNINGS", "off")  # Lightning's own switch
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
        warnings.filterwarnings("ignore", message=".*fp16 is not supported on CPU.*")  # which we refuse
        warnings.filterwarnings("ignore", category=FutureWarning)
        try:
            yield
        finally:
            for talker, level in zip(talkers, levels, strict=True):
                talker.setLevel(level)
