"""How a term behaves when it is called: what it changes, what is random in it, and in which precision it computes."""

from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lossmith.doctor.probe import TermProbe
from lossmith.doctor.report import Finding, join_names, dtype_name
from lossmith.losses.external import External

__all__ = ["check_mutation", "check_determinism", "check_state", "check_output_shape", "check_precision"]

ASKS = ("item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__")
"""What copies a value from the device to the host."""
HALVES = (torch.float16, torch.bfloat16)


def check_output_shape(patient: TermProbe) -> Iterator[Finding]:
    """Whether it gives one value an image."""
    shape = tuple(patient.ask(patient.views, gradient=False).value.shape)
    count = len(next(iter(patient.views.values())))
    if shape != (count,):
        yield patient.finds(
            "error",
            "shape",
            f"It gives {shape} for {count} images.",
            f"Give one value an image, ({count},): average over all axes but the first.",
        )


def check_mutation(patient: TermProbe) -> Iterator[Finding]:
    """Whether it overwrites the pictures that it is given."""
    given = {name: view.clone() for name, view in patient.one.items()}
    versions = {name: view._version for name, view in given.items()}
    with torch.no_grad():
        patient.loss.evaluate(given)
    off = {name: float((view.double() - patient.one[name].double()).abs().max()) for name, view in given.items()}
    if changed := [name for name, view in given.items() if off[name] or view._version != versions[name]]:
        yield patient.finds(
            "error",
            "mutated",
            f"It overwrites what it is given ({join_names(changed)}, by up to {max(off.values()):.3g}): the next term, and "
            "the next call, see another picture.",
            "Let it work on a copy, or without in-place operations (x = x - m, not x -= m).",
        )
    if isinstance(foreign := patient.term.distance, External) and patient.term.lens is None and len(patient.one) == 2:
        x, y = (view[:1].clone() for view in patient.one.values())
        kept = x.clone(), y.clone()
        with torch.no_grad():
            foreign.ask(x, y)
        if not all(map(torch.equal, (x, y), kept)):
            yield patient.finds("note", "mutated", "It overwrites what it is given; External gives it copies.")


def check_determinism(patient: TermProbe) -> Iterator[Finding]:
    """Whether two calls on the same pictures agree, and whether others' random numbers are drawn."""
    before = torch.get_rng_state()
    first = patient.ask(patient.one, gradient=False).value
    drew = not torch.equal(torch.get_rng_state(), before)
    second = patient.ask(patient.one, gradient=False).value
    off = float(((first - second).abs() / first.abs().clamp_min(1e-12)).max()) if len(first) else 0.0
    if off > 1e-4:  # less is the order of summation
        yield patient.finds(
            "error",
            "check_determinism",
            f"Two calls on the same pictures in training mode differ by {off:.1%}.",
            "Put its layers in eval mode for good, or give it a seeded generator of its own.",
        )
    elif drew:
        yield patient.finds(
            "warning",
            "check_determinism",
            "It draws from PyTorch's global random numbers, so that adding it changes what the rest of a run draws.",
            "Give it a seeded generator of its own.",
        )


def check_state(patient: TermProbe, before: dict[str, Tensor]) -> Iterator[Finding]:
    """Whether being evaluated has changed the values of its own parameters or buffers."""
    after = patient.state()
    kept = {name: t for name, t in after.items() if name in before}
    if changed := [n for n, t in kept.items() if t.dtype == before[n].dtype and not torch.equal(t, before[n])]:
        yield patient.finds(
            "error",
            "state",
            f"Evaluating it changes its own state ({join_names(changed)}): a validation step then changes the training.",
            "Put its layers in eval mode for good, or change state in `study`, which only training calls.",
        )


def check_precision(patient: TermProbe) -> Iterator[Finding]:
    """In which precision it computes, what comes out, and whether it waits for the device."""
    watch = _Watch()
    with watch:
        answer = patient.ask(patient.one)
    if watch.halved:
        yield patient.finds(
            "error",
            "precision",
            f"Given float32 pictures it computes in half precision ({join_names(sorted(watch.halved))}), where sums "
            "overflow at 65,504 or lose their digits.",
            "Let only convolutions run in half precision; keep sums, norms and Gram matrices in float32.",
        )
    elif answer.value.dtype.itemsize < 4:
        yield patient.finds(
            "error",
            "precision",
            f"Given float32 pictures its value is {dtype_name(answer.value.dtype)}.",
            "Give the value in float32.",
        )
    if watch.asked:
        yield patient.finds(
            "note",
            "waits",
            f"It asks the device for a number {watch.asked} times a call, and a GPU stands still meanwhile.",
            "Leave .item(), bool(tensor) and checks of values out of it.",
        )


@final
class _Watch(TorchFunctionMode):
    """Sees every call of PyTorch: which gave half precision, and how often a number was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.halved: set[str] = set()
        self.asked = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        self.asked += name in ASKS
        if isinstance(out, Tensor) and out.dtype in HALVES and name != "__get__":
            self.halved.add(name)
        return out
