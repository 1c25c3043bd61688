"""The algebra: a loss is what you compare, through what, how, and how much.

Every loss is the flat sum of its terms, ``weight * distance @ lens`` on some views; ``+``, ``*``, ``@`` and ``.on()``
never leave that form, so its `repr` is its formula and each weight has an address.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from lossmith.citations import bibtex
from lossmith.guard import Guard
from lossmith.lens import Backbone, Features, Lens, Looks, unhalved
from lossmith.plan import Plan
from lossmith.term import Term, looked_at, named
from lossmith.views import by_name, checked
from lossmith.weight import Factor, Value, Weight

if TYPE_CHECKING:
    from lossmith.doctor import Report
    from lossmith.pin import Pinned
    from lossmith.tiles import Tiled

__all__ = ["Hybrid", "Loss"]


class Loss(nn.Module, ABC):
    """What a sum of terms and a single distance have in common.

    A new distance defines ``measure``, from views to one value an image, (N,). The names of its parameters are the
    views that it reads: ``measure(self, pred, target)``, or ``measure(self, pred)`` for a regulariser. Through a lens
    it is called once for each map; CONTRIBUTING.md walks through adding one.
    """

    measure: Callable[..., Tensor]
    study: Callable[..., dict[str, Tensor]] | None = None
    """Of a loss with a critic: one step of the critic on the views that `measure` reads, to figures for logs."""
    papers: ClassVar[tuple[str, ...]] = ()
    """The keys of its sources in `lossmith.citations`."""
    bounds: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    """Between what its values lie for pictures in [0, 1]; through a lens there is no upper bound."""
    mixes: bool = False
    """Whether the value of one image depends on the others of its batch, as a contrast between them does."""
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
    def names(self) -> tuple[str, ...]:
        """One short name a term, all different, for logs."""
        return named(self.terms)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The weight of each term."""
        return tuple(term.weight for term in self.terms)

    @property
    def reads(self) -> frozenset[str]:
        """The views that it needs."""
        return frozenset(view for term in self.terms for view in term.reads.values())

    @property
    def knobs(self) -> tuple[str, ...]:
        """The names of its knobs, which every call must set."""
        return tuple(dict.fromkeys(knob for weight in self.weights for knob in weight.knobs))

    @property
    def networks(self) -> dict[str, Backbone]:
        """The pretrained networks that it looks through, by their titles."""
        stages = (stage for term in self.terms for _, stage in term.path)
        return {s.backbone.title: s.backbone for s in stages if isinstance(s, Features)}

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file of weights that it uses, by the name of what is in there; finds the files."""
        return {name: digest for term in self.terms for _, lens in term.path for name, digest in lens.hashes.items()}

    def forward(self, *tensors: Tensor, step: int = 0, **named: Value) -> Tensor:
        """The weighted sum of the terms, averaged over the batch.

        Args:
            tensors: The views pred and target, (N, 3, H, W) in [0, 1], as far as they are not given by name.
            step: The step of the training, for weights that are schedules.
            named: Views by name, and knobs: a number, or one value an image (N,).

        Returns:
            A scalar.

        Raises:
            ValueError: A view or knob is missing, or a name is neither.
        """
        knobs = {name: named.pop(name) for name in self.knobs if name in named}
        return self.total(self.looks(by_name(tensors, named, self.reads)), step=step, knobs=knobs)

    def evaluate(self, views: Mapping[str, Tensor], *, guard: Guard | None = None) -> dict[str, Tensor]:
        """Every term by its name, unweighted, one value an image (N,); with a guard, see there."""
        looks = self.looks(views)
        if guard is None:
            return {name: term.evaluate(looks) for name, term in zip(self.names, self.terms, strict=True)}
        terms = zip(self.names, self.terms, strict=True)
        return {name: term.evaluate(looks.under(guard.of(name))) for name, term in terms}

    def watch(self, views: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Every term as :meth:`evaluate` gives it, and how strongly each pulls, for no pass of a network more.

        Each term's gradient at the features of its network is found on the way. :meth:`weigh` makes any weighted sum of
        the values, whose backward pass takes each network once.

        Returns:
            The values (N,) by name; and by name the norm of the gradient of their mean, a scalar without a graph: at
            the features of its network, all layers together, or at the picture for a term without a network. These
            are different spaces; norms at the picture are :meth:`gradients`'s.
        """
        looks = self.looks(views)
        watched = {name: term.watch(looks) for name, term in zip(self.names, self.terms, strict=True)}
        return {n: value for n, (value, _) in watched.items()}, {n: norm for n, (_, norm) in watched.items()}

    def learn(self, views: Mapping[str, Tensor], *, step: int = 0) -> dict[str, Tensor]:
        """One step of the critics in it, which evaluating never trains; a loss without any does nothing.

        The training loop calls it once a step, on every process alike, when it likes between two steps of the network.
        A critic rests while its term's weight is the number 0.

        Returns:
            The critics' figures as scalars, by the term's name, a dot, and the figure's.
        """
        looks = self.looks(views)
        figures: dict[str, Tensor] = {}
        learnt: set[int] = set()
        for name, term in zip(self.names, self.terms, strict=True):
            if id(term.loss) in learnt:  # one critic in two terms takes one step
                continue
            learnt.add(id(term.loss))
            if term.loss.study is not None and (term.weight.knobs or not _nothing(term.weight.at(step))):
                figures |= {f"{name}.{figure}": value for figure, value in term.learn(looks).items()}
        return figures

    def gradients(self, views: Mapping[str, Tensor], at: str = "pred") -> dict[str, Tensor]:
        """The gradient of each term's batch mean at a view, unweighted: one network pass forward, one backward a term.

        Args:
            views: The views by name.
            at: The view, which need not carry a gradient of its own.

        Returns:
            Tensors of the view's shape by name, zeros for a term that does not read it.
        """
        begun = {name: view.detach() for name, view in views.items()}
        if at not in begun:
            raise ValueError(f"There is no view '{at}' to take gradients at; the views are {', '.join(views)}.")
        with torch.enable_grad():
            leaf = begun[at].requires_grad_()
            values = [value.mean() for value in self.evaluate(begun).values()]
            live = [i for i, value in enumerate(values) if value.requires_grad]
            found = [torch.zeros_like(leaf) for _ in values]
            for i in live:
                with unhalved(leaf):
                    (g,) = torch.autograd.grad(
                        values[i], leaf, retain_graph=i != live[-1], allow_unused=True, materialize_grads=True
                    )
                found[i] = g
        return dict(zip(self.names, found, strict=True))

    def looks(self, views: Mapping[str, Tensor]) -> Looks:
        """What the lenses are about to see of some views, once these have been checked."""
        return Looks(checked(self.terms, self.names, views), self.wanted)

    @property
    def wanted(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """The layers that its terms look at, for each view and network."""
        return looked_at(self.terms)

    def total(self, looks: Looks, *, step: int = 0, knobs: Mapping[str, Value] | None = None) -> Tensor:
        """The weighted sum of the terms; one whose weight is the number 0 is not even evaluated."""
        terms = dict(zip(self.names, self.terms, strict=True))
        live = [name for name, term in terms.items() if not _nothing(term.weight.at(step, knobs))]
        values = {name: terms[name].evaluate(looks) for name in live or self.names[:1]}
        return self.weigh(values, step=step, knobs=knobs)

    def weigh(self, values: Mapping[str, Tensor], *, step: int = 0, knobs: Mapping[str, Value] | None = None) -> Tensor:
        """The weighted sum of :meth:`evaluate`'s values, averaged over the batch: a scalar.

        A term whose weight is the number 0 counts for nothing, even where it is no number, and may be absent.
        """
        parts = []
        for name, weight in zip(self.names, self.weights, strict=True):
            factor = weight.at(step, knobs)
            if _nothing(factor):
                continue
            value = values[name]
            if isinstance(factor, Tensor) and factor.shape not in ((), value.shape):
                raise ValueError(
                    f"The weight of '{name}' wants a number or one value an image, {tuple(value.shape)}; "
                    f"a knob gave {tuple(factor.shape)}."
                )
            parts.append((factor * value).mean())
        return torch.stack(parts).sum() if parts else 0.0 * next(iter(values.values())).mean()

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

    def pin(self, *, limit: int = 2**30, **views: Tensor) -> "Pinned":
        """The same loss with some views given for good; what it compares with is kept, see :class:`Pinned`."""
        from lossmith.pin import Pinned

        return Pinned(self, views, limit)

    def tiled(self, side: int = 512) -> "Tiled":
        """The same loss for pictures beyond memory, whose networks see one tile at a time, see :class:`Tiled`."""
        from lossmith.tiles import Tiled

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
            if term.path and isinstance(term.path[-1][1], Features):  # features themselves, with no lens behind
                sources["johnson2016"] = None
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


def _nothing(factor: Value) -> bool:
    return not isinstance(factor, Tensor) and factor == 0
