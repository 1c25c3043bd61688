"""A term: one summand of a loss, weight * distance @ lens on some views."""

import inspect
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn, final

import torch
from torch import Tensor

from lossmith.engine.cpu.chunked import banded, worth_it
from lossmith.engine.feature_cache import (
    Looks,
    path_of,
    shown,
    wanted_layers,
)
from lossmith.engine.local_gradients import (
    Pull,
    gradients,
    kept_in,
    leaves,
    settled,
)
from lossmith.formula.measure import Measure
from lossmith.formula.snr_gate import LEVEL, gated, gates_of
from lossmith.formula.weight import Weight
from lossmith.image import area
from lossmith.lens import Features, Lens, Maps, full, unhalved

if TYPE_CHECKING:
    from lossmith.engine.nonfinite import Post

__all__ = ["Term", "looked_at"]

ONE = Weight()


@final
@dataclass(frozen=True, eq=False)
class Term:
    """One summand: weight * distance @ lens on some views.

    Args:
        distance: The distance.
        weight: How much of it.
        lens: Through what; None for the pixels themselves.
        renamed: The view that it reads for a parameter, where that is not the parameter's own name.
    """

    distance: Measure
    weight: Weight = ONE
    lens: Lens | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parameters = inspect.signature(self.distance.measure).parameters
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
        by_place = all(stage.tiling == "place" for stage in self.outer) and self.distance.tiling is not None
        object.__setattr__(self, "by_place", by_place and not self.distance.bare & reads.keys())
        object.__setattr__(self, "adds", any(stage.tiling in ("mean", "sum") for stage in self.outer))
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
    adds: bool = field(init=False)
    """Whether one of these adds up over places, as a Gram matrix does."""
    by_place: bool = field(init=False)
    """Whether, behind its network, it looks at one place at a time and takes a mean or a sum over them."""
    shares: Mapping[str, float] = field(init=False)
    """The weight of each layer in its sum; empty without a network."""

    @property
    def pictured(self) -> bool:
        """Whether all that it reads is pictures and masks of them."""
        return self.distance.pictures and not (self.distance.bare & self.reads.keys()) - {"mask"}

    @property
    def views(self) -> frozenset[str]:
        """All views that it reads, that of its gate included."""
        return frozenset(self.reads.values()) | ({LEVEL} if gates_of(self.weight) else set())

    def evaluate(self, looks: Looks) -> Tensor:
        """Its unweighted value for each image, (N,), in float32 at least, as far as its gate is open."""
        return gated(self.ungated(looks), self.weight, looks.views)

    def ungated(self, looks: Looks) -> Tensor:
        """The same whatever the noise."""
        if self.inner and self.separable(looks) and not (self.distance.frugal and not self.outer):
            met = self.met(looks)
            if torch.is_grad_enabled() and any(each.requires_grad for maps in met.values() for each in maps.values()):
                return self.settle(looks, met)[0]
        return self.compare(looks, {p: self.see(looks, p) for p in self.reads})

    def watch(self, looks: Looks) -> tuple[Tensor, Tensor]:
        """Its values (N,), and the norm of the gradient of their mean where it meets its network, or at the picture."""
        met = self.met(looks)
        found: Sequence[Tensor] = ()
        if self.separable(looks):
            value, pulls = self.settle(looks, met)
            found = [gated(pull.gradient, self.weight, looks.views) for pull in pulls]
            value = gated(value, self.weight, looks.views)
        else:
            value = gated(self.compare(looks, {p: self.see(looks, p) for p in self.reads}), self.weight, looks.views)
            at = [each for maps in met.values() for each in maps.values() if each.requires_grad]
            if at and value.requires_grad:
                with unhalved(value):
                    found = torch.autograd.grad(
                        value.sum(), at, retain_graph=True, allow_unused=True, materialize_grads=True
                    )
        squares = [torch.linalg.vector_norm(g.detach()).square() for g in found]
        norm = torch.stack(squares).sum().sqrt() if squares else value.detach().new_zeros(())
        return value, norm / len(value)

    def met(self, looks: Looks) -> dict[str, Maps]:
        """What it meets where its network ends, or at the picture, of every view that may carry a gradient."""
        apart = {"target", *self.distance.bare}
        return {p: looks(view, self.inner, detached=False) for p, view in self.reads.items() if p not in apart}

    def see(self, looks: Looks, parameter: str) -> Maps:
        """What its distance gets for a parameter: the view through the whole chain of lenses, or bare."""
        view = self.reads[parameter]
        if parameter in self.distance.bare:
            return looks(view, (), detached=False)
        detached = parameter == "target"
        if "mask" in self.reads and self.adds:
            return self.behind(looks, looks(view, self.inner, detached=detached))
        return looks(view, self.path, detached=detached)

    def behind(self, looks: Looks, maps: Maps) -> Maps:
        """What the lenses behind its network show of features; what adds up over places does so under the mask."""
        for lens in self.outer:
            if lens.tiling in ("mean", "sum") and "mask" in self.reads:
                mask = looks.views[self.reads["mask"]]
                maps = {n: each * area(mask, each, mean=lens.tiling == "mean").sqrt() for n, each in maps.items()}
            maps = shown(lens, maps)
        return maps

    def settle(self, looks: Looks, met: Mapping[str, Maps]) -> tuple[Tensor, Sequence[Pull]]:
        """Its values (N,), with nothing kept but their gradients at some features; and these."""
        with torch.enable_grad():
            if self.by_place and self.inner and worth_it(met):
                value, pulls = self.band(looks, met)
            else:
                begun = {p: leaves(maps) for p, maps in met.items()}
                maps = {p: self.behind(looks, begun[p]) if p in begun else self.see(looks, p) for p in self.reads}
                value = self.compare(looks, maps)
                found = gradients(value, [leaf for each in begun.values() for leaf in each.values()])
                pulls = [Pull(g, i) for i, g in enumerate(found)]
        attached = [each for layers in met.values() for each in layers.values()]
        return settled(value, pulls, attached, kept_in(value)), pulls

    def band(self, looks: Looks, met: Mapping[str, Maps]) -> tuple[Tensor, Sequence[Pull]]:
        """Its values (N,) and their gradients at some features, a few rows at a time."""
        whole = dict(met)
        ready: set[str] = set()  # parameters that have passed the lenses before
        for p, view in self.reads.items():
            if p not in whole:
                kept = looks.already(view, self.path, detached=True)
                ready |= {p} if kept is not None else set()
                whole[p] = kept if kept is not None else looks(view, self.inner, detached=True)
        self.check(looks, whole)
        if any(len({maps[layer].shape for maps in whole.values()}) > 1 for layer in self.shares):  # all are cut alike
            self.refuse(looks)

        def measure(maps: Mapping[str, Maps], parts: Mapping[str, float]) -> Tensor:
            seen = {p: each if p in ready else self.behind(looks, each) for p, each in maps.items()}
            return self.over_layers(seen, parts, looks.guard)

        return banded(measure, {p: whole[p] for p in self.reads}, list(met))

    def learn(self, looks: Looks) -> dict[str, Tensor]:
        """One step of its distance's critic on what the term looks at; the figures of that step.

        Raises:
            ValueError: Its lens shows several maps, where a critic judges one.
        """
        assert self.distance.study is not None
        with torch.no_grad():
            maps = {p: self.see(looks, p) for p in self.reads}
        layers = tuple(next(iter(maps.values())))
        if len(layers) > 1:
            raise ValueError(f"{self!r} has a critic of one map; its lens shows {', '.join(layers)}.")
        return self.distance.study(**{p: full(seen[layers[0]]) for p, seen in maps.items()})

    def separable(self, looks: Looks) -> bool:
        """Whether its gradient at the features may be computed before what arrives at its values is known.

        It may where each value depends on its own image alone, and on nothing else that trains. A compiler rather has
        the plain graph.
        """
        besides = [
            *self.distance.parameters(),
            *(looks.views[v] for p, v in self.reads.items() if p in self.distance.bare),
        ]
        trains = any(each.requires_grad for each in besides)
        return not (self.distance.mixes or trains or torch.compiler.is_compiling())

    def compare(self, looks: Looks, maps: Mapping[str, Maps]) -> Tensor:
        """What it measures of some whole maps, (N,), which it refuses if they do not fit."""
        self.check(looks, maps)
        return self.over_layers(maps, guard=looks.guard)

    def check(self, looks: Looks, maps: Mapping[str, Maps]) -> None:
        """Raises if pred and target differ in shape.

        What adds up over places makes maps of one shape of pictures of two; elsewhere the pictures count, since a
        stride may have rounded their sizes to one.
        """
        if not {"pred", "target"} <= maps.keys():
            return
        pairs = [(looks.views[self.reads["pred"]], looks.views[self.reads["target"]])]
        if self.adds:
            pairs = [(each, maps["target"][layer]) for layer, each in maps["pred"].items()]
        if any(pred.shape != target.shape for pred, target in pairs):  # a set's shapes a compiler takes for constants
            self.refuse(looks)

    def over_layers(
        self, maps: Mapping[str, Maps], parts: Mapping[str, float] | None = None, guard: "Post | None" = None
    ) -> Tensor:
        """The sum over the layers of what the distance measures there, each with its weight, (N,).

        Args:
            maps: Of each parameter, by layer.
            parts: The part of each layer that these are, where they are not the whole.
            guard: What notes the values of each layer.
        """
        values = []
        for layer in next(maps[p] for p in maps if p not in self.distance.bare):
            seen = {p: full(m["pixels" if p in self.distance.bare else layer]) for p, m in maps.items()}
            if "mask" in self.reads:
                self.mask(seen)
            with unhalved(next(iter(seen.values()))):
                value = self.distance.measure(**seen)
            if guard is not None:
                guard.measured(layer, value)
            share = self.shares.get(layer, 1.0) * (parts[layer] if parts and self.distance.tiling == "mean" else 1.0)
            values.append(value if share == 1 else value * share)
        return torch.stack(values).sum(dim=0) if len(values) > 1 else values[0]

    def mask(self, seen: Maps) -> None:
        """Brings the mask to the size of what it masks; drops it where it has been heeded before."""
        if self.adds:
            del seen["mask"]
        else:
            seen["mask"] = area(seen["mask"], next(each for p, each in seen.items() if p != "mask"))

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
            return f"{weight}{self.distance!r}{lens}"
        views = ", ".join(f'{p}="{v}"' for p, v in renamed.items())
        return f"{weight}({self.distance!r}{lens}).on({views})" if lens else f"{weight}{self.distance!r}.on({views})"


def looked_at(terms: Iterable[Term]) -> dict[tuple[str, str], tuple[str, ...]]:
    """The layers that some terms want of each view at each network, see :func:`lossmith.engine.feature_cache.wanted_layers`."""
    return wanted_layers(
        (view, term.path) for term in terms for p, view in term.reads.items() if p not in term.distance.bare
    )
