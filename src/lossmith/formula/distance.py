"""A distance: a loss of one term, which a new loss subclasses."""

from lossmith.formula.loss import Loss
from lossmith.formula.measure import Measure
from lossmith.formula.term import Term

__all__ = ["Distance"]


class Distance(Measure, Loss):
    """A loss of one term with weight 1, defined by one method, ``measure``.

    ``measure`` maps inputs to one value per image, (N,). The names of its parameters are the inputs that it reads:
    ``measure(self, pred, target)``, or ``measure(self, pred)`` for a regulariser. Behind a lens it is called once per
    feature map; CONTRIBUTING.md walks through adding a distance.
    """

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["_terms"] = (Term(self),)  # made once, since torch.compile cannot construct a term

    _terms: tuple[Term, ...]

    @property
    def terms(self) -> tuple[Term, ...]:
        """The one term of the sum: the distance itself, with weight 1."""
        return self._terms
