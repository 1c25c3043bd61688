"""A loss of pictures larger than memory: the networks see them in tiles, and value and gradient are those of the whole.

A tile brings the margin that its features look into, so that they are the whole picture's features up to rounding. A
distance that is a mean over places is a weighted mean over tiles. A Gram matrix is one, too: a first round over the
tiles adds it up; what the distance says of the whole matrix then goes back through each tile in a second round.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from lossmith.engine.feature_cache import Looks
from lossmith.formula.inputs import by_name, checked
from lossmith.formula.loss import Loss
from lossmith.formula.tiling import (
    Piece,
    Tile,
    cut,
    refuse,
)
from lossmith.formula.weight import Value
from lossmith.lens import Backbone, Maps, unhalved

__all__ = ["Tiled", "tiled"]

Shares = Sequence[Tensor | float]


@final
class Tiled(nn.Module):
    """A loss that shows its networks one tile at a time, see :func:`tiled`.

    The gradient is found together with the value, tile by tile, so that the memory is that of one tile and of a few
    pictures; a loss without a gradient wants `no_grad`. Terms without a network see the whole pictures. Tiles overlap
    by their margins, which depend on the layers and make small tiles costly.

    Args:
        loss: The loss. Behind each network of it there may be lenses that look at one place at a time, then a Gram
            matrix; without one, the distance is a mean or a sum over places.
        side: The side of a tile without its margin, in pixels.

    Raises:
        ValueError: A term of the loss cannot be computed in tiles.

    Example:
        >>> from lossmith import parse, tiled
        >>> loss = parse("L1 + style('vgg16', 'relu2_1', weights='random')")
        >>> pred, target = torch.rand(1, 3, 96, 64), torch.rand(1, 3, 96, 64)
        >>> torch.allclose(tiled(loss, 32)(pred, target), loss(pred, target))
        True
    """

    def __init__(self, loss: Loss, side: int = 512) -> None:
        super().__init__()
        if side < 1:
            raise ValueError(f"Tiles want a side of at least 1 px; got {side!r}.")
        self.loss = loss
        self.side = side
        self.pieces = tuple(Piece.of(name, term) for name, term in zip(loss.names, loss.terms, strict=True))

    def forward(self, *tensors: Tensor, step: int = 0, **named: Value) -> Tensor:
        """The weighted sum of the terms, averaged over the batch, as the loss itself gives it.

        Raises:
            ValueError: As there; or a network looks at the whole picture at once.
        """
        knobs = {name: named.pop(name) for name in self.loss.knobs if name in named}
        views = checked(self.loss.terms, self.loss.names, by_name(tensors, named, self.loss.reads))
        moved = {view for term in self.loss.terms for p, view in term.reads.items() if p != "target"}
        moved = {view for view in moved if torch.is_grad_enabled() and views[view].requires_grad}
        bare = {name: view.detach() for name, view in views.items()}
        gradients = {view: torch.zeros_like(bare[view]) for view in sorted(moved)}
        values = []
        for network in dict.fromkeys(piece.network for piece in self.pieces):
            pieces = [piece for piece in self.pieces if piece.network is network]
            shares = [piece.term.weight.at(step, knobs) / len(bare[piece.views[0]]) for piece in pieces]
            if network is None:
                values += self._whole(pieces, shares, bare, gradients)
            else:
                sums = self._first(network, pieces, bare)
                judged = [p.judge(s, share) if s else None for p, s, share in zip(pieces, sums, shares, strict=True)]
                values += [found[0] for found in judged if found]
                pulls = [found[1] if found else {} for found in judged]
                values += self._second(network, pieces, shares, bare, gradients, pulls)
        total = torch.stack(values).sum()
        if not gradients:
            return total
        out: Tensor = _Found.apply(total, list(gradients.values()), *map(views.get, gradients))  # type: ignore[no-untyped-call]
        return out

    def _whole(
        self, pieces: Sequence[Piece], shares: Shares, views: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
    ) -> list[Tensor]:
        """The values of the terms without a network; adds to the gradients."""
        values = []
        for piece, share in zip(pieces, shares, strict=True):
            leaves = {v: views[v].detach().requires_grad_() for v in gradients if v in piece.views}
            with torch.set_grad_enabled(bool(leaves)):
                value = (share * piece.term.evaluate(Looks({**views, **leaves}, {}))).sum()
            _add(gradients, value, leaves)
            values.append(value.detach())
        return values

    def _first(self, network: Backbone, pieces: Sequence[Piece], views: Mapping[str, Tensor]) -> list[dict[str, Maps]]:
        """For each term that adds up over places, its matrices of each parameter; nothing for others."""
        sums: list[dict[str, Maps]] = [{} for _ in pieces]
        with torch.no_grad():
            for view in dict.fromkeys(view for piece in pieces if piece.adds for view in piece.views):
                users = [i for i, piece in enumerate(pieces) if piece.adds and view in piece.views]
                layers = _layers(network, [pieces[i] for i in users])
                for tile in self._cut(network, layers, views[view]):
                    seen = network(views[view][tile.window], layers)
                    for i in users:
                        part = pieces[i].part(seen, tile)
                        for p in (p for p, v in pieces[i].term.reads.items() if v == view):
                            before = sums[i].setdefault(p, {})
                            before |= {n: before[n] + m if n in before else m for n, m in part.items()}
        return sums

    def _second(
        self,
        network: Backbone,
        pieces: Sequence[Piece],
        shares: Shares,
        views: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        pulls: Sequence[Mapping[str, Maps]],
    ) -> list[Tensor]:
        """What each tile adds to the values of the other terms; adds to the gradients of all."""
        wanted: dict[str, list[Piece]] = {}
        for piece in pieces:
            for p, view in piece.term.reads.items():
                if piece.adds is None or (p != "target" and view in gradients):
                    wanted.setdefault(view, []).append(piece)
        layers = {view: _layers(network, users) for view, users in wanted.items()}
        if not wanted:
            return []
        if len({views[view].shape[2:] for view in wanted}) > 1:
            sizes = ", ".join(f"'{view}' {tuple(views[view].shape)}" for view in wanted)
            raise ValueError(f"Terms in tiles want views of one size; got {sizes}.")
        every = tuple(n for n in network.layers if any(n in some for some in layers.values()))
        values = []
        for tile in self._cut(network, every, views[next(iter(wanted))]):
            leaves = {v: views[v][tile.window].clone().requires_grad_() for v in gradients if v in wanted}
            with torch.set_grad_enabled(bool(leaves)):
                seen = {v: network(leaves.get(v, views[v][tile.window]), layers[v]) for v in wanted}
                parts = [
                    (share * p.measure(seen, tile)).sum() for p, share in zip(pieces, shares, strict=True) if not p.adds
                ]
                values += [part.detach() for part in parts]
                parts += [
                    (part * pull[p][layer]).sum()
                    for piece, pull in zip(pieces, pulls, strict=True)
                    for p in (p for p in pull if piece.term.reads[p] in leaves)
                    for layer, part in piece.part(seen[piece.term.reads[p]], tile).items()
                ]
            if leaves:
                _add({v: gradients[v][tile.window] for v in leaves}, torch.stack(parts).sum(), leaves)
        return values

    def _cut(self, network: Backbone, layers: Sequence[str], picture: Tensor) -> list[Tile]:
        height, width = picture.shape[2:]
        if (geometry := network.geometry(height, width, layers)) is None:
            refuse(network.title, "it looks at the whole picture at once")
        return list(cut(height, width, self.side, geometry))

    def extra_repr(self) -> str:
        """Its text."""
        return f"{self.loss!r}, side={self.side}"


def tiled(loss: Loss, side: int = 512) -> Tiled:
    """Return the loss for images larger than memory, whose networks see one tile at a time.

    Args:
        loss: The loss.
        side: The side of a tile without its margin, in pixels.

    Raises:
        ValueError: A term of the loss cannot be computed in tiles.
    """
    return Tiled(loss, side)


def _layers(network: Backbone, pieces: Sequence[Piece]) -> tuple[str, ...]:
    return tuple(n for n in network.layers if any(n in piece.term.shares for piece in pieces))


def _add(gradients: Mapping[str, Tensor], value: Tensor, leaves: Mapping[str, Tensor]) -> None:
    """Adds the gradient of a value at some leaves to what there is of it."""
    if leaves and value.requires_grad:
        with unhalved(value):
            found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
        for view, g in zip(leaves, found, strict=True):
            gradients[view].add_(g)


class _Found(torch.autograd.Function):
    """A value whose gradients are known; they are handed over, for another copy would be another picture."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *views: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, arriving: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.gradients:
            raise RuntimeError("The gradient of a loss in tiles can be taken once; compute the loss again.")
        found = [g.mul_(arriving) for g in ctx.gradients]
        ctx.gradients.clear()
        return None, None, *found
