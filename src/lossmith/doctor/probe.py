"""A term under examination: its values and gradients on inputs, its modules and its state."""

import copy
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from lossmith.device import to_double
from lossmith.doctor.example_inputs import Inputs, first_images
from lossmith.doctor.report import Finding, Severity
from lossmith.formula.loss import Hybrid
from lossmith.formula.term import Term
from lossmith.formula.weight import Weight
from lossmith.losses.external import External

__all__ = ["ProbeResult", "TermProbe", "copy_loss"]


@final
@dataclass(frozen=True)
class ProbeResult:
    """The value of a term and its gradients.

    Args:
        value: One value per image, (N,).
        gradients: The gradient of the mean value with respect to each differentiable input; None without a path.
    """

    value: Tensor
    gradients: Mapping[str, Tensor | None] = field(default_factory=dict)

    @property
    def has_finite_value(self) -> bool:
        """Whether all values are finite."""
        return bool(self.value.isfinite().all())

    @property
    def has_finite_gradients(self) -> bool:
        """Whether all gradients are finite."""
        return all(bool(gradient.isfinite().all()) for gradient in self.gradients.values() if gradient is not None)

    @property
    def gradient_norm(self) -> float:
        """The norm of all gradients."""
        return math.hypot(*(float(to_double(g).norm()) for g in self.gradients.values() if g is not None), 0.0)


@final
@dataclass(frozen=True)
class TermProbe:
    """One term with weight 1, in training mode, as a parent module has it.

    Args:
        name: The name of the term.
        term: A copy of the term.
        inputs: Ordinary inputs for the term, with noise for images.
        images: The names of the inputs that are images.
    """

    name: str
    term: Term
    inputs: Inputs
    images: tuple[str, ...]

    @functools.cached_property
    def loss(self) -> Hybrid:
        """The term as a loss."""
        return Hybrid([replace(self.term, weight=Weight())]).train()

    @functools.cached_property
    def single_inputs(self) -> Inputs:
        """The inputs of one image; of all images if the term is batch-dependent."""
        return self.inputs if self.term.distance.is_batch_dependent else first_images(self.loss, self.inputs, 1)

    @property
    def differentiable_inputs(self) -> tuple[str, ...]:
        """The names of the inputs that may receive a gradient."""
        excluded = ("target", "mask")
        inputs = self.term.inputs.items()
        return tuple(name for p, name in inputs if p not in excluded and self.inputs[name].is_floating_point())

    def evaluate(self, inputs: Inputs, *, gradient: bool = True) -> ProbeResult:
        """Evaluate the term on copies of inputs.

        Args:
            inputs: The inputs by name.
            gradient: Whether to compute gradients.
        """
        if not gradient:
            with torch.no_grad():
                (value,) = self.loss.evaluate({name: tensor.clone() for name, tensor in inputs.items()}).values()
            return ProbeResult(value)
        with torch.enable_grad():
            leaves = {name: inputs[name].detach().clone().requires_grad_() for name in self.differentiable_inputs}
            # times 1, since a leaf that requires a gradient cannot be modified in place
            given = {name: leaves[name] * 1 if name in leaves else tensor.clone() for name, tensor in inputs.items()}
            (value,) = self.loss.evaluate(given).values()
            gradients: tuple[Tensor | None, ...] = (None,) * len(leaves)
            if value.requires_grad:
                mean = value.mean()
                if any(leaf.dtype == torch.float16 for leaf in leaves.values()):
                    mean = mean / mean.detach().abs().clamp_min(1)  # into the range of float16, as a gradient scaler
                gradients = torch.autograd.grad(mean, list(leaves.values()), allow_unused=True)
        return ProbeResult(value.detach(), dict(zip(leaves, gradients, strict=True)))

    def finding(self, severity: Severity, check: str, message: str, suggestion: str = "") -> Finding:
        """Return a finding about the term."""
        return Finding(severity, check, self.name, message, suggestion)

    @functools.cached_property
    def modules(self) -> dict[str, nn.Module]:
        """All modules of the term, including those of an external callable, by a readable name."""
        found: dict[str, nn.Module] = {}
        for name, module in _iterate_modules(self.loss):
            count = sum(known.partition("#")[0] == name for known in found)
            found[f"{name}#{count + 1}" if count else name] = module
        return found

    def copy_state(self) -> dict[str, Tensor]:
        """Return copies of all parameters and buffers, by a readable name."""
        state: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            for tensors in (module._parameters, module._buffers):
                state |= {f"{name}.{k}".lstrip("."): t.detach().clone() for k, t in tensors.items() if t is not None}
        return state


def _iterate_modules(loss: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a loss, and those that external callables hold or close over, each once."""
    seen: set[int] = set()
    queue: list[tuple[str, Any]] = [("", loss)]
    while queue:
        name, item = queue.pop(0)
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, nn.Module):
            yield name, item
            queue += [(f"{name}.{child}".lstrip("."), part) for child, part in item.named_children()]
            if isinstance(item, External):
                queue.append((type(item.function).__name__, item.function))
        elif isinstance(item, functools.partial):
            queue += [(name, part) for part in (item.func, *item.args, *item.keywords.values())]
        elif callable(item):
            queue += [(f"{name}.{type(part).__name__}", part) for part in _captured_objects(item)]


def _captured_objects(function: Callable[..., Any]) -> Iterator[Any]:
    """Yield the instance of a method, the contents of a closure, and the modules among a function's globals."""
    yield getattr(function, "__self__", None)
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name without a value yet
            continue
    code = getattr(function, "__code__", None)
    known = getattr(function, "__globals__", {})
    yield from (known[name] for name in getattr(code, "co_names", ()) if isinstance(known.get(name), nn.Module))


def copy_loss(loss: Hybrid) -> Hybrid:
    """Return a copy of a loss, or the loss itself if it cannot be copied."""
    try:
        return copy.deepcopy(loss)
    except (RuntimeError, TypeError):
        return loss
