"""Between the views and what looks at them: where a gradient is no number it goes no further, and that is noted.

A term that is not finite for one picture would otherwise take all weights with it, for zero times no number is no
number. Everything is decided and noted on the device, picture by picture, and nothing that is finite is changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

__all__ = ["Gate", "Guard", "Post", "rows"]


@final
@dataclass
class Gate:
    """A place where gradients of some terms come back to a view. It holds no graph, for the graph holds it.

    Args:
        scaled: See :class:`Guard`.
        broken: For each term, the pictures for which its value is not finite, once this is known.
    """

    scaled: bool
    broken: Mapping[str, Tensor]
    terms: set[str] = field(default_factory=set)
    """The terms whose gradients come through."""
    stopped: list[Tensor] = field(default_factory=list)
    """The pictures whose gradients were not finite, (N,), once a backward pass has been there."""

    def unexplained(self) -> Tensor | None:
        """The pictures whose gradients were not finite though each term's value was."""
        if not self.stopped:
            return None
        found = torch.stack(self.stopped).any(dim=0)
        known = self.explained(len(found))
        return found if known is None else found & ~known

    def explained(self, count: int) -> Tensor | None:
        """The pictures for which the value of some term that comes through is not finite."""
        known = [self.broken[name] for name in self.terms if name in self.broken]
        fitting = [each if len(each) == count else each.any().expand(count) for each in known]
        return torch.stack(fitting).any(dim=0) if fitting else None


@final
class Guard:
    """What is watched in one pass of a loss.

    Each pass of a network over a view has a gate of its own, and so has each term that looks at the view itself: what
    one of them spoils does not reach the others.

    Args:
        scaled: Whether the gradients are scaled up for fp16. An overflow is then no fault of the term: it is left to
            the scaler, which leaves the step out and scales less; only what comes of values is stopped.
    """

    def __init__(self, *, scaled: bool = False) -> None:
        self.scaled = scaled
        self.gates: list[Gate] = []
        self.broken: dict[str, Tensor] = {}
        self.layers: dict[tuple[str, str], list[Tensor]] = {}
        self.shared: dict[tuple[str, str], tuple[Gate, Tensor]] = {}

    def of(self, term: str) -> "Post":
        """The guard as one term meets it."""
        return Post(self, term)

    def hits(self, term: str) -> list[Tensor]:
        """The pictures (N,) for which a gradient was stopped that this term, or one that shares its way, had spoilt."""
        found = [gate.unexplained() for gate in self.gates if term in gate.terms and not self.scaled]
        return [each for each in found if each is not None]

    def sound(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The values (N,), zeros that no gradient leaves where they are not finite; notes which these are."""
        finite = {name: value.detach().isfinite() for name, value in values.items()}
        self.broken.update({name: ~each for name, each in finite.items()})
        return {name: torch.where(finite[name], value, 0.0) for name, value in values.items()}


@final
@dataclass(frozen=True)
class Post:
    """A guard as one term meets it.

    Args:
        guard: The guard.
        term: The term's name.
    """

    guard: Guard
    term: str

    def __call__(self, view: str, text: str, image: Tensor) -> Tensor:
        """The view as the term sees it, behind a gate.

        Args:
            view: Its name.
            text: The first lens on the way, which all terms that look through it share; "" for none.
            image: The view itself, one row a picture.
        """
        if not (image.requires_grad and image.dim()):
            return image
        if (view, text) in self.guard.shared:
            gate, out = self.guard.shared[view, text]
        else:
            gate = Gate(self.guard.scaled, self.guard.broken)
            out = _Through.apply(image, gate)  # type: ignore[no-untyped-call]
            self.guard.gates.append(gate)
            if text:
                self.guard.shared[view, text] = gate, out
        gate.terms.add(self.term)
        return out

    def measured(self, layer: str, value: Tensor) -> None:
        """Notes what the term's distance gave at a layer, or at a part of one."""
        self.guard.layers.setdefault((self.term, layer), []).append(value.detach())


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, gate: Gate) -> Tensor:
        ctx.gate = gate
        return image.view_as(image)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gate: Gate = ctx.gate
        through = gradient.detach().reshape(len(gradient), -1).isfinite().all(dim=1)
        gate.stopped.append(~through)
        if gate.scaled:
            known = gate.explained(len(gradient))
            through = through | ~known if known is not None else torch.ones_like(through)
        return torch.where(through.view(-1, *(1,) * (gradient.dim() - 1)), gradient, 0.0), None


def rows(each: list[Tensor]) -> Tensor:
    """One row a tensor (N,), filled up with zeros where some are shorter."""
    return torch.nn.utils.rnn.pad_sequence(each, batch_first=True) if len({*map(len, each)}) > 1 else torch.stack(each)
