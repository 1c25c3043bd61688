"""Base class of a new loss of one term."""

from lossmith._repr import ReprFromArguments
from lossmith.formula.loss import Loss
from lossmith.formula.measure import Measure
from lossmith.formula.term import Term

__all__ = ["Distance"]


class Distance(ReprFromArguments, Measure, Loss):
    """A loss of one term with weight 1, defined by the method ``measure``.

    ``measure`` maps its inputs to one value per image, (N,). The names of its parameters are the inputs that the
    distance reads: ``measure(self, pred, target)``, or ``measure(self, pred)`` for a regulariser. Through a lens,
    ``measure`` is called once per feature map. The `repr`, its text in a formula, is made from the arguments of the
    constructor. CONTRIBUTING.md explains how to add a distance.
    """

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["_terms"] = (Term(self),)  # built here, because torch.compile cannot construct a Term

    _terms: tuple[Term, ...]

    @property
    def terms(self) -> tuple[Term, ...]:
        """The one term of the sum: the distance itself with weight 1."""
        return self._terms
