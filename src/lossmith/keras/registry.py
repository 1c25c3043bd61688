"""The distances and lenses that run under Keras, by class; other packages can register their own.

A measure maps the distance and its inputs, maps (N, H, W, C) or vectors (N, D) of the Keras backend, to one value per
image, (N,)::

    from keras import ops
    from lossmith.keras import register_measure

    @register_measure(Welsch)
    def measure_welsch(loss, pred, target):
        return ops.mean(-ops.expm1(-ops.square((pred - target) / loss.c) / 2), axis=(1, 2, 3))

A lens maps the lens and named maps (N, H, W, C) to named maps, see :func:`register_lens`.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lossmith.formula.measure import Measure
from lossmith.lens import Lens

__all__ = ["find_lens", "find_measure", "list_lenses", "list_measures", "register_lens", "register_measure"]

Tensor = Any
"""A tensor of the Keras backend: TensorFlow's, JAX's or PyTorch's."""
Maps = dict[str, Tensor]
KerasMeasure = Callable[..., Tensor]
LensFunction = Callable[[Any, Maps], Maps]

MeasureT = TypeVar("MeasureT", bound=KerasMeasure)
LensT = TypeVar("LensT", bound=LensFunction)
FunctionT = TypeVar("FunctionT")

_MEASURES: dict[type[Measure], KerasMeasure] = {}
_LENSES: dict[type[Lens], LensFunction] = {}


def register_measure(distance: type[Measure]) -> Callable[[MeasureT], MeasureT]:
    """Register how a distance is measured under Keras, as a decorator of a function (distance, **inputs) -> (N,).

    Args:
        distance: The class of the distance. Subclasses that do not override `measure` are measured alike.
    """

    def register(measure: MeasureT) -> MeasureT:
        _MEASURES[distance] = measure
        return measure

    return register


def register_lens(lens: type[Lens]) -> Callable[[LensT], LensT]:
    """Register how a lens is applied under Keras, as a decorator of a function (lens, maps) -> maps.

    Args:
        lens: The class of the lens. Subclasses that do not override `forward` are applied alike.
    """

    def register(apply: LensT) -> LensT:
        _LENSES[lens] = apply
        return apply

    return register


def find_measure(distance: Measure) -> KerasMeasure | None:
    """Return how a distance is measured under Keras; None if it is not registered."""
    return _find(type(distance), "measure", _MEASURES)


def find_lens(lens: Lens) -> LensFunction | None:
    """Return how a lens is applied under Keras; None if it is not registered."""
    return _find(type(lens), "forward", _LENSES)


def list_measures() -> list[str]:
    """Return the sorted names of the registered distances."""
    return sorted(distance.__name__ for distance in _MEASURES)


def list_lenses() -> list[str]:
    """Return the sorted names of the registered lenses."""
    return sorted(lens.__name__ for lens in _LENSES)


def _find(kind: type, method: str, registered: Mapping[Any, FunctionT]) -> FunctionT | None:
    """Return the entry of a class or of the base class that defines its method."""
    for base in kind.__mro__:
        if base in registered:
            return registered[base]
        if method in vars(base):
            return None
    return None
