"""The card of a loss: what its weights come to on some pictures, and which would be equal."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

from lossmith.loss import Loss
from lossmith.weight import Weight, asked

if TYPE_CHECKING:
    from rich.table import Table

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
    """What calibrating has measured.

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
        """The loss with its weights in units of equal gradients: 1 pulls as hard for one term as for another.

        Each weight is multiplied by the row's :attr:`Row.equal`; shares become numbers first. A term that does not pull
        keeps its weight.
        """
        rows = zip(asked(self.loss.weights), self.rows, strict=True)
        return self.loss.reweighted([neat(weight * (1.0 if row.equal is None else row.equal)) for weight, row in rows])

    def resolved(self) -> Loss:
        """The loss with numbers in the place of shares, and all other weights as they are.

        Where all weights are shares, the norms of all terms together come to L1's.
        """
        weights = self.loss.weights
        numbers = resolved(weights, self.loss.names, [row.norm for row in self.rows])
        return self.loss.reweighted([neat(weight) for weight in numbers])

    @property
    def notes(self) -> tuple[str, ...]:
        """What else to know, a line each."""
        notes = []
        for row, term in zip(self.rows, self.loss.terms, strict=True):
            if row.norm is None:
                notes.append(f"{row.name} has no path to the output, and keeps its weight.")
            elif row.norm == 0:
                notes.append(f"{row.name} has no gradient on these pictures.")
            if term.loss.study is not None:
                notes.append(f"{row.name} has a critic that has learnt nothing yet; its part changes once it does.")
        return tuple(notes)

    @property
    def proportion(self) -> str:
        """The shares in one line, such as "L1 1.2 : perceptual 98.8 % of the gradient"."""
        parts = [f"{row.name} {percent(row.share)}" for row in self.rows if row.share is not None]
        return f"{' : '.join(parts)} % of the gradient" if parts else "no term pulls at the output"

    def record(self) -> dict[str, Any]:
        """The card for JSON."""
        return {
            "loss": repr(self.loss),
            "source": self.source,
            "pictures": self.pictures,
            "terms": [asdict(row) for row in self.rows],
            "cosines": self.cosines,
            "rescaled": repr(self.rescaled()),
            "notes": self.notes,
        }

    def table(self) -> "Table":
        """The card as a table of rich."""
        from rich.markup import escape
        from rich.table import Table

        title = f"{self.source}: {self.pictures} pictures" if self.source else f"{self.pictures} pictures"
        table = Table("term", "weight", title=escape(title), title_justify="left")
        heads = ["value", "norm", "±", "share", "equal", *(f"cos {row.name}" for row in self.rows)]
        for head in heads:
            table.add_column(head, justify="right")
        for row, cosines in zip(self.rows, self.cosines, strict=True):
            figures = [f"{row.value:.4g}", figure(row.norm), f"{100 * row.spread:.0f}%"]
            figures += ["-" if row.share is None else f"{percent(row.share)}%", figure(row.equal)]
            table.add_row(
                escape(row.name), escape(row.weight), *figures, *("-" if c is None else f"{c:+.2f}" for c in cosines)
            )
        return table

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
    sizes = [(abs(w.final), n) for w, n in zip(weights, norms, strict=True) if w.share is None]
    rest = sum(size for size, _ in sizes)
    pull = sum(size * (norm or 0.0) for size, norm in sizes)
    if sizes and not pull:
        raise ValueError("No term without a share has a gradient at the output on these pictures; give all a share.")
    unit = pull / rest if sizes else 1.0  # what a number 1 of the others pulls on average
    return tuple(
        number * (unit / norm) if weight.share and norm else number
        for weight, number, norm in zip(weights, numbers, norms, strict=True)
    )


def neat(weight: Weight) -> Weight:
    """The weight with no more digits than a measurement has."""
    return Weight(float(f"{weight.scale:.5g}"), weight.factors)


def percent(share: float | None) -> str:
    """A share with the digits that mean something."""
    return "-" if share is None else f"{100 * share:.{2 if share < 0.001 else 1}f}"


def figure(value: float | None) -> str:
    """A number with four digits."""
    return "-" if value is None else f"{value:.4g}"
