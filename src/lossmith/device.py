"""Devices by name, for all commands and the trainer: which one a name stands for, and what it can do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "assign_device",
    "check_training_precision",
    "count_cores",
    "fork_rng",
    "is_on_host",
    "is_out_of_memory",
    "resolve_device",
    "synchronize",
    "to_double",
    "trainer_devices",
    "widest_float",
]

HOST_TYPES = ("cpu",)
"""The types of devices whose memory the host reads without a wait."""

TRAINER_TYPES = ("cpu", "cuda", "mps")
"""The types of devices on which Lightning trains."""
LAUNCHER_VARIABLES = {"RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"}
"""The variables by which torchrun, SLURM and LSF tell a process its rank."""
NO_FLOAT64 = ("mps",)
"""The types of devices without double precision."""


def count_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """Return the device of a name: the machine's accelerator for "auto", or the CPU without one.

    Args:
        name: "auto", "cpu", or an accelerator of torch, "cuda", "cuda:1", "mps", "xpu", ...

    Raises:
        ValueError: The device is unknown, or this machine does not have it.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(f"device must be auto, cpu, cuda, cuda:1, mps or xpu; got {name!r}.") from None
    if device.type == "cpu":
        return device
    if accelerator is None or device.type != accelerator.type:
        others = "cpu" if accelerator is None else f"cpu or {accelerator.type}"
        raise ValueError(f"The device {str(name)!r} is not available on this machine; use {others}.")
    if device.index is not None and device.index >= (count := torch.accelerator.device_count()):
        last = f"{device.type}:{count - 1}"
        raise ValueError(f"There is no device {str(name)!r}; the last one of this machine is {last}.")
    return device


def assign_device(name: str, index: int) -> torch.device:
    """Return the device of a worker process, so that several workers use the accelerators in turn.

    Args:
        name: The name of a device, as for :func:`resolve_device`.
        index: The number of the worker, from 0.

    Raises:
        ValueError: The device is unknown, or this machine does not have it.
    """
    device = resolve_device(name)
    if device.type == "cpu" or device.index is not None:
        return device
    return torch.device(device.type, index % torch.accelerator.device_count())


def trainer_devices(name: str | torch.device, count: int, nodes: int = 1) -> dict[str, Any]:
    """Return the arguments ``accelerator``, ``devices`` and ``num_nodes`` of Lightning's trainer.

    Args:
        name: The name of a device, as for :func:`resolve_device`.
        count: The number of processes on a machine, each with a device of its own; on a CPU they share the cores.
        nodes: The number of machines.

    Raises:
        ValueError: The device is unknown or not available, Lightning cannot train on it, there are fewer, or a launcher
            has not started the processes of several machines.
    """
    device = resolve_device(name)
    if nodes > 1 and not LAUNCHER_VARIABLES & os.environ.keys():
        raise ValueError(
            f"A training on {nodes} nodes needs a launcher that runs this command on each of them: torchrun, or srun."
        )
    if device.type not in TRAINER_TYPES:
        raise ValueError(f"Training runs on {', '.join(TRAINER_TYPES)}; got the device {str(device)!r}.")
    if device.index is not None and count > 1:
        raise ValueError(f"The device {str(device)!r} is one; with --devices {count} use {device.type}.")
    if device.type != "cpu" and count > torch.accelerator.device_count():
        raise ValueError(f"This machine has {torch.accelerator.device_count()} {device.type} devices; got {count}.")
    return {
        "accelerator": device.type,
        "devices": count if device.index is None else [device.index],
        "num_nodes": nodes,
    }


def check_training_precision(name: str | torch.device, precision: str) -> None:
    """Raise ValueError if a GPU only emulates bfloat16, which is slower than float32.

    Args:
        name: The name of a device, as for :func:`resolve_device`.
        precision: The precision of a training, "32", "bf16-mixed" or "16-mixed".
    """
    device = resolve_device(name)
    if precision != "bf16-mixed" or device.type != "cuda" or torch.version.hip:
        return
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        raise ValueError(
            f"{torch.cuda.get_device_name(device)} (compute capability {major}.{minor}) has no bfloat16; "
            "use the precision 16-mixed or 32."
        )


@contextmanager
def fork_rng(device: torch.device) -> Iterator[None]:
    """Restore the random states of the CPU and of a device at the end of the block."""
    if device.type in ("cpu", "meta"):
        with torch.random.fork_rng(devices=[]):
            yield
    else:
        with torch.random.fork_rng(devices=[device.index or 0], device_type=device.type):
            yield


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its work; a CPU has."""
    if device.type not in ("cpu", "meta"):
        torch.accelerator.synchronize(device)


def is_on_host(tensor: Tensor) -> bool:
    """Return whether the values of a tensor can be read now and without a wait for a device."""
    return type(tensor) is Tensor and tensor.device.type in HOST_TYPES and not torch.compiler.is_compiling()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a device had too little memory; MPS has no class of its own for this error."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)


def widest_float(device: torch.device) -> torch.dtype:
    """Return the most precise floating-point type of a device: float64, or float32 where there is none."""
    return torch.float32 if device.type in NO_FLOAT64 else torch.float64


def to_double(tensor: Tensor) -> Tensor:
    """Return a tensor in double precision, moved to the CPU if its device has none."""
    return (tensor.cpu() if tensor.device.type in NO_FLOAT64 else tensor).to(torch.float64)
