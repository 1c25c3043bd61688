"""Evaluation of a formula under Keras: one value per image for each term.

The formula is the object of the PyTorch half, with its terms, weights, names and text; the registered functions compute
the distances and lenses with `keras.ops`.
"""

from collections.abc import Collection, Mapping
from typing import Any

from keras import ops

from lossmith.formula.loss import Loss
from lossmith.formula.term import Term
from lossmith.formula.weight import Knob, Weight
from lossmith.keras import contrastive as contrastive  # these modules register their measures
from lossmith.keras import pixel as pixel
from lossmith.keras import structure as structure
from lossmith.keras.feature_cache import KerasFeatureCache, check_lens
from lossmith.keras.registry import Tensor, find_measure, list_measures

__all__ = ["check_formula", "compute_weight", "evaluate_terms"]


def check_formula(formula: Loss) -> None:
    """Raise ValueError if a term of a formula does not run under Keras."""
    for term in formula.terms:
        distance = term.distance
        if find_measure(distance) is None:
            known = ", ".join(list_measures())
            raise ValueError(
                f"{distance!r} runs only under PyTorch; the losses under Keras are {known}. Add others with "
                "lossmith.keras.register_measure."
            )
        if any(each.requires_grad for each in distance.parameters()):
            raise ValueError(f"{distance!r} has parameters, and Keras trains only models: leave out learnable.")
        if getattr(distance, "gather", False):
            raise ValueError(f"{distance!r} gathers batches over PyTorch processes; under Keras leave out gather.")
        if "mask" in term.inputs:
            raise ValueError(f"{term!r} has a mask, which runs only under PyTorch.")
        for _, lens in term.path:
            check_lens(lens)


def evaluate_terms(formula: Loss, inputs: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Compute some terms, unweighted.

    Args:
        formula: The formula.
        inputs: The inputs by name, channels last.
        names: The names of the terms.

    Returns:
        One value per image, (N,), by the term's name.
    """
    cache = KerasFeatureCache(inputs, formula.required_layers)
    terms = zip(formula.names, formula.terms, strict=True)
    return {name: _evaluate_term(term, cache) for name, term in terms if name in names}


def compute_weight(weight: Weight, step: int, knobs: Mapping[str, Any]) -> Any:
    """Return the value of a weight: a number, or a tensor (N,) if a knob is one."""
    value: Any = weight.scale
    for factor in weight.factors:
        if isinstance(factor, Knob) and hasattr(knobs.get(factor.name), "shape"):
            value = value * ops.convert_to_tensor(knobs[factor.name])
        else:
            value = value * factor.value_at(step, knobs)
    return value


def _evaluate_term(term: Term, cache: KerasFeatureCache) -> Tensor:
    unlensed = term.distance.unlensed_inputs
    maps = {p: cache(n, () if p in unlensed else term.path, detached=p == "target") for p, n in term.inputs.items()}
    _check_shapes(term, cache)
    measure = find_measure(term.distance)
    assert measure is not None
    values = []
    for layer in next(maps[p] for p in maps if p not in unlensed):
        arguments = {p: each["pixels" if p in unlensed else layer] for p, each in maps.items()}
        value = measure(term.distance, **arguments)
        layer_weight = term.layer_weights.get(layer, 1.0)
        values.append(value if layer_weight == 1 else value * layer_weight)
    total = sum(values[1:], start=values[0])
    if not term.splits_channels:
        return total
    image = cache.inputs[next(name for p, name in term.inputs.items() if p not in unlensed)]
    return ops.mean(ops.reshape(total, (ops.shape(image)[0], -1)), axis=1)


def _check_shapes(term: Term, cache: KerasFeatureCache) -> None:
    if not {"pred", "target"} <= term.inputs.keys() or term.sums_over_positions:
        return
    shapes = [tuple(cache.inputs[term.inputs[p]].shape) for p in ("pred", "target")]
    is_comparable = len(shapes[0]) == len(shapes[1])
    if not is_comparable or any(a != b for a, b in zip(*shapes, strict=True) if a is not None and b is not None):
        pairs = zip(("pred", "target"), shapes, strict=True)
        compared = " and ".join(f"'{term.inputs[p]}' {shape}" for p, shape in pairs)
        raise ValueError(f"{term!r} compares {compared}; the shapes must be equal.")
