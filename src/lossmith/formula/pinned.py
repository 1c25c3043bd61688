"""A loss some of whose views stay the same: what the networks see of these is kept."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from lossmith.engine.feature_cache import Looks, wanted_layers
from lossmith.formula.inputs import checked, refuse_no_pictures
from lossmith.formula.loss import Loss
from lossmith.formula.term import Term
from lossmith.lens import Maps

__all__ = ["Pinned", "pinned"]


@final
class Pinned(Loss):
    """A loss with some views given once and for all, as the two pictures of a style transfer are.

    What each term compares with is kept, such as Gram matrices, and not the features that lead to it; a network sees
    these views no more. It was computed with the weights, the precision and the device of that moment, and does not
    notice when the pictures change. Where a pinned view holds one picture, that one serves every picture of a batch.
    The text says nothing of it, and a sum with another loss forgets it.

    Args:
        loss: The loss.
        views: The views that stay the same, (N, 3, H, W) or (1, 3, H, W).
        limit: The bytes that may be kept, besides the pictures. What does not fit is computed at each step, the largest
            first.

    Raises:
        ValueError: The loss does not read such a view.

    Example:
        >>> from lossmith import parse, pinned
        >>> loss = parse("L1 + style('vgg16', 'relu1_1', weights='random')")
        >>> pred, target = torch.rand(4, 3, 32, 32), torch.rand(1, 3, 32, 32)
        >>> fixed = pinned(loss, target=target)
        >>> torch.allclose(fixed(pred), loss(pred, target.expand(4, -1, -1, -1)))
        True
        >>> fixed.bytes  # a 64 x 64 matrix
        16384
    """

    def __init__(self, loss: Loss, views: Mapping[str, Tensor], limit: int = 2**30) -> None:
        super().__init__()
        if unread := sorted(set(views) - loss.reads):
            raise ValueError(f"{loss!r} reads {', '.join(sorted(loss.reads))}; there is no '{unread[0]}' to pin.")
        if not views:
            raise ValueError("pinned wants inputs, such as pinned(loss, target=images); got none.")
        self.loss = loss
        self.pinned = {name: view.detach() for name, view in views.items()}
        self.kept: dict[tuple[str, bool, str], Maps] = {}
        self.bytes = 0
        for term in loss.terms:
            read = {view for p, view in term.reads.items() if p not in term.distance.bare}
            for view in read & set(views) if term.distance.pictures else ():
                refuse_no_pictures(view, self.pinned[view])
        with torch.no_grad():
            looks = Looks(self.pinned, loss.wanted)
            found = [
                ((view, True, term.path[-1][0]), looks(view, term.path, detached=True)) for term, view in self._paths()
            ]
        for key, maps in sorted(found, key=lambda one: _size(one[1])):
            if self.bytes + _size(maps) <= limit:
                self.kept[key] = self.kept.get(key, {}) | maps
                self.bytes = sum(map(_size, self.kept.values()))
        later = Looks({}, {}, self.kept)
        self._wanted = wanted_layers(
            (view, term.path)
            for term in loss.terms
            for parameter, view in term.reads.items()
            if parameter not in term.distance.bare
            and later.already(view, term.path, detached=parameter == "target") is None
        )

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of the loss."""
        return self.loss.terms

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return self.loss.names

    @property
    def reads(self) -> frozenset[str]:
        """The views that it still needs."""
        return self.loss.reads - set(self.pinned)

    @property
    def wanted(self) -> Mapping[tuple[str, str], Sequence[str]]:
        """The layers that its terms still look at, for each view and network."""
        return self._wanted

    def looks(self, views: Mapping[str, Tensor]) -> Looks:
        """What the lenses are about to see of the views that are not pinned."""
        n = max((len(view) for view in views.values() if isinstance(view, Tensor) and view.dim()), default=1)
        both = {**{name: _repeated(view, n) for name, view in self.pinned.items()}, **views}
        kept = {key: {layer: _repeated(m, n) for layer, m in maps.items()} for key, maps in self.kept.items()}
        return Looks(checked(self.terms, self.names, both), self.wanted, kept)

    def _paths(self) -> list[tuple[Term, str]]:
        """The terms that compare with a pinned view through lenses, and that view."""
        pairs = [(t, t.reads.get("target", "")) for t in self.terms if t.path and not (t.adds and "mask" in t.reads)]
        return [(term, view) for term, view in pairs if view in self.pinned]

    def __repr__(self) -> str:
        return repr(self.loss)


def pinned(loss: Loss, *, limit: int = 2**30, **views: Tensor) -> Pinned:
    """Return the loss with some inputs fixed; what it compares with is computed once and kept.

    Args:
        loss: The loss.
        limit: The bytes that may be kept, besides the images.
        views: The inputs that stay the same, (N, 3, H, W) or (1, 3, H, W).

    Raises:
        ValueError: The loss does not read such an input.
    """
    return Pinned(loss, views, limit)


def _repeated(tensor: Tensor, n: int) -> Tensor:
    return tensor.expand(n, *tensor.shape[1:]) if len(tensor) == 1 and n > 1 else tensor


def _size(maps: Mapping[str, Tensor]) -> int:
    return sum(each.numel() * each.element_size() for each in maps.values())
