"""How a sum of terms is run on views: term by term, weighted, watched, with gradients."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lossmith.engine.feature_cache import Looks
from lossmith.engine.nonfinite import Guard
from lossmith.formula.inputs import by_name, checked
from lossmith.formula.term import Term, looked_at
from lossmith.formula.weight import Value, Weight
from lossmith.lens import Features, unhalved

__all__ = ["Evaluation", "named"]


class Evaluation(nn.Module, ABC):
    """What a loss does with views; :class:`Loss` adds how it is written."""

    @property
    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """The terms of the flat sum."""

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
        return frozenset(view for term in self.terms for view in term.views)

    @property
    def knobs(self) -> tuple[str, ...]:
        """The names of its knobs, which every call must set."""
        return tuple(dict.fromkeys(knob for weight in self.weights for knob in weight.knobs))

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

    def evaluate(
        self, views: Mapping[str, Tensor], *, guard: Guard | None = None, step: int | None = None
    ) -> dict[str, Tensor]:
        """Every term by its name, unweighted, one value an image (N,).

        Args:
            views: The views by name.
            guard: What watches over what is not finite, see there.
            step: The step of the training; terms that rest at it, see :meth:`awake`, are left out.
        """
        looks = self.looks(views)
        names = self.names if step is None else self.awake(step)
        terms = {name: term for name, term in zip(self.names, self.terms, strict=True) if name in names}
        if guard is None:
            return {name: term.evaluate(looks) for name, term in terms.items()}
        return {name: term.evaluate(looks.under(guard.of(name))) for name, term in terms.items()}

    def awake(self, step: int) -> tuple[str, ...]:
        """The terms that are looked at in a step of a training.

        Those whose schedule stands at 0 rest, networks and critic with them. A weight that is the number 0 for good
        has the term watched, unless it has a critic, which would never learn.
        """
        terms = dict(zip(self.names, self.terms, strict=True))
        resting = {n for n, t in terms.items() if t.weight.rests(step) and (t.weight.factors or t.distance.study)}
        left = tuple(name for name in terms if name not in resting)
        return left or tuple(n for n, t in terms.items() if t.distance.study is None)[:1] or self.names[:1]

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
        A critic rests while its term's weight is the number 0, unless it is asked to learn ahead (`since`).

        Returns:
            The critics' figures as scalars, by the term's name, a dot, and the figure's.
        """
        if not (due := self.studying(step)):
            return {}
        looks = self.looks(views)
        figures: dict[str, Tensor] = {}
        learnt: set[int] = set()
        for name, term in due.items():
            if id(term.distance) in learnt:  # one critic in two terms takes one step
                continue
            learnt.add(id(term.distance))
            figures |= {f"{name}.{figure}": value for figure, value in term.learn(looks).items()}
        return figures

    def studying(self, step: int) -> dict[str, Term]:
        """The terms whose critic learns at a step of a training, by name."""
        terms = {n: t for n, t in zip(self.names, self.terms, strict=True) if t.distance.study is not None}
        ahead = {n for n, t in terms.items() if t.distance.since is not None and step >= t.distance.since}
        return {n: t for n, t in terms.items() if n in ahead or not t.weight.rests(step)}

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


def named(terms: Sequence[Term]) -> tuple[str, ...]:
    """A short name for each term, all different: the lens's label or the distance, then what tells it from others."""
    short = [next((lens.label for _, lens in reversed(t.path) if lens.label), type(t.distance).__name__) for t in terms]
    names = []
    for name, term in zip(short, terms, strict=True):
        if short.count(name) > 1:
            told = [s.backbone.name for _, s in term.path if isinstance(s, Features)] + list(term.renamed.values())
            name = ".".join([name, *told])
        names.append(name)
    return tuple(f"{n}#{names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names))


def _nothing(factor: Value) -> bool:
    return not isinstance(factor, Tensor) and factor == 0
