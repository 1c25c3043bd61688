"""A process for computations on input of unknown users, which is stopped at a time limit and has a memory limit."""

import atexit
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn, ParamSpec, TypeVar, final

from lossmith._checks import check_number
from lossmith.studio.temporary import use_temporary_folder

__all__ = ["Worker", "WorkerError"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

START_SECONDS = 300.0
"""The time limit for the start of the process, which imports torch."""


class WorkerError(ValueError):
    """A computation was stopped: at the time limit, at the memory limit, or by an unexpected error."""


@final
class Worker:
    """A process that runs one function at a time, and is replaced when it is stopped.

    The process has an empty working directory. It ends with the process that started it.

    Args:
        memory_gb: The largest number of gigabytes that it may allocate; not limited on Windows.
        is_offline: Whether it may open no connection to the network.
    """

    def __init__(self, *, memory_gb: float = 8.0, is_offline: bool = True) -> None:
        self.memory_gb = check_number("memory_gb", memory_gb, low=1)
        self.is_offline = is_offline
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        atexit.register(self.stop)

    @property
    def is_busy(self) -> bool:
        """Whether a function is running."""
        return self._lock.locked()

    def run(
        self, seconds: float, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Result:
        """Return the result of a function that runs in the process.

        Args:
            seconds: The time limit.
            function: A function of a module.
            args: Its positional arguments, which can be pickled, as its result must be.
            kwargs: Its keyword arguments.

        Raises:
            ValueError: The function raised one.
            WorkerError: The function was stopped, or raised another exception.
        """
        with self._lock:
            connection = self._start()
            connection.send((function, args, kwargs))
            try:
                if not connection.poll(seconds):
                    self.stop()
                    raise WorkerError(
                        f"The computation was stopped after {seconds:g} seconds; use fewer or smaller terms."
                    )
                succeeded, result = connection.recv()
            except (EOFError, ConnectionError):
                self.stop()
                raise WorkerError(
                    f"The computation was stopped: it needs more than {self.memory_gb:g} GB of memory, or crashed."
                ) from None
        if succeeded:
            return result  # type: ignore[no-any-return]
        raise result

    def start(self) -> None:
        """Start the process, so that the first function does not wait for it."""
        with self._lock, suppress(WorkerError, OSError):
            self._start()

    def stop(self) -> None:
        """Stop the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _start(self) -> Connection:
        """Return the connection to the process, which is started if there is none."""
        if self._connection is None or self._process is None or not self._process.is_alive():
            self.stop()
            context = multiprocessing.get_context("spawn")
            connection, inner = context.Pipe()
            self._connection = connection  # which stop sets to None at the end of the server
            folder = tempfile.mkdtemp(prefix="worker-", dir=use_temporary_folder())
            limits = (inner, self.memory_gb, self.is_offline, folder)
            self._process = context.Process(target=_serve, args=limits, daemon=True, name="lossmith-studio-worker")
            self._process.start()
            inner.close()
            try:
                is_ready = connection.poll(START_SECONDS) and connection.recv()
            except (EOFError, ConnectionError):
                is_ready = False
            if not is_ready:
                self.stop()
                raise WorkerError("The process of the studio's formulas does not start; see the server's output.")
            return connection
        return self._connection


def _serve(connection: Connection, memory_gb: float, is_offline: bool, folder: str) -> None:
    """Run the functions that arrive, until the other side is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the server, which ends the connection
    if is_offline:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    import torch

    import lossmith.studio.formula  # noqa: F401 - imported before the limits apply
    from lossmith.device import count_cores

    torch.set_num_threads(max(1, min(torch.get_num_threads(), count_cores() // 2)))
    os.chdir(folder)
    limit_memory(memory_gb)
    if is_offline:
        socket.socket.connect = _refuse_connection  # type: ignore[method-assign,assignment]
        socket.getaddrinfo = _refuse_connection
    connection.send(True)
    with suppress(EOFError, ConnectionError):
        while True:
            function, args, kwargs = connection.recv()
            connection.send(_call(function, args, kwargs))


def _call(function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[bool, Any]:
    """Return whether a function succeeded, and its result or exception."""
    try:
        return True, function(*args, **kwargs)
    except ValueError as error:
        error.__cause__ = error.__context__ = None
        return False, error
    except MemoryError:
        return False, WorkerError("The computation needs more memory than the studio has; use fewer or smaller terms.")
    except Exception as error:
        first = (str(error).splitlines() or [""])[0][:200]
        if "memory" in first.lower():  # torch's allocator raises RuntimeError
            return _call(_raise_memory_error, (), {})
        print(f"lossmith studio: {type(error).__name__}: {first}", file=sys.stderr, flush=True)
        return False, WorkerError(f"The computation failed: {type(error).__name__}: {first}")


def _raise_memory_error() -> NoReturn:
    raise MemoryError


def limit_memory(gigabytes: float) -> None:
    """Limit the memory that this process may allocate, where the system can."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        number = int(gigabytes * 1e9)
        resource.setrlimit(resource.RLIMIT_DATA, (number, number))


def _refuse_connection(*_: Any, **__: Any) -> NoReturn:
    raise OSError("the studio opens no connection; put the file where LOSSMITH_WEIGHTS points")
