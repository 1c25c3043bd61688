"""The storage of a study's trials, and the recovery of trials whose worker was killed."""

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
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import URL

__all__ = [
    "WorkerHeartbeat",
    "is_journal",
    "is_orphaned",
    "mark_started",
    "open_storage",
    "original_number",
    "requeue",
    "requeue_orphans",
    "silence_optuna",
]

MAX_RETRIES = 10
"""How often a trial without a result is run again; a trial that crashes its worker every time is then given up."""
JOURNAL_PREFIX = "journal:"
JOURNAL_SUFFIXES = (".log", ".journal")


@contextmanager
def silence_optuna() -> Iterator[None]:
    """Suppress Optuna's warnings of experimental functions, and its log of trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def requeue(study: Study, trial: FrozenTrial) -> None:
    """Enqueue a trial that ended without a result again, with the same parameters."""
    with silence_optuna():
        RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)(study, trial)


def original_number(trial: FrozenTrial) -> int:
    """Return the number of the trial that this trial repeats, or the trial's own number."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def open_storage(url: str | None, folder: Path, *, heartbeat: int) -> BaseStorage:
    """Open the storage of a study.

    Args:
        url: None for an SQLite file in the study's folder; ``journal:FILE``, which also works on a network drive; or a
            URL of SQLAlchemy, such as ``postgresql+psycopg2://user@host/base``.
        folder: The study's folder.
        heartbeat: Seconds between the heartbeats of a running trial in a database; after three missing heartbeats the
            trial is run again.

    Raises:
        ValueError: The storage cannot be opened.
    """
    url = url or _sqlite_url(folder / "study.db")  # not in WAL mode, in which a worker reads an outdated queue
    if is_journal(url):
        file = url.removeprefix(JOURNAL_PREFIX)
        lock = JournalFileOpenLock(file) if os.name == "nt" else None  # Windows users may not create links
        return JournalStorage(JournalFileBackend(file, lock_obj=lock))
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None  # several processes write
    try:
        with silence_optuna():
            return RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=heartbeat,
                grace_period=3 * heartbeat,
                heartbeat_stale_trial_callback=requeue,
            )
    except Exception as error:  # each database driver has its own exceptions
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"The storage {url!r} cannot be opened: {reason}") from error


def _sqlite_url(file: Path) -> str:
    """Return the URL of an SQLite file, whatever characters its path has.

    SQLite itself reads the quoted path: whether SQLAlchemy quotes the path of a database depends on its version, and
    Optuna formats the URL, so that braces must be quoted too.
    """
    url = URL.create("sqlite", database=file.absolute().as_uri(), query={"uri": "true"})
    return url.render_as_string(hide_password=False)


def is_journal(url: str | None) -> bool:
    """Return whether a URL is that of a journal file."""
    if url is None or "://" in url:
        return False
    return url.startswith(JOURNAL_PREFIX) or url.endswith(JOURNAL_SUFFIXES)


class WorkerHeartbeat:
    """The heartbeat of a worker in a shared folder: a file that is touched while the worker runs.

    Optuna's journal storage has no heartbeats, so the trial of a killed worker would stay in the state "running".

    Args:
        folder: The study's folder.
        interval: Seconds between two touches.
    """

    def __init__(self, folder: Path, *, interval: float) -> None:
        self.name = uuid.uuid4().hex[:12]
        self.folder, self.interval = folder / "workers", interval
        self.stopped = threading.Event()

    @property
    def file(self) -> Path:
        """The file that is touched."""
        return self.folder / self.name

    def __enter__(self) -> "WorkerHeartbeat":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.touch()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.file.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self.stopped.wait(self.interval):
            with suppress(OSError):
                os.utime(self.file)

    def is_stale(self, trial: FrozenTrial) -> bool:
        """Return whether the worker of a running trial is dead: its file is missing, or three touches are.

        Both times are those of the file system, so that the clocks of the machines need not agree.
        """
        os.utime(self.file)
        grace = 3 * self.interval
        worker, number = trial.user_attrs.get("worker", ("nobody", -1))
        if number != trial.number:  # the mark of the previous attempt: this one has just begun, or was killed early
            return is_orphaned(trial, grace)
        try:
            last_beat: float = (self.folder / str(worker)).stat().st_mtime
            return self.file.stat().st_mtime - last_beat > grace
        except FileNotFoundError:
            return True


def mark_started(trial: Trial, heartbeat: WorkerHeartbeat | None) -> None:
    """Mark a started trial with its worker and its number, because a repeated trial inherits the mark of the first one.

    In a database, a first heartbeat is recorded before the mark. Optuna's thread records its first heartbeat some time
    later, and a worker that is killed before would not be detected.
    """
    if heartbeat is not None:
        trial.set_user_attr("worker", (heartbeat.name, trial.number))
        return
    if record_heartbeat := getattr(trial.storage, "record_heartbeat", None):
        record_heartbeat(trial._trial_id)
    trial.set_user_attr("started", trial.number)


def is_orphaned(trial: FrozenTrial, grace: float) -> bool:
    """Return whether a running trial without a mark is older than a minute and than `grace` seconds.

    Its worker was killed before :func:`mark_started`. Workers hold the lock of the queue while they start a trial; the
    grace period is for file systems without locks.
    """
    started = trial.datetime_start
    return started is not None and (datetime.now() - started).total_seconds() > max(60.0, grace)


def requeue_orphans(study: Study, heartbeat: WorkerHeartbeat | None, *, grace: float = 0.0) -> None:
    """Enqueue the trials of killed workers again.

    Args:
        study: The study.
        heartbeat: The heartbeat of this worker, with a journal; None with a database, which has its own heartbeats.
        grace: Seconds after which a trial without a mark is orphaned, in a database.
    """
    if heartbeat is None:
        with silence_optuna():
            fail_stale_trials(study)  # which calls `requeue`, for trials with a heartbeat
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if heartbeat is not None:
            is_dead = heartbeat.is_stale(trial)
        else:
            is_dead = trial.user_attrs.get("started") != trial.number and is_orphaned(trial, grace)
        if is_dead:
            with suppress(ValueError, UpdateFinishedTrialError):  # another worker was faster
                study.tell(trial.number, state=TrialState.FAIL)
                requeue(study, study.get_trials()[trial.number])
