"""Maps of a term: its values before the mean over positions."""

from torch import Tensor

from lossmith.engine.feature_cache import FeatureCache
from lossmith.formula.snr_gate import apply_gates
from lossmith.formula.term import Term
from lossmith.formula.term_evaluation import fit_mask, lensed_inputs, match_rows
from lossmith.lens import at_least_float32, autocast_disabled

__all__ = ["measure_term_maps"]


def measure_term_maps(term: Term, cache: FeatureCache) -> dict[str, Tensor] | None:
    """Return the map of each layer, (N, C or 1, h, w), times the layer's weight and the term's gates.

    Returns:
        None if the distance is no mean over positions, or a lens removes the positions.
    """
    distance = term.distance
    is_spatial = all(stage.is_spatial for _, stage in term.path) and not term.sums_over_positions
    if distance.measure_map is None or not is_spatial:
        return None
    inputs, unlensed = match_rows(term, lensed_inputs(term, cache)), distance.unlensed_inputs
    count = len(next(iter(cache.inputs[name] for p, name in term.inputs.items() if p not in unlensed)))
    found = {}
    for layer in next(inputs[p] for p in inputs if p not in unlensed):
        arguments = {p: at_least_float32(each["pixels" if p in unlensed else layer]) for p, each in inputs.items()}
        if "mask" in term.inputs:
            fit_mask(term, arguments)
        mask = arguments.pop("mask", None)
        with autocast_disabled(next(iter(arguments.values()))):
            values = distance.measure_map(**arguments) * term.layer_weights.get(layer, 1.0)
        if mask is not None:
            values = values.where(_crop_centre(mask, values) > 0, 0.0) * _crop_centre(mask, values)
        values = values.reshape(count, -1, *values.shape[2:])  # a lens may have made an image of each channel
        found[layer] = apply_gates(values, term.weight, cache.inputs)
    return found


def _crop_centre(mask: Tensor, values: Tensor) -> Tensor:
    """Return the mask at the positions of the values, which windows make smaller than the image."""
    top, left = ((mask.shape[dim] - values.shape[dim]) // 2 for dim in (-2, -1))
    return mask[..., top : top + values.shape[-2], left : left + values.shape[-1]]
