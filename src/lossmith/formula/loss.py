"""The algebra: a loss is what you compare, through what, how, and how much.

Every loss is the flat sum of its terms, ``weight * distance @ lens`` on some views; ``+``, ``*``, ``@`` and ``.on()``
never leave that form, so its `repr` is its formula and each weight has an address.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, final

from torch import Tensor, nn

from lossmith.citations import bibtex
from lossmith.formula.cost import Plan
from lossmith.formula.evaluation import Evaluation, named
from lossmith.formula.term import Term, looked_at
from lossmith.formula.weight import Factor, Weight
from lossmith.lens import Backbone, Features, Lens

if TYPE_CHECKING:
    from lossmith.balance import Card
    from lossmith.doctor import Report
    from lossmith.formula.pinned import Pinned
    from lossmith.formula.tiled import Tiled

__all__ = ["Hybrid", "Loss"]


class Loss(Evaluation, ABC):
    """What a sum of terms and a single distance have in common.

    A new distance defines ``measure``, from views to one value an image, (N,). The names of its parameters are the
    views that it reads: ``measure(self, pred, target)``, or ``measure(self, pred)`` for a regulariser. Through a lens
    it is called once for each map; CONTRIBUTING.md walks through adding one.
    """

    measure: Callable[..., Tensor]
    study: Callable[..., dict[str, Tensor]] | None = None
    """Of a loss with a critic: one step of the critic on the views that `measure` reads, to figures for logs."""
    since: int | None = None
    """Of a loss with a critic: the step from which the critic learns even while the term's weight is 0."""
    papers: ClassVar[tuple[str, ...]] = ()
    """The keys of its sources in `lossmith.citations`."""
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    """Between what its values lie for pictures in [0, 1]; through a lens there is no upper bound."""
    mixes: bool = False
    """Whether the value of one image depends on the others of its batch, as a contrast between them does."""
    mean_preserving: bool = False
    """Whether its minimiser, where many answers are right, is their mean, as that of a squared error is; or it does not
    look at the answer at all. A diffusion step needs the mean at every noise level; what prefers one answer of the many
    is gated to where the signal dominates."""
    opens: ClassVar[float | None] = None
    """The log-SNR from which on such a loss acts, unless a formula says; None for -1.7 through a network, 1 without."""
    frugal: ClassVar[bool] = False
    """Whether its backward pass keeps less than a number a value, so that its gradient is better not kept instead."""
    tiling: ClassVar[Literal["mean", "sum"] | None] = None
    """Whether its value is the mean, or the sum, of the values of the picture's tiles; None if it is neither."""
    bare: ClassVar[frozenset[str]] = frozenset({"mask"})
    """The parameters of `measure` that no lens looks at: masks, and what is no picture, such as latents."""
    pictures: ClassVar[bool] = True
    """Whether the views that it reads are pictures; vectors, latents, logits and attention maps are none."""

    def __init__(self) -> None:
        super().__init__()
        if hasattr(self, "measure"):  # once, since a compiler cannot make a term
            self.__dict__["alone"] = (Term(self),)

    alone: tuple["Term", ...]

    @property
    def terms(self) -> tuple["Term", ...]:
        """The terms of its flat sum; a plain loss has one: itself, with weight 1."""
        return self.alone

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
                raise ValueError(f"The term '{name}', {term.loss!r}, takes no mask; put it beside what you mask.")
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

    def check(self, views: Mapping[str, Tensor] | None = None, *, shape: Sequence[int] | None = None) -> "Report":
        """What the doctor finds of it, on some views or on made-up ones, see :func:`lossmith.doctor.check`."""
        from lossmith.doctor import check

        return check(self, views, shape=shape)

    def calibrate(self, batches: "Iterable[Mapping[str, Tensor]] | Mapping[str, Tensor]") -> "Card":
        """What its weights come to on some views, or batches of views, see :func:`lossmith.balance.calibrate`."""
        from lossmith.balance import calibrate

        return calibrate(self, batches)

    def pin(self, *, limit: int = 2**30, **views: Tensor) -> "Pinned":
        """The same loss with some views given for good; what it compares with is kept, see :class:`Pinned`."""
        from lossmith.formula.pinned import Pinned

        return Pinned(self, views, limit)

    def tiled(self, side: int = 512) -> "Tiled":
        """The same loss for pictures beyond memory, whose networks see one tile at a time, see :class:`Tiled`."""
        from lossmith.formula.tiled import Tiled

        return Tiled(self, side)

    def citation(self) -> str:
        """BibTeX of the losses, lenses and networks in use."""
        sources: dict[str, None] = {}
        for term in self.terms:
            sources.update(dict.fromkeys(term.loss.papers))
            for _, lens in term.path:
                sources.update(dict.fromkeys(lens.papers))
                if isinstance(lens, Features):
                    sources.update(dict.fromkeys(lens.backbone.papers))
            if term.loss.tiling and term.path and term.path[-1][1].label == "perceptual":
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
        self.losses = nn.ModuleList(term.loss for term in self._terms)  # so that .to() moves their buffers
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
