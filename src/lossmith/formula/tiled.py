"""A loss of images larger than memory: the networks see tiles; value and gradient equal those of the whole image.

A tile is passed with the margin that its features depend on, so that they equal the whole image's features up to
rounding. A distance that is a mean over positions is a weighted mean over tiles. A Gram matrix is summed over the tiles
in a first round; the gradient at the whole matrix is then propagated through each tile in a second round.
"""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from lossmith._checks import check_integer
from lossmith.backbone import Backbone
from lossmith.engine.feature_cache import FeatureCache
from lossmith.engine.second_derivatives import is_transformed, link_to, refuse_second_derivative
from lossmith.formula.input_range import warn_of_value_range
from lossmith.formula.inputs import bind_inputs, check_inputs, warn_of_constant_gradient
from lossmith.formula.loss import Loss
from lossmith.formula.sampling import Part, Window, find_factor
from lossmith.formula.term_evaluation import evaluate_term
from lossmith.formula.tiling import ImageTile, TiledTerm, refuse_tiling, split_into_tiles
from lossmith.formula.weight import WeightValue
from lossmith.lens import Maps, autocast_disabled

__all__ = ["TiledLoss", "tiled"]

Factors = Sequence[Tensor | float]
Gradients = Mapping[str, Tensor]


@final
class TiledLoss(nn.Module):
    """A loss that passes one tile at a time through its networks, see :func:`tiled`.

    The gradient is computed together with the value, tile by tile, so that the memory is that of one tile and a few
    images; call the loss under `no_grad` if no gradient is needed. Terms without a network see the whole images. Tiles
    overlap by their margins, which depend on the layers and make small tiles expensive.

    Args:
        loss: The loss. Before each network, there may be pointwise lenses, such as a selection of bands; after it,
            pointwise lenses, then a Gram matrix; without a Gram matrix,
            the distance must be a mean or sum over positions.
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
        self.loss = loss
        self.side = check_integer("The side of a tile", side, low=1)
        for name, term in zip(loss.names, loss.terms, strict=True):
            if sparse := find_factor(term.weight, Part) or find_factor(term.weight, Window):
                refuse_tiling(name, f"its weight contains {sparse}, and all tiles are computed")
        self.tiled_terms = tuple(TiledTerm.from_term(n, term) for n, term in zip(loss.names, loss.terms, strict=True))

    def forward(self, *tensors: Tensor, step: int | None = None, **named: WeightValue) -> Tensor:
        """Compute the weighted sum of the terms, averaged over the batch; see :meth:`lossmith.Loss.forward`.

        Raises:
            ValueError: As for the loss itself, or features of a network depend on the whole image.
        """
        if is_transformed():
            raise RuntimeError(
                "A loss in tiles computes its gradient with its value, which torch.func cannot transform; transform "
                "the loss itself, or use torch.autograd.grad."
            )
        knobs = {name: named.pop(name) for name in self.loss.knobs if name in named}
        inputs = bind_inputs(tensors, named, self.loss.input_names)
        check_inputs(self.loss.terms, self.loss.names, inputs)
        warn_of_constant_gradient(self.loss.terms, inputs)
        warn_of_value_range(self.loss.terms, inputs)
        detached = {name: tensor.detach() for name, tensor in inputs.items()}
        gradients = {name: torch.zeros_like(detached[name]) for name in self._differentiable_inputs(inputs)}
        values = []
        weights = self.loss.factors_at(step, knobs)
        active = [each for each in self.tiled_terms if isinstance(weights[each.name], Tensor) or weights[each.name]]
        for path in dict.fromkeys(each.network_path for each in active or self.tiled_terms[:1]):
            terms = [each for each in active or self.tiled_terms[:1] if each.network_path == path]
            network = terms[0].network
            factors = [weights[t.name] / len(detached[t.input_names[0]]) for t in terms]
            if network is None:
                values += self._evaluate_whole(terms, factors, detached, gradients)
            else:
                sums = self._sum_tiles(network, terms, detached)
                evaluated = [t.evaluate_sums(s, f) if s else None for t, s, f in zip(terms, sums, factors, strict=True)]
                values += [pair[0] for pair in evaluated if pair]
                sum_gradients = [pair[1] if pair else {} for pair in evaluated]
                values += self._evaluate_tiles(network, terms, factors, detached, gradients, sum_gradients)
        total = torch.stack(values).sum()
        if not gradients:
            return total
        attached = [inputs[name] for name in gradients]
        link = [link_to(attached)]
        out: Tensor = _WithGradients.apply(total, list(gradients.values()), link, *attached)  # type: ignore[no-untyped-call]
        return out

    def _differentiable_inputs(self, inputs: Mapping[str, Tensor]) -> list[str]:
        read = {name for term in self.loss.terms for p, name in term.inputs.items() if p != "target"}
        return sorted(name for name in read if torch.is_grad_enabled() and inputs[name].requires_grad)

    def _evaluate_whole(
        self, terms: Sequence[TiledTerm], factors: Factors, inputs: Mapping[str, Tensor], gradients: Gradients
    ) -> list[Tensor]:
        """Compute the values of the terms without a network, and add to the gradients."""
        values = []
        for each, factor in zip(terms, factors, strict=True):
            leaves = {n: inputs[n].detach().requires_grad_() for n in gradients if n in each.input_names}
            with torch.set_grad_enabled(bool(leaves)):
                value = (factor * evaluate_term(each.term, FeatureCache({**inputs, **leaves}, {}))).sum()
            _add_gradients(gradients, value, leaves)
            values.append(value.detach())
        return values

    def _sum_tiles(
        self, network: Backbone, terms: Sequence[TiledTerm], inputs: Mapping[str, Tensor]
    ) -> list[dict[str, Maps]]:
        """Compute the summing lens's maps of each parameter over all tiles; empty for terms without such a lens."""
        sums: list[dict[str, Maps]] = [{} for _ in terms]
        with torch.no_grad():
            for name in dict.fromkeys(name for each in terms if each.summing_lens for name in each.input_names):
                users = [i for i, each in enumerate(terms) if each.summing_lens and name in each.input_names]
                layers = _layers_of(network, [terms[i] for i in users])
                for tile in self._split(network, layers, inputs[name]):
                    features = terms[0].extract_features(inputs[name][tile.window], layers)
                    for i in users:
                        part = terms[i].sum_tile(features, tile)
                        for p in (p for p, n in terms[i].term.inputs.items() if n == name):
                            total = sums[i].setdefault(p, {})
                            total |= {layer: total[layer] + m if layer in total else m for layer, m in part.items()}
        return sums

    def _evaluate_tiles(
        self,
        network: Backbone,
        terms: Sequence[TiledTerm],
        factors: Factors,
        inputs: Mapping[str, Tensor],
        gradients: Gradients,
        sum_gradients: Sequence[Mapping[str, Maps]],
    ) -> list[Tensor]:
        """Compute each tile's contribution to the values of terms without a summing lens; add to all gradients."""
        users: dict[str, list[TiledTerm]] = {}
        for each in terms:
            for p, name in each.term.inputs.items():
                if each.summing_lens is None or (p != "target" and name in gradients):
                    users.setdefault(name, []).append(each)
        if not users:
            return []
        if len({inputs[name].shape[2:] for name in users}) > 1:
            sizes = ", ".join(f"'{name}' {tuple(inputs[name].shape)}" for name in users)
            raise ValueError(f"Inputs of terms in tiles must have equal height and width; got {sizes}.")
        layers = {name: _layers_of(network, among) for name, among in users.items()}
        all_layers = tuple(layer for layer in network.layers if any(layer in some for some in layers.values()))
        values = []
        for tile in self._split(network, all_layers, inputs[next(iter(users))]):
            leaves = {n: inputs[n][tile.window].clone().requires_grad_() for n in gradients if n in users}
            with torch.set_grad_enabled(bool(leaves)):
                images = {n: leaves.get(n, inputs[n][tile.window]) for n in users}
                features = {n: terms[0].extract_features(image, layers[n]) for n, image in images.items()}
                parts = [
                    (factor * each.measure_tile(features, tile)).sum()
                    for each, factor in zip(terms, factors, strict=True)
                    if not each.summing_lens
                ]
                values += [part.detach() for part in parts]
                parts += [
                    (part * gradient[p][layer]).sum()
                    for each, gradient in zip(terms, sum_gradients, strict=True)
                    for p in (p for p in gradient if each.term.inputs[p] in leaves)
                    for layer, part in each.sum_tile(features[each.term.inputs[p]], tile).items()
                ]
            if leaves:
                _add_gradients({n: gradients[n][tile.window] for n in leaves}, torch.stack(parts).sum(), leaves)
        return values

    def _split(self, network: Backbone, layers: Sequence[str], image: Tensor) -> list[ImageTile]:
        height, width = image.shape[2:]
        geometry = network.geometry(height, width, layers)
        if geometry is None:
            refuse_tiling(network.key, "its features depend on the whole image")
        return list(split_into_tiles(height, width, self.side, geometry))

    def extra_repr(self) -> str:
        """Return the formula and the side of a tile."""
        return f"{self.loss!r}, side={self.side}"


