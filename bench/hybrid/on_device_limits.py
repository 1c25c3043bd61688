"""Limits of a measurement on a device: of its time, and of what may fail."""

import contextlib
import gc
import signal

import torch

from lossmith.device import is_out_of_memory


class OutOfTime(BaseException):
    """The time of a part is over; no error of what is measured, and therefore not an Exception."""


@contextlib.contextmanager
def time_limit(seconds):
    """Raise OutOfTime in the main thread after some seconds, on systems with timers."""
    if seconds <= 0:
        raise OutOfTime
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_):
        raise OutOfTime

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def describe_failure(error):
    """Return an error as one line."""
    reason = "out of memory" if is_out_of_memory(error) else f"{type(error).__name__}: {error}".partition("\n")[0]
    return reason[:200]


def free_memory(device):
    """Return the memory of deleted tensors to the device."""
    gc.collect()
    if device.type != "cpu":
        torch.accelerator.empty_cache()
