"""Where a study keeps its trials, and how those of a killed worker come back: one address chooses."""

import os
import threading
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
    fail_stale_trials,
)
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

__all__ = ["WorkerHeartbeat", "is_journal", "open_storage", "original_number", "silence_optuna", "requeue", "requeue_orphans", "mark_started"]

RETRIES = 10
"""How often a trial is tried again that ended without a result; one that takes its worker down every time ends so."""

JOURNAL = ("journal:", ".log", ".journal")


@contextmanager
def silence_optuna() -> Iterator[None]:
    """Keeps back that parts of Optuna are experimental, of which we make use, and its own log of trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def requeue(study: Study, trial: FrozenTrial) -> None:
    """Puts a trial that ended without a result back into the queue, with what it drew."""
    with silence_optuna():
        RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)(study, trial)


def original_number(trial: FrozenTrial) -> int:
    """The number of the trial that this one tries again, or its own."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def open_storage(url: str | None, folder: Path, *, heartbeat: int) -> BaseStorage:
    """The storage at an address.

    Args:
        url: None for a file of SQLite in the study's folder; ``journal:FILE``, which a network drive can carry; or
            what SQLAlchemy reads, such as ``postgresql+psycopg2://user@host/base``.
        folder: The study's.
        heartbeat: Seconds between the signs of life of a worker's trial in a database; after three without one it is
            tried again.

    Raises:
        ValueError: There is no such storage, or nobody answers there.
    """
    url = url or f"sqlite:///{folder / 'study.db'}"  # not in WAL mode: a worker would see the queue of a while ago
    if is_journal(url):
        return JournalStorage(JournalFileBackend(url.removeprefix(JOURNAL[0])))
    wait = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None  # several write to one file
    try:
        with silence_optuna():
            return RDBStorage(
                url,
                engine_kwargs=wait,
                heartbeat_interval=heartbeat,
                grace_period=3 * heartbeat,
                heartbeat_stale_trial_callback=requeue,
            )
    except Exception as error:  # each driver has exceptions of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"The storage {url!r} cannot be opened: {reason}") from error


def is_journal(url: str | None) -> bool:
    """Whether an address is a journal's."""
    return url is not None and (url.startswith(JOURNAL[0]) or url.endswith(JOURNAL[1:]))


class WorkerHeartbeat:
    """The sign of life of a worker in a shared folder: a file that is touched as long as the worker lives.

    A journal has no heartbeats of its own, and a killed worker's trial would stay "running" in it for ever.

    Args:
        folder: The study's.
        every: Seconds between two touches.
    """

    def __init__(self, folder: Path, *, every: float) -> None:
        self.name = uuid.uuid4().hex[:12]
        self.place, self.every = folder / "workers", every
        self.ended = threading.Event()

    @property
    def file(self) -> Path:
        """What is touched."""
        return self.place / self.name

    def __enter__(self) -> "WorkerHeartbeat":
        self.place.mkdir(parents=True, exist_ok=True)
        self.file.touch()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.file.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self.ended.wait(self.every):
            with suppress(OSError):
                os.utime(self.file)

    def gone(self, trial: FrozenTrial) -> bool:
        """Whether the worker of a running trial is no more: its file is missing, or was not touched three times over.

        Both times are the file system's, so that the machines' clocks need not agree.
        """
        os.utime(self.file)
        grace = 3 * self.every
        worker, number = trial.user_attrs.get("worker", ("nobody", -1))
        if number != trial.number:  # of the attempt before: this one has hardly begun, or was killed as it did
            return is_orphaned(trial, grace)
        try:
            seen: float = (self.place / str(worker)).stat().st_mtime
            return self.file.stat().st_mtime - seen > grace
        except FileNotFoundError:
            return True


def mark_started(trial: Trial, presence: WorkerHeartbeat | None) -> None:
    """Marks a trial that has begun as this worker's, with its number: an attempt inherits the mark of the one before.

    What bears its mark has a sign of life too. Optuna's thread gives the first at some moment from now on, and who was
    killed before it would never be missed.
    """
    if presence is not None:
        trial.set_user_attr("worker", (presence.name, trial.number))
        return
    if beat := getattr(trial.storage, "record_heartbeat", None):  # a database has it
        beat(trial._trial_id)
    trial.set_user_attr("begun", trial.number)


def is_orphaned(trial: FrozenTrial, grace: float) -> bool:
    """Whether a running trial without its mark has been so for too long: its worker was killed before it could sign.

    Workers begin trials, and look for such ones, in turns; the time is for file systems without locks.
    """
    begun = trial.datetime_start
    return begun is not None and (datetime.now() - begun).total_seconds() > max(60.0, grace)


def requeue_orphans(study: Study, presence: WorkerHeartbeat | None, *, grace: float = 0.0) -> None:
    """Puts the trials of workers that were killed back into the queue: by a database's heartbeats, or by presence.

    Args:
        study: The study.
        presence: This worker's, on a journal.
        grace: Seconds in a database without a sign of life after which a worker is no more.
    """
    if presence is None:
        with silence_optuna():
            fail_stale_trials(study)  # of those that gave one
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if presence is not None:
            gone = presence.gone(trial)
        else:
            gone = trial.user_attrs.get("begun") != trial.number and is_orphaned(trial, grace)
        if gone:
            with suppress(ValueError, UpdateFinishedTrialError):  # another worker was first
                study.tell(trial.number, state=TrialState.FAIL)
                requeue(study, study.get_trials()[trial.number])
