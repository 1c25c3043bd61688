"""What a loss is given: its views by name, looked at before anything is computed."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from lossmith.formula.term import Term
from lossmith.formula.weight import Value

__all__ = ["by_name", "checked", "refuse_no_pictures"]


def by_name(tensors: Sequence[Tensor], named: Mapping[str, Value], reads: frozenset[str]) -> dict[str, Tensor]:
    """The views by their names, from pred and target by place and all others by name.

    Raises:
        ValueError: A view is given twice, is no tensor, or is none that the loss reads.
    """
    if len(tensors) > 2:
        raise ValueError(f"A loss takes pred and target by place, all other views by name; got {len(tensors)} tensors.")
    views: dict[str, Tensor] = dict(zip(("pred", "target"), tensors, strict=False))
    for name, value in named.items():
        if name in views:
            raise ValueError(f"The view '{name}' is given twice, by place and by name.")
        if not isinstance(value, Tensor):
            raise ValueError(
                _no_tensor(name, value)
                if name in reads
                else f"'{name}' is neither a knob nor a view of this loss; it reads {', '.join(sorted(reads))}."
            )
        views[name] = value
    return views


def checked(terms: Sequence[Term], names: Sequence[str], views: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The same views, if they are what some terms can read.

    Raises:
        ValueError: A view is missing, no tensor, a single picture, or of whole numbers where pictures are wanted.
    """
    for name, term in zip(names, terms, strict=True):
        if unlit := term.views - views.keys() - set(term.reads.values()):
            raise ValueError(
                f"The term '{name}' has a gate, which reads the view '{min(unlit)}'; the views are {', '.join(views)}. "
                "Gates are for diffusion steps; elsewhere leave it out."
            )
        for parameter, view in term.reads.items():
            if view not in views:
                there = ", ".join(views) or "none"
                raise ValueError(f"The term '{name}' reads the view '{view}'; the views are {there}.")
            given = views[view]
            if not isinstance(given, Tensor):
                raise ValueError(_no_tensor(view, given))
            if given.shape[:1] == (0,) and parameter not in term.optional:
                raise ValueError(f"The view '{view}' has no image, {tuple(given.shape)}; a loss wants at least one.")
            if term.distance.pictures and parameter not in term.distance.bare:
                refuse_no_pictures(view, given)
            elif parameter == term.parameters[0] and not given.is_floating_point():
                raise ValueError(f"The view '{view}' is {given.dtype}; '{name}' wants floats.")
    return views


def refuse_no_pictures(view: str, given: Tensor) -> None:
    """Raises if a view is a single picture, or of whole numbers."""
    shape = tuple(given.shape)
    if len(shape) == 3 and shape[0] in (1, 3, 4):  # its rows would pass for pictures
        raise ValueError(f"The view '{view}' is one picture, {shape}; make it a batch with {view}[None].")
    if not given.is_floating_point():
        raise ValueError(f"The view '{view}' is {given.dtype}; a loss wants floats in [0, 1]: divide by 255.")


def _no_tensor(view: str, given: object) -> str:
    home = type(given).__module__.partition(".")[0]
    cure = "; for TensorFlow and JAX there is lossmith.keras" if home in ("tensorflow", "jax", "jaxlib") else ""
    return f"The view '{view}' is a {type(given).__name__}; a loss wants tensors of PyTorch{cure}."
