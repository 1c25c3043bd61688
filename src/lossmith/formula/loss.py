"""The algebra of losses.

Every loss is a flat sum of terms, ``weight * distance @ lens`` on named inputs. The operators ``+``, ``*``, ``@`` and
``.on()`` keep this form, so that the `repr` of a loss is its formula and each weight can be addressed by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import final

from torch import Tensor, nn

from lossmith.backbone import Backbone
from lossmith.citations import format_bibtex
from lossmith.formula.cost import CostPlan
from lossmith.formula.evaluation import TermSum
from lossmith.formula.term import Term, collect_term_layers, name_terms
from lossmith.formula.weight import Factor, Weight
from lossmith.lens import Features, Lens

__all__ = ["Hybrid", "Loss"]


class Loss(TermSum, ABC):
    """A weighted sum of terms: base class of sums and of single distances.

    Subclass :class:`lossmith.Distance` to define a new loss.
    """

    @property
    def networks(self) -> dict[str, Backbone]:
        """The pretrained networks of the lenses, by their keys."""
        stages = (stage for term in self.terms for _, stage in term.path)
        return {s.backbone.key: s.backbone for s in stages if isinstance(s, Features)}

    @property
    def weight_hashes(self) -> dict[str, str]:
        """The SHA-256 of each file of pretrained weights in use, by its key; this searches for the files."""
        hashes: dict[str, str] = {}
        for term in self.terms:
            for _, lens in term.path:
                hashes |= lens.weight_hashes
        return hashes

    def with_network_weights(self, weights: str | None) -> "Hybrid":
        """Return this loss on networks with other weights, such as "random", see :meth:`lossmith.Lens.with_weights`."""
        return Hybrid(
            replace(term, lens=term.lens.with_weights(weights)) if term.lens is not None else term
            for term in self.terms
        )

    def reweighted(self, weights: Mapping[str, float | Weight] | Sequence[float | Weight]) -> "Hybrid":
        """Return the same terms with other weights.

        Args:
            weights: The weights of all terms in order, or the new weights of some terms by name.

        Raises:
            ValueError: A name is unknown, or the number of weights differs from the number of terms.
        """
        names = self.names
        if isinstance(weights, Mapping):
            if unknown := [name for name in weights if name not in names]:
                raise ValueError(f"Unknown term {unknown[0]!r}; the terms are {', '.join(names)}.")
            new = [weights.get(name, term.weight) for name, term in zip(names, self.terms, strict=True)]
        else:
            new = list(weights)
        if len(new) != len(names):
            raise ValueError(f"A loss of {len(names)} terms needs {len(names)} weights; got {len(new)}.")
        return Hybrid(
            replace(term, weight=w if isinstance(w, Weight) else Weight() * w)
            for term, w in zip(self.terms, new, strict=True)
        )

    def on(self, **inputs: str) -> "Hybrid":
        """Return the same loss on other inputs: ``L1().on(pred="filled")`` reads "filled" in place of "pred".

        Args:
            inputs: The name of the input to read, by the parameter of the distance.

        Raises:
            ValueError: No term has such a parameter, a term cannot be masked, or a name is not an identifier.
        """
        known = {parameter for term in self.terms for parameter in term.parameters}
        if "mask" in inputs:
            self._check_is_maskable()
        for parameter, name in inputs.items():
            if parameter not in known:
                raise ValueError(f"{self!r} reads {', '.join(sorted(known))}; it has no input '{parameter}' to rename.")
            if not (isinstance(name, str) and name.isidentifier()):
                raise ValueError(f"on({parameter}=...) must be the name of an input; got {name!r}.")
        return Hybrid(term.on(inputs) for term in self.terms)

    def _check_is_maskable(self) -> None:
        """Raise ValueError if a term takes no mask."""
        for name, term in zip(self.names, self.terms, strict=True):
            if "mask" not in term.parameters:
                raise ValueError(
                    f"The term '{name}', {term.distance!r}, takes no mask; apply .on(mask=...) to the other terms only."
                )
            if non_spatial := [stage for _, stage in term.path if not stage.is_spatial]:
                raise ValueError(
                    f"The term '{name}' has the lens {non_spatial[0]!r}, whose maps have no positions to mask."
                )

    @property
    def min_channels(self) -> int:
        """The least number of channels of the images, which a lens such as ``Bands(8, 4, 3)`` needs."""
        return max(term.min_channels for term in self.terms)

    def plan(self, shape: Sequence[int] | None = None) -> CostPlan:
        """Return the cost of one step: network passes, operations and bytes.

        Args:
            shape: The shape of the images, (N, C, H, W); None for one image of 256 px a side, RGB unless a lens needs
                more bands.
        """
        return CostPlan.from_terms(self.terms, self.names, shape or (1, max(3, self.min_channels), 256, 256))

    def citation(self) -> str:
        """Return the BibTeX entries of the losses, lenses and networks in use."""
        sources: dict[str, None] = {}
        for term in self.terms:
            sources.update(dict.fromkeys(term.distance.citation_keys))
            for _, lens in term.path:
                sources.update(dict.fromkeys(lens.citation_keys))
                if isinstance(lens, Features):
                    sources.update(dict.fromkeys(lens.backbone.citation_keys))
            if term.distance.tiling and term.path and term.path[-1][1].term_label == "perceptual":
                sources["johnson2016"] = None  # a pointwise distance of features
        return format_bibtex(sources)

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
                "A weight must be a number, a schedule or a knob; got a tensor. Use a Knob and pass the tensor at the "
                "call."
            )
        if isinstance(other, Weight | Factor | int | float):
            if isinstance(other, Weight | Factor) and (other * 1).share is not None and len(self.terms) > 1:
                raise ValueError("A gradient share applies to one term; give each term of the sum its own share.")
            return Hybrid(replace(term, weight=term.weight * other) for term in self.terms)
        return NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, other: object) -> "Hybrid":
        return self * (1 / other) if isinstance(other, int | float) and other else NotImplemented

    def __matmul__(self, lens: object) -> "Hybrid":
        if isinstance(lens, Lens):
            return Hybrid(term.with_inner_lens(lens) for term in self.terms)
        return NotImplemented

    @abstractmethod
    def __repr__(self) -> str: ...


@final
class Hybrid(Loss):
    """A flat sum of terms, the result of every operator of the algebra.

    Args:
        terms: At least one term.

    Raises:
        ValueError: There is no term, or a knob has the name of an input.
    """

    def __init__(self, terms: Iterable[Term]) -> None:
        super().__init__()
        self._terms = tuple(terms)
        if not self._terms:
            raise ValueError("A Hybrid needs at least one term; got none.")
        self._names = name_terms(self._terms)
        self._required_layers = collect_term_layers(self._terms)
        if clash := self.input_names.intersection(self.knobs):
            raise ValueError(f"'{min(clash)}' is both an input and a knob of this loss; rename the knob.")
        self.losses = nn.ModuleList(term.distance for term in self._terms)  # so that .to() moves buffers
        self.lenses = nn.ModuleList(term.lens for term in self._terms if term.lens)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of the sum, in the order in which they were written."""
        return self._terms

    @property
    def names(self) -> tuple[str, ...]:
        """A short, unique name for each term, for logs."""
        return self._names

    @property
    def required_layers(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """The layers that the terms need of each input at each network."""
        return self._required_layers

    def __repr__(self) -> str:
        return " + ".join(repr(term) for term in self._terms)
