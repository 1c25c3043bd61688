"""A term: one summand of a loss, weight * distance @ lens on some views."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn, final

import torch
from torch import Tensor

from lossmith.lens import Features, Lens, Looks, full, path_of, unhalved
from lossmith.weight import Weight

if TYPE_CHECKING:
    from lossmith.loss import Loss

__all__ = ["Term", "named"]

ONE = Weight()


@final
@dataclass(frozen=True, eq=False)
class Term:
    """One summand: weight * distance @ lens on some views.

    Args:
        loss: The distance, a plain loss.
        weight: How much of it.
        lens: Through what; None for the pixels themselves.
        renamed: The view that it reads for a parameter, where that is not the parameter's own name.
    """

    loss: "Loss"
    weight: Weight = ONE
    lens: Lens | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parameters = tuple(inspect.signature(self.loss.measure).parameters)
        reads = {p: self.renamed.get(p, p) for p in parameters}
        features = [stage for stage in (self.lens.stages if self.lens else ()) if isinstance(stage, Features)]
        object.__setattr__(self, "reads", reads)
        object.__setattr__(self, "path", path_of(self.lens))
        object.__setattr__(self, "shares", features[-1].layers if features else {})

    reads: Mapping[str, str] = field(init=False)
    """The view that it reads for each of its parameters."""
    path: tuple[tuple[str, Lens], ...] = field(init=False)
    shares: Mapping[str, float] = field(init=False)
    """The weight of each layer in its sum; empty without a network."""

    def evaluate(self, looks: Looks) -> Tensor:
        """Its unweighted value for each image, (N,), in float32 at least."""
        maps = {p: looks(view, self.path, detached=p == "target") for p, view in self.reads.items()}
        values = []
        for layer in next(iter(maps.values())):
            shown = {p: full(m[layer]) for p, m in maps.items()}
            if len({shown[p].shape for p in ("pred", "target") if p in shown}) > 1:
                self.refuse(looks)
            with unhalved(next(iter(shown.values()))):
                value = self.loss.measure(**shown)
            values.append(value * self.shares[layer] if layer in self.shares else value)
        return torch.stack(values).sum(dim=0) if len(values) > 1 else values[0]

    def refuse(self, looks: Looks) -> NoReturn:
        """Raises on pictures that cannot be compared; broadcasting would give a number that means nothing."""
        what = " with ".join(f"'{v}' {tuple(looks.views[v].shape)}" for p, v in self.reads.items() if p != "mask")
        raise ValueError(f"{self!r} compares {what}; it wants them of one shape.")

    def through(self, lens: Lens) -> "Term":
        """The term with one more lens before what it looks through."""
        return replace(self, lens=self.lens @ lens if self.lens else lens)

    def on(self, views: Mapping[str, str]) -> "Term":
        """The term with other views, as far as it has these parameters."""
        return replace(self, renamed={**self.renamed, **{p: v for p, v in views.items() if p in self.reads}})

    def __repr__(self) -> str:
        weight = "" if self.weight == ONE else f"{self.weight!r} * "
        lens = f" @ {self.lens!r}" if self.lens else ""
        renamed = {p: v for p, v in self.renamed.items() if p != v}
        if not renamed:
            return f"{weight}{self.loss!r}{lens}"
        views = ", ".join(f'{p}="{v}"' for p, v in renamed.items())
        return f"{weight}({self.loss!r}{lens}).on({views})" if lens else f"{weight}{self.loss!r}.on({views})"


def named(terms: Sequence[Term]) -> tuple[str, ...]:
    """A short name for each term, all different: the lens's label or the distance, then what tells it from others."""
    short = [next((lens.label for _, lens in reversed(t.path) if lens.label), type(t.loss).__name__) for t in terms]
    names = []
    for name, term in zip(short, terms, strict=True):
        if short.count(name) > 1:
            told = [s.backbone.name for _, s in term.path if isinstance(s, Features)] + list(term.renamed.values())
            name = ".".join([name, *told])
        names.append(name)
    return tuple(f"{n}#{names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names))
