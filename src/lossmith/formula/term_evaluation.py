"""Evaluation of one term: its values per image, the gradient at its network's features, its discriminator's step."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lossmith.engine.cpu.chunked import chunked, should_chunk
from lossmith.engine.feature_cache import FeatureCache, apply_lens
from lossmith.engine.local_gradients import (
    FeatureGradient,
    compute_local_gradients,
    detach_features,
    get_storage_dtype,
    with_precomputed_gradient,
)
from lossmith.engine.second_derivatives import is_transformed
from lossmith.formula.snr_gate import LOGSNR, apply_gates
from lossmith.formula.term import Term
from lossmith.image import resize_mask
from lossmith.lens import Maps, at_least_float32, autocast_disabled

if TYPE_CHECKING:
    from lossmith.engine.nonfinite import TermGuard

__all__ = [
    "evaluate_term",
    "evaluate_term_ungated",
    "evaluate_term_with_gradient_norm",
    "fit_mask",
    "lensed_inputs",
    "match_rows",
    "measure_layers",
    "step_term_discriminator",
]


def evaluate_term(term: Term, cache: FeatureCache) -> Tensor:
    """Compute the unweighted value of each image, (N,), times the term's gates, in float32 or float64."""
    return apply_gates(evaluate_term_ungated(term, cache), term.weight, cache.inputs)


def evaluate_term_ungated(term: Term, cache: FeatureCache) -> Tensor:
    """Compute the unweighted value of each image, (N,), without the term's gates.

    With a network, the gradient at the features is computed at once where this is possible, so that only this gradient
    is kept for the backward pass.
    """
    return _average_channels(term, cache, _evaluate_rows(term, cache))


def _evaluate_rows(term: Term, cache: FeatureCache) -> Tensor:
    """Compute the value of each image, or of each of its channels if a lens splits them."""
    # len() == 0, because Dynamo cannot trace `not` of a tuple
    saves_less_without = term.distance.has_compact_backward and len(term.outer_lenses) == 0
    if term.inner_path and not saves_less_without and _can_precompute_gradient(term, cache):
        features = _features_at_network(term, cache)
        if torch.is_grad_enabled() and any(map_.requires_grad for maps in features.values() for map_ in maps.values()):
            return _evaluate_with_precomputed_gradient(term, cache, features)[0]
    return _measure_maps(term, cache, lensed_inputs(term, cache))


