"""How a formula is run under Keras: term by term, each one value an image.

The formula is the PyTorch half's own object, which knows its terms, weights, names and text; what is said here is how
each distance is measured with `keras.ops`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from keras import ops

from lossmith import losses
from lossmith.formula.loss import Loss
from lossmith.formula.measure import Measure
from lossmith.formula.term import Term
from lossmith.formula.weight import Knob, Weight
from lossmith.keras import contrastive, pixel, structure
from lossmith.keras.feature_cache import KerasFeatureCache, refuse_unseen
from lossmith.keras.inputs import Tensor

__all__ = ["evaluated", "factor", "refuse_unmeasured"]

MEASURES: dict[type[Measure], Callable[..., Tensor]] = {
    losses.L1: pixel.l1,
    losses.L2: pixel.l2,
    losses.Lp: pixel.lp,
    losses.Charbonnier: pixel.charbonnier,
    losses.Huber: pixel.huber,
    losses.SquaredNorm: pixel.squared_norm,
    losses.TV: pixel.tv,
    losses.EdgeAwareTV: pixel.edge_aware_tv,
    losses.SSIM: structure.ssim,
    losses.MSSSIM: structure.ms_ssim,
    losses.InfoNCE: contrastive.info_nce,
}
"""How each distance is measured, from maps (N, H, W, C) or vectors to (N,)."""


def refuse_unmeasured(formula: Loss) -> None:
    """Raises if Keras cannot run some term of a formula."""
    for term in formula.terms:
        loss = term.distance
        if type(loss) not in MEASURES:
            known = ", ".join(each.__name__ for each in MEASURES)
            raise ValueError(f"{loss!r} runs under PyTorch alone; under Keras there are {known}.")
        if any(each.requires_grad for each in loss.parameters()):
            raise ValueError(f"{loss!r} learns, and Keras trains the variables of models alone: leave out learnable.")
        if isinstance(loss, losses.InfoNCE) and loss.gather:
            raise ValueError(f"{loss!r} gathers over PyTorch's processes; under Keras leave out gather.")
        if "mask" in term.inputs:
            raise ValueError(f"{term!r} has a mask, which only the PyTorch half carries to what lenses show.")
        for _, lens in term.path:
            refuse_unseen(lens)


def evaluated(formula: Loss, views: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Some terms by name, unweighted, one value an image (N,); the views are channels last."""
    looks = KerasFeatureCache(views, formula.required_layers)
    terms = zip(formula.names, formula.terms, strict=True)
    return {name: _measured(term, looks) for name, term in terms if name in names}


def factor(weight: Weight, step: int, knobs: Mapping[str, Any]) -> Any:
    """What a weight comes to: a number, or what a knob was given, which may be a tensor (N,)."""
    value: Any = weight.scale
    for each in weight.factors:
        tensor = isinstance(each, Knob) and hasattr(knobs.get(each.name), "shape")
        value = value * (ops.convert_to_tensor(knobs[each.name]) if tensor else each.value_at(step, knobs))  # type: ignore[attr-defined]
    return value


def _measured(term: Term, looks: KerasFeatureCache) -> Tensor:
    bare = term.distance.unlensed_inputs
    maps = {p: looks(view, () if p in bare else term.path, detached=p == "target") for p, view in term.inputs.items()}
    _refuse_unlike(term, looks)
    values = []
    for layer in next(maps[p] for p in maps if p not in bare):
        seen = {p: each["pixels" if p in bare else layer] for p, each in maps.items()}
        value = MEASURES[type(term.distance)](term.distance, **seen)
        share = term.layer_weights.get(layer, 1.0)
        values.append(value if share == 1 else value * share)
    return sum(values[1:], start=values[0])


def _refuse_unlike(term: Term, looks: KerasFeatureCache) -> None:
    if not {"pred", "target"} <= term.inputs.keys() or term.sums_over_positions:
        return
    shapes = [tuple(looks.views[term.inputs[p]].shape) for p in ("pred", "target")]
    known = len(shapes[0]) == len(shapes[1])
    if not known or any(a != b for a, b in zip(*shapes, strict=True) if a is not None and b is not None):
        what = " with ".join(f"'{term.inputs[p]}' {shape}" for p, shape in zip(("pred", "target"), shapes, strict=True))
        raise ValueError(f"{term!r} compares {what}; it wants them of one shape.")
