"""The card of a loss: what its weights come to on some pictures, and which would be equal."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

from lossmith.formula.loss import Loss
from lossmith.formula.weight import Percent, Weight, asked

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Card", "Row"]


@final
@dataclass(frozen=True)
class Row:
    """One term on a card.

    Args:
        name: Its name.
        weight: The weight that was asked for, as text.
        value: Its batch mean, unweighted.
        norm: The norm of its gradient at the output, unweighted, in units of L1's; None if it has no path there.
        spread: By how much the norm differs from batch to batch, as a part of it.
        share: Its part of all terms' norms, weighted; None without a path.
        equal: The weight at which it pulls as hard as the reference does with weight 1; None if it does not pull.
    """

    name: str
    weight: str
    value: float
    norm: float | None
    spread: float
    share: float | None
    equal: float | None


@final
@dataclass(frozen=True)
class Card:
    """What calibrating has measured. The reference is the first term that pulls.

    Args:
        loss: The loss.
        rows: One a term.
        cosines: Between the terms' gradients; None where one of the two has none.
        pictures: How many were looked at.
        source: What they were, and where the prediction came from.
    """

    loss: Loss
    rows: tuple[Row, ...]
    cosines: tuple[tuple[float | None, ...], ...]
    pictures: int
    source: str = ""

    def rescaled(self) -> Loss:
        """The loss that its numbers make if 1 is to pull as hard for one term as for another.

        Each weight is multiplied by the row's :attr:`Row.equal`; shares become numbers first. A term that does not pull
        keeps its weight.
        """
        rows = zip(asked(self.loss.weights), self.rows, strict=True)
        return self.loss.reweighted([neat(weight * (1.0 if row.equal is None else row.equal)) for weight, row in rows])

    def resolved(self) -> Loss:
        """The loss with numbers in the place of shares, and all other weights as they are.

        Where all weights are shares, the norms of all terms together come to L1's.
        """
        numbers = resolved(self.loss.weights, self.loss.names, [row.norm for row in self.rows])
        return self.loss.reweighted([neat(weight) for weight in numbers])

    def shares(self) -> Loss:
        """The loss with shares of the gradient in the place of numbers: what it asks for here, for any pictures."""
        rows = zip(self.loss.weights, self.rows, strict=True)
        return self.loss.reweighted([shared(weight, row.share) if row.share else weight for weight, row in rows])

    @property
    def proportion(self) -> str:
        """The shares in one line, such as "L1 1.2 : perceptual 98.8 % of the gradient"."""
        parts = [f"{row.name} {percent(row.share)}" for row in self.rows if row.share is not None]
        return f"{' : '.join(parts)} % of the gradient" if parts else "none of the gradient"

    @property
    def notes(self) -> tuple[str, ...]:
        """What else to know, a line each."""
        notes = []
        for row, term in zip(self.rows, self.loss.terms, strict=True):
            if row.norm is None:
                notes.append(f"{row.name} has no path to the output, and keeps its weight.")
            elif row.norm == 0:
                notes.append(f"{row.name} has no gradient on these pictures.")
            if term.distance.study is not None:
                notes.append(f"{row.name} has a critic that has learnt nothing yet; its part changes once it does.")
        return tuple(notes)

    def record(self) -> dict[str, Any]:
        """The card for JSON."""
        return {
            "loss": repr(self.loss),
            "source": self.source,
            "pictures": self.pictures,
            "terms": [asdict(row) for row in self.rows],
            "cosines": self.cosines,
            "proportion": self.proportion,
            "shares": repr(self.shares()),
            "rescaled": repr(self.rescaled()),
            "notes": self.notes,
        }

    def table(self) -> "RenderableType":
        """The card as tables of rich: one row a term, then the cosines."""
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table

        title = f"{self.source}: {self.pictures} pictures" if self.source else f"{self.pictures} pictures"
        table = Table(title=escape(title), title_justify="left")
        for head in ("term", "weight"):
            table.add_column(head, overflow="fold")
        for head in ("value", "norm", "±", "share", "equal"):
            table.add_column(head, justify="right", no_wrap=True)
        cosines = Table("cosine")
        for row in self.rows:
            cosines.add_column(escape(row.name), justify="right", overflow="fold")
        for row, line in zip(self.rows, self.cosines, strict=True):
            figures = [f"{row.value:.4g}", figure(row.norm), f"{100 * row.spread:.0f}%"]
            figures += ["-" if row.share is None else f"{percent(row.share)}%", figure(row.equal)]
            table.add_row(escape(row.name), escape(row.weight), *figures)
            cosines.add_row(escape(row.name), *("-" if cosine is None else f"{cosine:+.2f}" for cosine in line))
        return Group(table, cosines) if len(self.rows) > 1 else table

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        out = StringIO()
        Console(file=out, width=120).print(self.table(), *self.notes, sep="\n")
        return out.getvalue().rstrip()


def resolved(weights: Sequence[Weight], names: Sequence[str], norms: Sequence[float | None]) -> tuple[Weight, ...]:
    """Shares as numbers beside weights that are no shares.

    Args:
        weights: The weights.
        names: The terms, for messages.
        norms: Of their gradients; None where there is no path to the output.

    Raises:
        ValueError: The shares do not add up, or a term that does not pull is to have one.
    """
    numbers = asked(weights)
    if all(weight.share is None for weight in weights):
        return numbers
    for name, weight, norm in zip(names, weights, norms, strict=True):
        if weight.share and not norm:
            raise ValueError(
                f"The term '{name}' has no gradient at the output on these pictures, so that no weight gives it "
                f"{abs(weight.share):g}% of it; give it a number."
            )
    others = [(abs(w.final), norm or 0.0) for w, norm in zip(weights, norms, strict=True) if w.share is None]
    pull = sum(size * norm for size, norm in others)
    whole = abs(sum(abs(weight.share or 0) for weight in weights) - 100) <= 0.1
    if whole and pull:
        raise ValueError("The shares come to 100%, and terms without one pull, too; leave some for them.")
    if not (whole or pull):
        raise ValueError("The shares come to less than 100%, and no other term pulls; make them 100%.")
    unit = 1.0 if whole else pull / sum(size for size, _ in others)  # what a number 1 of the others pulls
    return tuple(
        number * (unit / norm) if weight.share and norm else number
        for weight, number, norm in zip(weights, numbers, norms, strict=True)
    )


def shared(weight: Weight, share: float) -> Weight:
    """The weight as a share of the gradient; its knobs, schedules and sign stay."""
    part = Percent(min(100.0, float(f"{100 * share:.4g}")))
    return Weight(math.copysign(1.0, weight.scale), (part, *weight.plain))


def neat(weight: Weight) -> Weight:
    """The weight with no more digits than a measurement has."""
    return Weight(float(f"{weight.scale:.5g}"), weight.factors)


def percent(share: float) -> str:
    """A share in percent, with the digits that mean something."""
    plain = 0.001 <= share <= 0.999 or share in (0, 1)
    return f"{100 * share:.1f}" if plain else f"{100 * share:.{4 if share > 0.5 else 2}g}"


def figure(value: float | None) -> str:
    """A number with four digits."""
    return "-" if value is None else f"{value:.4g}"