def evaluate_term_with_gradient_norm(term: Term, cache: FeatureCache) -> tuple[Tensor, Tensor]:
    """Compute the values, (N,), and the norm of the gradient of their mean at the network's features.

    Without a network, the norm is that of the gradient at the images. The norm is a scalar without a graph.
    """
    features = _features_at_network(term, cache)
    gradients: Sequence[Tensor] = ()
    if _can_precompute_gradient(term, cache):
        rows, feature_gradients = _evaluate_with_precomputed_gradient(term, cache, features)
        gradients = [_apply_gates_to_rows(term, cache, each, len(rows)) for each in feature_gradients]
        value = apply_gates(_average_channels(term, cache, rows), term.weight, cache.inputs)
    else:
        rows = _measure_maps(term, cache, lensed_inputs(term, cache))
        value = apply_gates(_average_channels(term, cache, rows), term.weight, cache.inputs)
        leaves = [map_ for maps in features.values() for map_ in maps.values() if map_.requires_grad]
        if leaves and value.requires_grad:
            with autocast_disabled(value):
                gradients = torch.autograd.grad(
                    value.sum() * (len(rows) / len(value)),
                    leaves,
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
    squares = [torch.linalg.vector_norm(gradient.detach()).square() for gradient in gradients]
    norm = torch.stack(squares).sum().sqrt() if squares else value.detach().new_zeros(())
    return value, norm / len(rows)


def step_term_discriminator(term: Term, cache: FeatureCache) -> dict[str, Tensor]:
    """Train the term's discriminator for one step on the term's inputs; return the values to log.

    Raises:
        ValueError: The term's lens returns several maps.
    """
    assert term.distance.discriminator_step is not None
    with torch.no_grad():
        maps = lensed_inputs(term, cache)
    maps = dict(match_rows(term, maps))
    layers = tuple(next(iter(maps.values())))
    if len(layers) > 1:
        raise ValueError(f"The discriminator of {term!r} takes one map; the lens returns {', '.join(layers)}.")
    return term.distance.discriminator_step(**{p: at_least_float32(each[layers[0]]) for p, each in maps.items()})


def measure_layers(
    term: Term,
    maps: Mapping[str, Maps],
    portions: Mapping[str, float] | None = None,
    guard: "TermGuard | None" = None,
) -> Tensor:
    """Compute the weighted sum over layers of the distance's values, (N,).

    Args:
        term: The term.
        maps: The maps of each parameter by layer.
        portions: If the maps are a part of the whole maps, the fraction of each layer that they cover.
        guard: Records non-finite values of each layer.
    """
    unlensed = term.distance.unlensed_inputs
    maps = match_rows(term, maps)
    values = []
    for layer in next(maps[p] for p in maps if p not in unlensed):
        arguments = {p: at_least_float32(each["pixels" if p in unlensed else layer]) for p, each in maps.items()}
        if "mask" in term.inputs:
            fit_mask(term, arguments)
        with autocast_disabled(next(iter(arguments.values()))):
            value = term.distance.measure(**arguments)
        if guard is not None:
            guard.record_layer(layer, value)
        portion = portions[layer] if portions and term.distance.tiling == "mean" else 1.0
        factor = term.layer_weights.get(layer, 1.0) * portion
        values.append(value if factor == 1 else value * factor)
    return torch.stack(values).sum(dim=0) if len(values) > 1 else values[0]


def _average_channels(term: Term, cache: FeatureCache, rows: Tensor) -> Tensor:
    """Return one value per image, (N,), the mean of its rows if a lens splits the channels."""
    if not term.splits_channels:
        return rows
    name = next(name for p, name in term.inputs.items() if p not in term.distance.unlensed_inputs)
    return rows.view(len(cache.inputs[name]), -1).mean(dim=1)


def match_rows(term: Term, maps: Mapping[str, Maps]) -> Mapping[str, Maps]:
    """Return the maps with the inputs that bypass a lens repeated for each channel that the lens makes an image."""
    if not term.splits_channels:
        return maps
    unlensed = {p for p in maps if p in term.distance.unlensed_inputs and term.distance.example_input(p).is_batched}
    rows = next(len(map_) for p, each in maps.items() if p not in unlensed for map_ in each.values())
    repeated = {p: {name: _repeat_rows(tensor, rows) for name, tensor in maps[p].items()} for p in unlensed}
    return {p: repeated.get(p, each) for p, each in maps.items()}


def _repeat_rows(tensor: Tensor, rows: int) -> Tensor:
    """Return a tensor with each row repeated as often as needed for this number of rows."""
    return tensor if len(tensor) == rows else tensor.repeat_interleave(rows // len(tensor), dim=0)


def _apply_gates_to_rows(term: Term, cache: FeatureCache, each: FeatureGradient, rows: int) -> Tensor:
    """Return a gradient at features, or at a part of them, times the gates of its images."""
    if LOGSNR not in cache.inputs:
        return each.gradient
    logsnr = _repeat_rows(cache.inputs[LOGSNR], rows)
    return apply_gates(each.gradient, term.weight, {LOGSNR: logsnr[each.region[0]] if each.region else logsnr})


def _can_precompute_gradient(term: Term, cache: FeatureCache) -> bool:
    """Return whether the gradient at the features may be computed before the gradient of the values is known.

    This needs each value to depend on its own image only and on nothing else that is trained. Under torch.compile and
    the transforms of `torch.func`, the plain graph is used.
    """
    unlensed = (cache.inputs[name] for p, name in term.inputs.items() if p in term.distance.unlensed_inputs)
    trains = any(each.requires_grad for each in [*term.distance.parameters(), *unlensed])
    uses_plain_graph = torch.compiler.is_compiling() or is_transformed()
    return not (term.distance.is_batch_dependent or trains or uses_plain_graph)


def _features_at_network(term: Term, cache: FeatureCache) -> dict[str, Maps]:
    """Return the network's features, or the images without a network, of each parameter that may need a gradient."""
    constant = {"target", *term.distance.unlensed_inputs}
    return {p: cache(name, term.inner_path, detached=False) for p, name in term.inputs.items() if p not in constant}


def lensed_inputs(term: Term, cache: FeatureCache) -> dict[str, Maps]:
    """Return the maps that the distance gets for each parameter."""
    return {p: _lensed_input(term, cache, p) for p in term.inputs}


def _lensed_input(term: Term, cache: FeatureCache, parameter: str) -> Maps:
    """Return the maps that the distance gets for a parameter: the input through all lenses, or the input itself."""
    name = term.inputs[parameter]
    if parameter in term.distance.unlensed_inputs:
        return cache(name, (), detached=False)
    detached = parameter == "target"
    if "mask" in term.inputs and term.sums_over_positions:
        return _apply_outer_lenses(term, cache, cache(name, term.inner_path, detached=detached))
    return cache(name, term.path, detached=detached)


def _apply_outer_lenses(term: Term, cache: FeatureCache, maps: Maps) -> Maps:
    """Apply the lenses after the network; a sum over positions is taken under the mask."""
    for lens in term.outer_lenses:
        if lens.tiling in ("mean", "sum") and "mask" in term.inputs:
            mask = _repeat_rows(cache.inputs[term.inputs["mask"]], len(next(iter(maps.values()))))
            maps = {n: map_ * resize_mask(mask, map_, mean=lens.tiling == "mean").sqrt() for n, map_ in maps.items()}
        maps = apply_lens(lens, maps)
    return maps


def _evaluate_with_precomputed_gradient(
    term: Term, cache: FeatureCache, features: Mapping[str, Maps]
) -> tuple[Tensor, Sequence[FeatureGradient]]:
    """Compute the values, (N,), and their gradients at the features; the graph in between is freed."""
    with torch.enable_grad():
        if term.is_pointwise and term.inner_path and should_chunk(features):
            value, gradients = _evaluate_in_chunks(term, cache, features)
        else:
            leaves = {p: detach_features(maps) for p, maps in features.items()}
            maps = {
                p: _apply_outer_lenses(term, cache, leaves[p]) if p in leaves else _lensed_input(term, cache, p)
                for p in term.inputs
            }
            value = _measure_maps(term, cache, maps)
            found = compute_local_gradients(value, [leaf for each in leaves.values() for leaf in each.values()])
            gradients = [FeatureGradient(gradient, i) for i, gradient in enumerate(found)]
    attached = [map_ for maps in features.values() for map_ in maps.values()]
    return with_precomputed_gradient(value, gradients, attached, get_storage_dtype(value)), gradients


def _evaluate_in_chunks(
    term: Term, cache: FeatureCache, features: Mapping[str, Maps]
) -> tuple[Tensor, Sequence[FeatureGradient]]:
    """Compute the values, (N,), and their gradients at the features, a few rows at a time."""
    whole = dict(features)
    lensed: set[str] = set()  # parameters whose maps have passed all lenses already
    for p, name in term.inputs.items():
        if p not in whole:
            kept = cache.get_precomputed(name, term.path, detached=True)
            lensed |= {p} if kept is not None else set()
            whole[p] = kept if kept is not None else cache(name, term.inner_path, detached=True)
    _check_shapes(term, cache, whole)
    if any(len({maps[layer].shape for maps in whole.values()}) > 1 for layer in term.layer_weights):
        raise _shape_error(term, cache)  # chunks cut all maps of a layer alike

    def measure(maps: Mapping[str, Maps], portions: Mapping[str, float]) -> Tensor:
        passed = {p: each if p in lensed else _apply_outer_lenses(term, cache, each) for p, each in maps.items()}
        return measure_layers(term, passed, portions, cache.guard)

    return chunked(measure, {p: whole[p] for p in term.inputs}, list(features))


def _measure_maps(term: Term, cache: FeatureCache, maps: Mapping[str, Maps]) -> Tensor:
    """Compute the values of whole maps, (N,), after a check of their shapes."""
    _check_shapes(term, cache, maps)
    return measure_layers(term, maps, guard=cache.guard)


def _check_shapes(term: Term, cache: FeatureCache, maps: Mapping[str, Maps]) -> None:
    """Raise ValueError if pred and target differ in shape; broadcasting would give a meaningless number.

    After a sum over positions the maps are compared, since images of different sizes give maps of one shape. Otherwise
    the images are compared, since strides can round different sizes to one.
    """
    if not {"pred", "target"} <= maps.keys():
        return
    pairs = [(cache.inputs[term.inputs["pred"]], cache.inputs[term.inputs["target"]])]
    if term.sums_over_positions:
        pairs = [(map_, maps["target"][layer]) for layer, map_ in maps["pred"].items()]
    if not term.distance.compares_channels:
        pairs = [(pred[:, :1], target[:, :1]) for pred, target in pairs]
    if any(pred.shape != target.shape for pred, target in pairs):  # a set of shapes would be constant under compile
        raise _shape_error(term, cache)


def _shape_error(term: Term, cache: FeatureCache) -> ValueError:
    shapes = " and ".join(f"'{n}' {tuple(cache.inputs[n].shape)}" for p, n in term.inputs.items() if p != "mask")
    return ValueError(f"{term!r} compares {shapes}; the shapes must be equal.")


def fit_mask(term: Term, arguments: Maps) -> None:
    """Resize the mask to the maps; remove the mask if a lens has applied it before."""
    if term.sums_over_positions:
        del arguments["mask"]
    else:
        arguments["mask"] = resize_mask(arguments["mask"], next(m for p, m in arguments.items() if p != "mask"))
