"""The result of a calibration: values, gradient norms and gradient shares of the terms of a loss."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

from lossmith._format import format_percent, print_table, print_text
from lossmith.formula.loss import Loss
from lossmith.formula.weight import GradientShare, Weight, shares_to_weights

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["CalibrationReport", "TermCalibration"]

MIN_SHARE = 0.01
"""The share of the gradient below which a term has hardly any effect."""


@final
@dataclass(frozen=True)
class TermCalibration:
    """The measurement of one term.

    Args:
        name: The name of the term.
        weight: The weight as written.
        value: The unweighted batch mean.
        norm: The unweighted gradient norm at the output, in units of L1's; None if the term has no path to the output.
        relative_std: The standard deviation of the norm over the batches, divided by the norm.
        share: The part of the weighted norm in the sum over all terms, in [0, 1]; None without a path.
        equal_weight: The weight at which the gradient norm equals that of the reference with weight 1; None for a term
            without a gradient.
    """

    name: str
    weight: str
    value: float
    norm: float | None
    relative_std: float
    share: float | None
    equal_weight: float | None


@final
@dataclass(frozen=True)
class CalibrationReport:
    """The result of :func:`lossmith.calibrate`. The reference is the first term with a gradient.

    Args:
        loss: The loss.
        terms: The measurements of the terms.
        cosines: The cosines between the gradients of the terms; None for a term without a gradient.
        num_images: The number of images.
        source: What the images are and where the prediction comes from.
    """

    loss: Loss
    terms: tuple[TermCalibration, ...]
    cosines: tuple[tuple[float | None, ...], ...]
    num_images: int
    source: str = ""

    def rescale(self) -> Loss:
        """Return the loss with weights in units of equal gradient norms.

        Shares become numbers, and each weight is multiplied by the term's :attr:`TermCalibration.equal_weight`. A term
        without a gradient keeps its weight.
        """
        pairs = zip(shares_to_weights(self.loss.weights), self.terms, strict=True)
        return self.loss.reweighted(
            [_round(weight * (1.0 if term.equal_weight is None else term.equal_weight)) for weight, term in pairs]
        )

    def resolve_shares(self) -> Loss:
        """Return the loss with numbers instead of shares, and all other weights unchanged.

        If all weights are shares, the gradient norms of all terms add up to L1's.
        """
        weights = resolve_shares(self.loss.weights, self.loss.names, [term.norm for term in self.terms])
        return self.loss.reweighted([_round(weight) for weight in weights])

    def to_shares(self) -> Loss:
        """Return the loss with measured gradient shares instead of numbers, independent of the images' scale."""
        pairs = zip(self.loss.weights, self.terms, strict=True)
        return self.loss.reweighted([_to_share(weight, term.share) if term.share else weight for weight, term in pairs])

    @property
    def proportion(self) -> str:
        """The shares in one line, such as "L1 1.2 : perceptual 98.8 % of the gradient"."""
        parts = [f"{term.name} {format_percent(term.share)}" for term in self.terms if term.share is not None]
        return f"{' : '.join(parts)} % of the gradient" if parts else "none of the gradient"

    @property
    def comparable_shares(self) -> dict[str, float]:
        """The shares of the terms by name, without untrained discriminators and terms without a path or a weight."""
        compared = [
            (calibration.name, calibration.share)
            for calibration, term in zip(self.terms, self.loss.terms, strict=True)
            if calibration.share and term.distance.discriminator_step is None
        ]
        total = sum(share for _, share in compared)
        return {name: share / total for name, share in compared}

    @property
    def negligible_terms(self) -> tuple[str, ...]:
        """The terms with less than 1 % of the gradient whose share is not written in the formula.

        If a term has more than 99 %, all others have less than 1 %.
        """
        requested = {name for name, weight in zip(self.loss.names, self.loss.weights, strict=True) if weight.share}
        return tuple(n for n, share in self.comparable_shares.items() if share < MIN_SHARE and n not in requested)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on single terms, one per line."""
        notes = []
        for calibration, term in zip(self.terms, self.loss.terms, strict=True):
            if calibration.norm is None:
                notes.append(f"{calibration.name} has no path to the output and keeps its weight.")
            elif calibration.norm == 0:
                notes.append(f"{calibration.name} has no gradient on these images.")
            if calibration.name in self.negligible_terms:
                notes.append(f"{calibration.name} has less than 1% of the gradient and thus hardly any effect.")
            if term.distance.discriminator_step is not None:
                notes.append(
                    f"{calibration.name} has an untrained discriminator; its share changes as the discriminator trains."
                )
        return tuple(notes)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "loss": repr(self.loss),
            "source": self.source,
            "num_images": self.num_images,
            "terms": [asdict(term) for term in self.terms],
            "cosines": self.cosines,
            "proportion": self.proportion,
            "shares": repr(self.to_shares()),
            "rescaled": repr(self.rescale()),
            "notes": self.notes,
        }

    def to_tables(self) -> "list[Table]":
        """Return tables: one row per term, and the cosines; print them by :func:`lossmith._format.print_table`."""
        from rich.table import Table

        title = f"{self.source}: {self.num_images} images" if self.source else f"{self.num_images} images"
        table = Table(title=title, title_justify="left")
        for head in ("term", "weight"):
            table.add_column(head)
        for head in ("value", "norm", "±", "share", "equal weight"):
            table.add_column(head, justify="right", no_wrap=True)
        cosines = Table("cosine")
        for term in self.terms:
            cosines.add_column(term.name, justify="right")
        for term, row in zip(self.terms, self.cosines, strict=True):
            numbers = [f"{term.value:.4g}", _format_number(term.norm), f"{100 * term.relative_std:.0f}%"]
            numbers += ["-" if term.share is None else f"{format_percent(term.share)}%"]
            table.add_row(term.name, term.weight, *numbers, _format_number(term.equal_weight))
            cosines.add_row(term.name, *("-" if cosine is None else f"{cosine:+.2f}" for cosine in row))
        return [table, cosines] if len(self.terms) > 1 else [table]

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        out = StringIO()
        console = Console(file=out)
        for table in self.to_tables():
            print_table(console, table)
        for note in self.notes:
            print_text(console, note)
        return out.getvalue().rstrip()


def resolve_shares(
    weights: Sequence[Weight], names: Sequence[str], norms: Sequence[float | None]
) -> tuple[Weight, ...]:
    """Replace shares by numbers, beside weights that are numbers.

    Args:
        weights: The weights.
        names: The names of the terms, for messages.
        norms: The gradient norms of the terms; None for a term without a path to the output.

    Raises:
        ValueError: If the shares do not add up, or a term without a gradient has a share.
    """
    numbers = shares_to_weights(weights)
    if all(weight.share is None for weight in weights):
        return numbers
    for name, weight, norm in zip(names, weights, norms, strict=True):
        if weight.share and not norm:
            raise ValueError(
                f"The term '{name}' has no gradient at the output on these images: no weight gives it "
                f"{abs(weight.share):g}% of the gradient. Give it a number as weight."
            )
    others = [(abs(w.final_value), norm or 0.0) for w, norm in zip(weights, norms, strict=True) if w.share is None]
    others_norm = sum(weight * norm for weight, norm in others)
    is_complete = abs(sum(abs(weight.share or 0) for weight in weights) - 100) <= 0.1
    if is_complete and others_norm:
        raise ValueError("The shares add up to 100%, but terms without a share have a gradient; lower the shares.")
    if not (is_complete or others_norm):
        raise ValueError("The shares add up to less than 100%, but no other term has a gradient; raise them to 100%.")
    unit = 1.0 if is_complete else others_norm / sum(weight for weight, _ in others)  # the norm per weight of 1
    return tuple(
        number * (unit / norm) if weight.share and norm else number
        for weight, number, norm in zip(weights, numbers, norms, strict=True)
    )


def _to_share(weight: Weight, share: float) -> Weight:
    """Return the weight as a share of the gradient, with its knobs, schedules and sign."""
    factor = GradientShare(min(100.0, float(f"{100 * share:.4g}")))
    return Weight(math.copysign(1.0, weight.scale), (factor, *weight.factors_without_share))


def _round(weight: Weight) -> Weight:
    return Weight(float(f"{weight.scale:.5g}"), weight.factors)  # a measurement has no more digits


def _format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
