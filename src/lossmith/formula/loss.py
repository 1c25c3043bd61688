"""The algebra: a loss is what you compare, through what, how, and how much.

Every loss is the flat sum of its terms, ``weight * distance @ lens`` on some views; ``+``, ``*``, ``@`` and ``.on()``
never leave that form, so its `repr` is its formula and each weight has an address.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import final

from torch import Tensor, nn

from lossmith.citations import bibtex
from lossmith.formula.cost import Plan
from lossmith.formula.evaluation import Evaluation, named
from lossmith.formula.term import Term, looked_at
from lossmith.formula.weight import Factor, Weight
from lossmith.lens import Backbone, Features, Lens

__all__ = ["Hybrid", "Loss"]


class Loss(Evaluation, ABC):
    """What a sum of terms and a single distance have in common.

    Subclass :class:`lossmith.Distance` to define a new distance.
    """

    @property
    def networks(self) -> dict[str, Backbone]:
        """The pretrained networks that it looks through, by their titles."""
        stages = (stage for term in self.terms for _, stage in term.path)
        return {s.backbone.title: s.backbone for s in stages if isinstance(s, Features)}

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file of weights that it uses, by the name of what is in there; finds the files."""
        return {name: digest for term in self.terms for _, lens in term.path for name, digest in lens.hashes.items()}

    def reweighted(self, weights: Mapping[str, float | Weight] | Sequence[float | Weight]) -> "Hybrid":
        """The same terms with other weights: all of them in order, or some by name."""
        names = self.names
        if isinstance(weights, Mapping):
            if unknown := [name for name in weights if name not in names]:
                raise ValueError(f"No term is called {unknown[0]!r}; there are {', '.join(names)}.")
            new = [weights.get(name, term.weight) for name, term in zip(names, self.terms, strict=True)]
        else:
            new = list(weights)
        if len(new) != len(names):
            raise ValueError(f"{len(names)} terms want {len(names)} weights; got {len(new)}.")
        return Hybrid(
            replace(term, weight=w if isinstance(w, Weight) else Weight() * w)
            for term, w in zip(self.terms, new, strict=True)
        )

    def on(self, **views: str) -> "Hybrid":
        """The same loss on other views: ``L1().on(pred="filled")`` reads "filled" where it read "pred"."""
        known = {parameter for term in self.terms for parameter in term.parameters}
        for name, term in zip(self.names, self.terms, strict=True):
            if "mask" in views and "mask" not in term.parameters:
                raise ValueError(f"The term '{name}', {term.distance!r}, takes no mask; put it beside what you mask.")
            if "mask" in views and (blind := [stage for _, stage in term.path if not stage.spatial]):
                raise ValueError(f"The term '{name}' looks through {blind[0]!r}, whose maps a mask does not fit.")
        for parameter, view in views.items():
            if parameter not in known:
                raise ValueError(
                    f"{self!r} reads {', '.join(sorted(known))}; it has no '{parameter}' to put elsewhere."
                )
            if not (isinstance(view, str) and view.isidentifier()):
                raise ValueError(f"on({parameter}=...) wants the name of a view; got {view!r}.")
        return Hybrid(term.on(views) for term in self.terms)

    def plan(self, shape: Sequence[int] = (1, 3, 256, 256)) -> Plan:
        """What a step will cost for pictures of a shape (N, 3, H, W): passes, operations, and what is shared."""
        return Plan.of(self.terms, self.names, shape)

    def citation(self) -> str:
        """BibTeX of the losses, lenses and networks in use."""
        sources: dict[str, None] = {}
        for term in self.terms:
            sources.update(dict.fromkeys(term.distance.papers))
            for _, lens in term.path:
                sources.update(dict.fromkeys(lens.papers))
                if isinstance(lens, Features):
                    sources.update(dict.fromkeys(lens.backbone.papers))
            if term.distance.tiling and term.path and term.path[-1][1].label == "perceptual":
                sources["johnson2016"] = None  # features themselves, place by place
        return bibtex(sources)

    def __add__(self, other: object) -> "Hybrid":
        if isinstance(other, Loss):
            return Hybrid(self.terms + other.terms)
        if isinstance(other, int) and other == 0:  # sum([...]) begins with 0
            return Hybrid(self.terms)
        return NotImplemented

    __radd__ = __add__

    def __sub__(self, other: object) -> "Hybrid":
        return self + -other if isinstance(other, Loss) else NotImplemented

    def __neg__(self) -> "Hybrid":
        return self * -1

    def __mul__(self, other: object) -> "Hybrid":
        if isinstance(other, Tensor):
            raise ValueError(
                "A weight is a number, a schedule or a knob; for a tensor use Knob and give it at the call."
            )
        if isinstance(other, Weight | Factor | int | float):
            if isinstance(other, Weight | Factor) and (other * 1).share is not None and len(self.terms) > 1:
                raise ValueError("A share of the gradient is one term's; give each term of the sum its own.")
            return Hybrid(replace(term, weight=term.weight * other) for term in self.terms)
        return NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> "Hybrid":
        return self * (1 / other) if isinstance(other, int | float) and other else NotImplemented

    def __matmul__(self, lens: object) -> "Hybrid":
        if isinstance(lens, Lens):
            return Hybrid(term.through(lens) for term in self.terms)
        return NotImplemented

    @abstractmethod
    def __repr__(self) -> str: ...


@final
class Hybrid(Loss):
    """A flat sum of terms; what every operator of the algebra gives.

    Args:
        terms: At least one term.
    """

    def __init__(self, terms: Iterable[Term]) -> None:
        super().__init__()
        self._terms = tuple(terms)
        if not self._terms:
            raise ValueError("A hybrid wants at least one term; got none.")
        self._names = named(self._terms)
        self._wanted = looked_at(self._terms)
        if clash := self.reads.intersection(self.knobs):
            raise ValueError(f"'{min(clash)}' is a view that this loss reads; the knob wants another name.")
        self.losses = nn.ModuleList(term.distance for term in self._terms)  # so that .to() moves their buffers
        self.lenses = nn.ModuleList(term.lens for term in self._terms if term.lens)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of the sum, as they were written."""
        return self._terms

    @property
    def names(self) -> tuple[str, ...]:
        """One short name a term, all different, for logs."""
        return self._names

    @property
    def wanted(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """The layers that its terms look at, for each view and network."""
        return self._wanted

    def __repr__(self) -> str:
        return " + ".join(repr(term) for term in self._terms)
