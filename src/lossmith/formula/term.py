"""A term: one summand of a loss, weight * distance @ lens on named inputs."""

import inspect
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import final

from lossmith.engine.feature_cache import build_lens_path, collect_required_layers
from lossmith.formula.measure import Measure
from lossmith.formula.sampling import Part, Window, find_factor
from lossmith.formula.snr_gate import LOGSNR, Gate, find_gates
from lossmith.formula.weight import Weight
from lossmith.lens import Features, Lens

__all__ = ["Term", "collect_term_layers", "name_terms"]

ONE = Weight()


@final
@dataclass(frozen=True, eq=False)
class Term:
    """One summand of a loss: weight * distance @ lens on named inputs.

    Args:
        distance: The distance.
        weight: The weight.
        lens: The lens through which the distance sees its inputs; None for the pixels themselves.
        input_renames: The input that is read for a parameter of the distance, where the names differ.
    """

    distance: Measure
    weight: Weight = ONE
    lens: Lens | None = None
    input_renames: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_sparse_weight()
        parameters = inspect.signature(self.distance.measure).parameters
        optional = {name for name, parameter in parameters.items() if parameter.default is None}
        inputs = {p: self.input_renames.get(p, p) for p in parameters if p not in optional or p in self.input_renames}
        path = build_lens_path(self.lens)
        networks = [i for i, (_, stage) in enumerate(path) if isinstance(stage, Features)]
        network_end = networks[-1] + 1 if networks else 0
        outer = tuple(stage for _, stage in path[network_end:])
        is_pointwise = all(stage.tiling == "pointwise" for stage in outer) and self.distance.tiling is not None
        derived = {
            "parameters": tuple(parameters),
            "optional": optional,
            "inputs": inputs,
            "path": path,
            "inner_path": path[:network_end],
            "outer_lenses": outer,
            "is_pointwise": is_pointwise and not self.distance.unlensed_inputs & inputs.keys(),
            "sums_over_positions": any(stage.tiling in ("mean", "sum") for stage in outer),
            "is_sparse": any(isinstance(factor, Part | Window | Gate) for factor in self.weight.factors),
            "layer_weights": path[network_end - 1][1].layers if networks else {},
            "splits_channels": any(stage.splits_channels for _, stage in path),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
        if self.splits_channels and self.distance.is_batch_dependent:
            splitting = next(stage for _, stage in path if stage.splits_channels)
            raise ValueError(
                f"{self.distance!r} compares the images of a batch with each other and cannot read each band as an "
                f'image, {splitting!r}; use Bands("mean") or the numbers of bands.'
            )

    def _check_sparse_weight(self) -> None:
        """Raise ValueError if a part of the batch would give the term another meaning."""
        name = type(self.distance).__name__
        if (part := find_factor(self.weight, Part)) and self.distance.is_batch_dependent:
            raise ValueError(
                f"{name} compares the images of a batch; a part of the batch gives another value. Remove {part}."
            )
        if (window := find_factor(self.weight, Window)) and not self.distance.reads_images:
            raise ValueError(f"{name} reads no images, of which a window could be taken. Remove {window}.")

    parameters: tuple[str, ...] = field(init=False)
    """The parameters of the distance's `measure`."""
    optional: Set[str] = field(init=False)
    """The parameters with default None."""
    inputs: Mapping[str, str] = field(init=False)
    """The input that is read for each parameter; an optional parameter is included only if `on` names its input."""
    path: tuple[tuple[str, Lens], ...] = field(init=False)
    """The lenses from the image outwards, each with its text."""
    inner_path: tuple[tuple[str, Lens], ...] = field(init=False)
    """The path up to and including the network; empty without a network."""
    outer_lenses: tuple[Lens, ...] = field(init=False)
    """The lenses after the network."""
    sums_over_positions: bool = field(init=False)
    """Whether a lens after the network takes a mean or sum over positions, as a Gram matrix does."""
    is_pointwise: bool = field(init=False)
    """Whether the term, after the network, is a mean or sum over positions of a function of single positions."""
    is_sparse: bool = field(init=False)
    """Whether the term may be evaluated on a part of the batch in a training step."""
    layer_weights: Mapping[str, float] = field(init=False)
    """The weight of each layer in the term's sum over layers; empty without a network."""
    splits_channels: bool = field(init=False)
    """Whether a lens makes each channel an image of its own, over which the values of an image are averaged."""

    @property
    def min_channels(self) -> int:
        """The least number of channels of the images."""
        return self.path[0][1].min_channels if self.path else 1

    @property
    def reads_only_images(self) -> bool:
        """Whether all inputs are images or masks."""
        return self.distance.reads_images and not (self.distance.unlensed_inputs & self.inputs.keys()) - {"mask"}

    @property
    def input_names(self) -> frozenset[str]:
        """The names of all inputs, including the log-SNR that a gate reads."""
        return frozenset(self.inputs.values()) | ({LOGSNR} if find_gates(self.weight) else set())

    def with_inner_lens(self, lens: Lens) -> "Term":
        """Return the term with a lens that is applied before its own lens."""
        return replace(self, lens=self.lens @ lens if self.lens else lens)

    def on(self, inputs: Mapping[str, str]) -> "Term":
        """Return the term on other inputs; parameters that its distance does not have are ignored."""
        known = {p: name for p, name in inputs.items() if p in self.parameters}
        return replace(self, input_renames={**self.input_renames, **known})

    def __repr__(self) -> str:
        weight = "" if self.weight == ONE else f"{self.weight!r} * "
        lens = f" @ {self.lens!r}" if self.lens else ""
        renames = {p: name for p, name in self.input_renames.items() if p != name or p in self.optional}
        if not renames:
            return f"{weight}{self.distance!r}{lens}"
        on = ", ".join(f'{p}="{name}"' for p, name in renames.items())
        return f"{weight}({self.distance!r}{lens}).on({on})" if lens else f"{weight}{self.distance!r}.on({on})"


def collect_term_layers(terms: Iterable[Term]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the layers that the terms need of each input at each network.

    See :func:`lossmith.engine.feature_cache.collect_required_layers`.
    """
    return collect_required_layers(
        (name, term.path)
        for term in terms
        for parameter, name in term.inputs.items()
        if parameter not in term.distance.unlensed_inputs
    )


def name_terms(terms: Sequence[Term]) -> tuple[str, ...]:
    """Return a unique name for each term: the lens's label or the distance, then network, inputs or a number."""
    short = []
    for term in terms:
        labels = [lens.term_label for _, lens in reversed(term.path) if lens.term_label]
        short.append(labels[0] if labels else type(term.distance).__name__)
    names = []
    for name, term in zip(short, terms, strict=True):
        if short.count(name) > 1:
            networks = [stage.backbone.name for _, stage in term.path if isinstance(stage, Features)]
            name = ".".join([name, *networks, *term.input_renames.values()])
        names.append(name)
    return tuple(f"{n}#{names[: i + 1].count(n)}" if names.count(n) > 1 else n for i, n in enumerate(names))
