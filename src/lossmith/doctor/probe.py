"""A term under examination: what it says of some views, and what it is made of."""

import copy
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

from lossmith.doctor.inputs import Inputs, first_images
from lossmith.doctor.report import Finding, Severity
from lossmith.formula.loss import Hybrid
from lossmith.formula.term import Term
from lossmith.losses.external import External

__all__ = ["ProbeResult", "TermProbe", "copy_loss"]


@final
@dataclass(frozen=True)
class ProbeResult:
    """What a term says.

    Args:
        value: One value an image, (N,).
        gradients: The gradient of its mean at each view that may learn; None where none comes.
    """

    value: Tensor
    gradients: Mapping[str, Tensor | None] = field(default_factory=dict)

    @property
    def finite(self) -> tuple[bool, bool]:
        """Whether all values are numbers, and all gradients."""
        found = [gradient for gradient in self.gradients.values() if gradient is not None]
        return bool(self.value.isfinite().all()), all(bool(each.isfinite().all()) for each in found)

    @property
    def norm(self) -> float:
        """The norm of all gradients together."""
        return math.hypot(*(float(g.double().norm()) for g in self.gradients.values() if g is not None), 0.0)


@final
@dataclass(frozen=True)
class TermProbe:
    """One term, with weight 1, as a parent module in training has it.

    Args:
        name: The term's name.
        term: The term; its own copy.
        views: Ordinary views for it, pictures of noise.
        pictures: Which of these are pictures.
    """

    name: str
    term: Term
    views: Inputs
    pictures: tuple[str, ...]

    @functools.cached_property
    def loss(self) -> Hybrid:
        """The term as a loss."""
        return Hybrid([Term(self.term.distance, lens=self.term.lens, input_renames=self.term.input_renames)]).train()

    @functools.cached_property
    def one(self) -> Inputs:
        """The views of one image, which is enough for most questions; of all where images are compared."""
        return self.views if self.term.distance.is_batch_dependent else first_images(self.loss, self.views, 1)

    @property
    def learns(self) -> tuple[str, ...]:
        """The views that the gradient may reach."""
        apart = ("target", "mask")
        return tuple(v for p, v in self.term.inputs.items() if p not in apart and self.views[v].is_floating_point())

    def ask(self, views: Inputs, *, gradient: bool = True) -> ProbeResult:
        """What it says of some views, which it gets as copies."""
        if not gradient:
            with torch.no_grad():
                (value,) = self.loss.evaluate({name: view.clone() for name, view in views.items()}).values()
            return ProbeResult(value)
        with torch.enable_grad():
            leaves = {name: views[name].detach().clone().requires_grad_() for name in self.learns}
            given = {name: leaves[name] * 1 if name in leaves else view.clone() for name, view in views.items()}
            (value,) = self.loss.evaluate(given).values()  # times 1: a leaf would not let itself be overwritten
            found: tuple[Tensor | None, ...] = (None,) * len(leaves)
            if value.requires_grad:
                aim = value.mean()
                if any(leaf.dtype == torch.float16 for leaf in leaves.values()):
                    aim = aim / aim.detach().abs().clamp_min(1)  # into half precision's range, as a gradient scaler
                found = torch.autograd.grad(aim, list(leaves.values()), allow_unused=True)
        return ProbeResult(value.detach(), dict(zip(leaves, found, strict=True)))

    def finds(self, severity: Severity, check: str, seen: str, cure: str = "") -> Finding:
        """A finding about it."""
        return Finding(severity, check, self.name, seen, cure)

    @functools.cached_property
    def modules(self) -> dict[str, nn.Module]:
        """All modules that it is made of, those of a foreign callable included, by a name to say."""
        found: dict[str, nn.Module] = {}
        for name, module in iterate_modules(self.loss):
            alike = sum(known.partition("#")[0] == name for known in found)
            found[f"{name}#{alike + 1}" if alike else name] = module
        return found

    def state(self) -> dict[str, Tensor]:
        """Copies of all parameters and buffers, by a name to say."""
        found: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            for kind in (module._parameters, module._buffers):
                found |= {f"{name}.{key}".lstrip("."): t.detach().clone() for key, t in kind.items() if t is not None}
        return found


def iterate_modules(loss: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a loss, and those that a foreign callable holds or closes over, each once."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", loss)]
    while waiting:
        name, one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, nn.Module):
            yield name, one
            waiting += [(f"{name}.{child}".lstrip("."), part) for child, part in one.named_children()]
            if isinstance(one, External):
                waiting.append((type(one.function).__name__, one.function))
        elif isinstance(one, functools.partial):
            waiting += [(name, part) for part in (one.func, *one.args, *one.keywords.values())]
        elif callable(one):
            waiting += [(f"{name}.{type(part).__name__}", part) for part in captured_objects(one)]


def captured_objects(function: Callable[..., Any]) -> Iterator[Any]:
    """What a function closes over, and whom a method belongs to."""
    yield getattr(function, "__self__", None)
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that has no value yet
            continue
    code = getattr(function, "__code__", None)
    known = getattr(function, "__globals__", {})
    yield from (known[name] for name in getattr(code, "co_names", ()) if isinstance(known.get(name), nn.Module))


def copy_loss(loss: Hybrid) -> Hybrid:
    """A copy of a loss, so that examining it leaves the loss itself as it is; the loss where it cannot be copied."""
    try:
        return copy.deepcopy(loss)
    except (RuntimeError, TypeError):
        return loss