def tiled(loss: Loss, side: int = 512) -> TiledLoss:
    """Return the loss for images larger than memory; its networks see one tile at a time.

    Args:
        loss: The loss.
        side: The side of a tile without its margin, in pixels.

    Raises:
        ValueError: A term of the loss cannot be computed in tiles.
    """
    return TiledLoss(loss, side)


def _layers_of(network: Backbone, terms: Sequence[TiledTerm]) -> tuple[str, ...]:
    return tuple(layer for layer in network.layers if any(layer in each.term.layer_weights for each in terms))


def _add_gradients(gradients: Gradients, value: Tensor, leaves: Mapping[str, Tensor]) -> None:
    """Add the gradients of a value at the leaves to the gradients, in place."""
    if leaves and value.requires_grad:
        with autocast_disabled(value):
            found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
        for name, gradient in zip(leaves, found, strict=True):
            gradients[name].add_(gradient)


class _WithGradients(torch.autograd.Function):
    """Attach known gradients to a value. They are scaled in place, since a copy would need the memory of an image."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], link: list[Tensor | None], *inputs: Tensor) -> Tensor:
        ctx.gradients, ctx.link = gradients, link[0]
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.gradients:
            raise RuntimeError("The gradient of a loss in tiles can be taken only once; compute the loss again.")
        with torch.no_grad():
            found = [gradient.mul_(grad_output) for gradient in ctx.gradients]
        ctx.gradients.clear()
        return None, None, None, *(refuse_second_derivative(each, grad_output, ctx.link) for each in found)
