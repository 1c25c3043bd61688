"""Checks of a term's call: output shape, side effects, determinism, precision."""

from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lossmith.device import to_double
from lossmith.doctor.probe import TermProbe
from lossmith.doctor.report import Finding, dtype_name, join_names
from lossmith.losses.external import External

__all__ = ["check_determinism", "check_mutation", "check_output_shape", "check_precision", "check_state"]

_SYNCHRONIZING = ("item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__")
"""The functions that copy a value from the device to the host."""
_HALF_DTYPES = (torch.float16, torch.bfloat16)


def check_output_shape(probe: TermProbe) -> Iterator[Finding]:
    """Check that the term returns one value per image."""
    shape = tuple(probe.evaluate(probe.inputs, gradient=False).value.shape)
    count = len(next(iter(probe.inputs.values())))
    if shape != (count,):
        yield probe.finding(
            "error",
            "shape",
            f"The term returns {shape} for {count} images.",
            f"Return one value per image, ({count},): average over all axes but the first.",
        )


def check_mutation(probe: TermProbe) -> Iterator[Finding]:
    """Check that the term does not modify its inputs."""
    given = {name: tensor.clone() for name, tensor in probe.single_inputs.items()}
    versions = {name: tensor._version for name, tensor in given.items()}
    with torch.no_grad():
        probe.loss.evaluate(given)
    changes = {n: float((to_double(t) - to_double(probe.single_inputs[n])).abs().max()) for n, t in given.items()}
    if changed := [name for name, tensor in given.items() if changes[name] or tensor._version != versions[name]]:
        yield probe.finding(
            "error",
            "mutation",
            f"The term modifies its inputs ({join_names(changed)}, by up to {max(changes.values()):.3g}), which other "
            "terms and later calls use.",
            "Work on a copy, or without in-place operations (x = x - m, not x -= m).",
        )
    external = probe.term.distance
    if isinstance(external, External) and probe.term.lens is None and len(probe.single_inputs) == 2:
        x, y = (tensor[:1].clone() for tensor in probe.single_inputs.values())
        originals = x.clone(), y.clone()
        with torch.no_grad():
            external.call_function(x, y)
        if not all(map(torch.equal, (x, y), originals)):
            yield probe.finding("note", "mutation", "The callable modifies its inputs; External passes copies.")


def check_determinism(probe: TermProbe) -> Iterator[Finding]:
    """Check that two calls on the same inputs agree and do not advance the global random state."""
    state = torch.get_rng_state()
    first = probe.evaluate(probe.single_inputs, gradient=False).value
    uses_global_state = not torch.equal(torch.get_rng_state(), state)
    second = probe.evaluate(probe.single_inputs, gradient=False).value
    difference = float(((first - second).abs() / first.abs().clamp_min(1e-12)).max()) if len(first) else 0.0
    if difference > 1e-4:  # less may come from the order of summation
        yield probe.finding(
            "error",
            "randomness",
            f"Two calls on the same inputs in training mode differ by {difference:.1%}.",
            "Keep its layers in eval mode, or use a seeded generator of its own.",
        )
    elif uses_global_state:
        yield probe.finding(
            "warning",
            "randomness",
            "The term uses PyTorch's global random state: adding it changes the random numbers of the rest of a run.",
            "Use a seeded generator of its own.",
        )


def check_state(probe: TermProbe, before: dict[str, Tensor]) -> Iterator[Finding]:
    """Check that evaluations have not changed the parameters and buffers of the term.

    Args:
        probe: The term.
        before: The state before the evaluations.
    """
    after = probe.copy_state()
    common = {name: t for name, t in after.items() if name in before}
    if changed := [n for n, t in common.items() if t.dtype == before[n].dtype and not torch.equal(t, before[n])]:
        yield probe.finding(
            "error",
            "state",
            f"An evaluation changes the state of the term ({join_names(changed)}): a validation step then changes the "
            "training.",
            "Keep its layers in eval mode, or change the state in `discriminator_step`, which only training calls.",
        )


def check_precision(probe: TermProbe) -> Iterator[Finding]:
    """Check that the term computes in float32 and does not synchronise with the device."""
    monitor = _FunctionMonitor()
    with monitor:
        result = probe.evaluate(probe.single_inputs)
    if monitor.half_functions:
        functions = join_names(sorted(monitor.half_functions))
        yield probe.finding(
            "error",
            "precision",
            f"Given float32 images, the term computes in half precision ({functions}), where sums overflow at 65,504 "
            "or lose digits.",
            "Use half precision only in convolutions; keep sums, norms and Gram matrices in float32.",
        )
    elif result.value.dtype.itemsize < 4:
        yield probe.finding(
            "error",
            "precision",
            f"Given float32 images, the value is {dtype_name(result.value.dtype)}.",
            "Return the value in float32.",
        )
    if monitor.synchronizations:
        yield probe.finding(
            "note",
            "synchronization",
            f"The term reads a number from the device {monitor.synchronizations} times per call; a GPU is idle "
            "meanwhile.",
            "Avoid .item(), bool(tensor) and checks of values.",
        )


@final
class _FunctionMonitor(TorchFunctionMode):
    """Records the PyTorch functions with half-precision results and the number of device synchronisations."""

    def __init__(self) -> None:
        super().__init__()
        self.half_functions: set[str] = set()
        self.synchronizations = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        self.synchronizations += name in _SYNCHRONIZING
        if isinstance(out, Tensor) and out.dtype in _HALF_DTYPES and name != "__get__":
            self.half_functions.add(name)
        return out
