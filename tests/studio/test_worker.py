"""The process for computations on input of unknown users; one process serves all tests."""

import os
import socket
import time

import pytest

pytest.importorskip("gradio")

from lossmith import ExpressionError, parse
from lossmith.studio.worker import Worker, WorkerError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def worker():
    worker = Worker(memory_gb=3)
    worker.start()
    yield worker
    worker.stop()


def test_results_and_errors_come_back(worker):
    assert worker.run(60, len, [1, 2]) == 2
    with pytest.raises(ExpressionError) as raised:
        worker.run(60, parse, "L1 + LL1")
    assert raised.value.column == 5


def test_an_unexpected_error_is_one_line(worker):
    with pytest.raises(WorkerError, match="The computation failed: TypeError"):
        worker.run(60, len, 3)


def test_memory_beyond_the_limit_is_an_error_and_the_process_goes_on(worker):
    process = worker.run(60, os.getpid)
    with pytest.raises(WorkerError, match="needs more memory"):
        worker.run(60, bytes, 20_000_000_000)
    with pytest.raises(WorkerError, match="needs more memory"):
        worker.run(60, parse, "Adversarial(width=30000)")
    assert worker.run(60, os.getpid) == process


def test_no_connection_is_opened(worker):
    with pytest.raises(WorkerError, match="the studio opens no connection"):
        worker.run(60, socket.create_connection, ("127.0.0.1", 9))


def test_the_working_directory_is_empty(worker):
    assert worker.run(60, os.listdir) == []


def test_a_process_that_is_stopped_is_replaced(worker):
    process = worker.run(60, os.getpid)
    started = time.monotonic()
    with pytest.raises(WorkerError, match=r"stopped after 0\.2 seconds"):
        worker.run(0.2, time.sleep, 60)
    assert time.monotonic() - started < 30
    with pytest.raises(WorkerError, match="or crashed"):
        worker.run(60, os._exit, 1)
    assert worker.run(60, os.getpid) != process
