"""A term: one summand of a loss, weight * distance @ lens on some views."""

import inspect
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn, final

import torch
from torch import Tensor

from lossmith.lens import Features, Lens, Looks, full, path_of, shown, unhalved, wanted_layers
from lossmith.taps import gradients, leaves, settled
from lossmith.weight import Weight

if TYPE_CHECKING:
    from lossmith.loss import Loss

__all__ = ["Term", "looked_at", "named"]

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
        parameters = inspect.signature(self.loss.measure).parameters
        optional = {name for name, parameter in parameters.items() if parameter.default is None}
        reads = {p: self.renamed.get(p, p) for p in parameters if p not in optional or p in self.renamed}
        path = path_of(self.lens)
        networks = [i for i, (_, stage) in enumerate(path) if isinstance(stage, Features)]
        meets = networks[-1] + 1 if networks else 0
        object.__setattr__(self, "parameters", tuple(parameters))
        object.__setattr__(self, "optional", optional)
        object.__setattr__(self, "reads", reads)
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "inner", path[:meets])
        object.__setattr__(self, "outer", tuple(stage for _, stage in path[meets:]))
        object.__setattr__(self, "shares", path[meets - 1][1].layers if networks else {})

    parameters: tuple[str, ...] = field(init=False)
    """The parameters of its distance's `measure`."""
    optional: Set[str] = field(init=False)
    """Those that it can do without."""
    reads: Mapping[str, str] = field(init=False)
    """The view that it reads for each of its parameters; for one that is optional, only if `on` has given it one."""
    path: tuple[tuple[str, Lens], ...] = field(init=False)
    inner: tuple[tuple[str, Lens], ...] = field(init=False)
    """The path up to its network; empty if there is none."""
    outer: tuple[Lens, ...] = field(init=False)
    """The lenses behind its network."""
    shares: Mapping[str, float] = field(init=False)
    """The weight of each layer in its sum; empty without a network."""

    def evaluate(self, looks: Looks) -> Tensor:
        """Its unweighted value for each image, (N,), in float32 at least."""
        if self.inner and self.separable and not (self.loss.frugal and not self.outer):
            met = {p: looks(view, self.inner, detached=False) for p, view in self.reads.items() if p != "target"}
            if torch.is_grad_enabled() and any(each.requires_grad for maps in met.values() for each in maps.values()):
                return self.settle(looks, met)[0]
        return self.compare(
            looks, {p: looks(view, self.path, detached=p == "target") for p, view in self.reads.items()}
        )

    def watch(self, looks: Looks) -> tuple[Tensor, Tensor]:
        """Its values (N,), and the norm of the gradient of their mean where it meets its network, or at the picture."""
        met = {p: looks(view, self.inner, detached=False) for p, view in self.reads.items() if p != "target"}
        if self.separable:
            value, found = self.settle(looks, met)
        else:
            value = self.compare(
                looks, {p: looks(view, self.path, detached=p == "target") for p, view in self.reads.items()}
            )
            at = [each for maps in met.values() for each in maps.values() if each.requires_grad]
            found = (
                torch.autograd.grad(value.sum(), at, retain_graph=True, allow_unused=True, materialize_grads=True)
                if at and value.requires_grad
                else ()
            )
        squares = [torch.linalg.vector_norm(g.detach()).square() for g in found]
        norm = torch.stack(squares).sum().sqrt() if squares else value.detach().new_zeros(())
        return value, norm / len(value)

    def settle(self, looks: Looks, met: Mapping[str, Mapping[str, Tensor]]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Its values (N,), with nothing kept but their gradients at some features; and these."""
        begun = {p: leaves(maps) for p, maps in met.items()}
        maps = {p: looks(view, self.path, detached=True) for p, view in self.reads.items() if p == "target"}
        with torch.enable_grad():
            for p, each in begun.items():
                for lens in self.outer:
                    each = shown(lens, each)
                maps[p] = each
            value = self.compare(looks, {p: maps[p] for p in self.reads})
            found = gradients(value, [leaf for each in begun.values() for leaf in each.values()])
        attached = [each for layers in met.values() for each in layers.values()]
        return settled(value, found, attached), found

    def learn(self, looks: Looks) -> dict[str, Tensor]:
        """One step of its distance's critic on what the term looks at; the figures of that step.

        Raises:
            ValueError: Its lens shows several maps, where a critic judges one.
        """
        assert self.loss.study is not None
        maps = {p: looks(view, self.path, detached=True) for p, view in self.reads.items()}
        layers = tuple(next(iter(maps.values())))
        if len(layers) > 1:
            raise ValueError(f"{self!r} has a critic of one map; its lens shows {', '.join(layers)}.")
        return self.loss.study(**{p: full(seen[layers[0]]) for p, seen in maps.items()})

    @property
    def separable(self) -> bool:
        """Whether its gradient at the features may be computed before what arrives at its values is known.

        It may where each value depends on its own image alone, and on no parameter that trains. A compiler rather has
        the plain graph.
        """
        training = any(parameter.requires_grad for parameter in self.loss.parameters())
        return not (self.loss.mixes or training or torch.compiler.is_compiling())

    def compare(self, looks: Looks, maps: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """The sum over the layers of what the distance measures there, (N,)."""
        values = []
        for layer in next(iter(maps.values())):
            seen = {p: full(m[layer]) for p, m in maps.items()}
            if len({seen[p].shape for p in ("pred", "target") if p in seen}) > 1:
                self.refuse(looks)
            with unhalved(next(iter(seen.values()))):
                value = self.loss.measure(**seen)
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
        return replace(self, renamed={**self.renamed, **{p: v for p, v in views.items() if p in self.parameters}})

    def __repr__(self) -> str:
        weight = "" if self.weight == ONE else f"{self.weight!r} * "
        lens = f" @ {self.lens!r}" if self.lens else ""
        renamed = {p: v for p, v in self.renamed.items() if p != v or p in self.optional}
        if not renamed:
            return f"{weight}{self.loss!r}{lens}"
        views = ", ".join(f'{p}="{v}"' for p, v in renamed.items())
        return f"{weight}({self.loss!r}{lens}).on({views})" if lens else f"{weight}{self.loss!r}.on({views})"


def looked_at(terms: Iterable[Term]) -> dict[tuple[str, str], tuple[str, ...]]:
    """The layers that some terms want of each view at each network, see :func:`lossmith.lens.wanted_layers`."""
    return wanted_layers((view, term.path) for term in terms for view in term.reads.values())


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
