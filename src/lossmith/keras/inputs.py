"""What a loss is given under Keras: tensors of the backend that runs, looked at before anything is computed."""

from collections.abc import Mapping
from typing import Any

import keras

from lossmith.formula.loss import Loss

__all__ = ["Tensor", "arranged", "checked", "refuse_foreign"]

Tensor = Any
"""A tensor of the backend that runs: TensorFlow's, JAX's or PyTorch's."""

HOMES = {"tensorflow": "TensorFlow", "jax": "JAX", "jaxlib": "JAX", "torch": "PyTorch"}


def refuse_foreign(view: str, given: Any, pictures: bool = True) -> None:
    """Raises if a view is nothing that the backend computes with, or holds whole numbers where it is pictures."""
    runs = HOMES.get(keras.backend.backend(), keras.backend.backend())
    if isinstance(given, keras.Model):
        unbuilt = "" if given.built else ", which has not even been built"
        raise ValueError(f"The view '{view}' is the model '{given.name}'{unbuilt}; give what it makes: model(inputs).")
    if isinstance(given, keras.KerasTensor):
        raise ValueError(
            f"The view '{view}' is a placeholder of a model's graph, {given.shape}; give the loss to "
            "model.compile(loss=...), or what model(inputs) makes of arrays."
        )
    home = HOMES.get(type(given).__module__.partition(".")[0])
    if home is not None and home != runs:
        also = " For PyTorch there is lossmith.parse(...) itself." if home == "PyTorch" else ""
        raise ValueError(
            f"The view '{view}' is a tensor of {home}, and Keras runs on {runs}: give it tensors of {runs} or arrays "
            f"of NumPy, or set KERAS_BACKEND before keras is imported.{also}"
        )
    if not hasattr(given, "shape"):
        raise ValueError(f"The view '{view}' is a {type(given).__name__}; a loss wants tensors of {runs} or arrays.")
    if pictures and "int" in keras.backend.standardize_dtype(given.dtype):
        kind = keras.backend.standardize_dtype(given.dtype)
        raise ValueError(f"The view '{view}' is {kind}; a loss wants floats in [0, 1]: divide by 255.")


def checked(formula: Loss, views: Mapping[str, Any], data_format: str) -> None:
    """Raises if some view that a formula reads is missing, or is nothing that its terms can look at."""
    for name, term in zip(formula.names, formula.terms, strict=True):
        for parameter, view in term.inputs.items():
            if view not in views:
                there = ", ".join(views) or "none"
                raise ValueError(f"The term '{name}' reads the view '{view}'; the views are {there}.")
            pictures = term.distance.reads_images and parameter not in term.distance.unlensed_inputs
            refuse_foreign(view, views[view], pictures)
            if pictures:
                _refuse_no_batch(view, tuple(views[view].shape), data_format)


def arranged(view: Any, data_format: str) -> Tensor:
    """A view as the losses look at it: channels last, in float32 at least."""
    kind = keras.backend.standardize_dtype(view.dtype)
    wide = kind if kind == "float64" or "int" in kind else keras.config.floatx()
    tensor = keras.ops.convert_to_tensor(view, dtype=wide)
    if data_format == "channels_first" and len(tensor.shape) == 4:
        return keras.ops.transpose(tensor, (0, 2, 3, 1))
    return tensor


def _refuse_no_batch(view: str, shape: tuple[int | None, ...], data_format: str) -> None:
    last = data_format == "channels_last"
    if len(shape) == 3 and shape[-1 if last else 0] in (1, 3, 4):  # its rows would pass for pictures
        raise ValueError(f"The view '{view}' is one picture, {shape}; make it a batch with {view}[None].")
    if len(shape) != 4:
        return
    here, there = (shape[3], shape[1]) if last else (shape[1], shape[3])
    if there in (1, 3) and here is not None and here > 4:
        other = "channels_first" if last else "channels_last"
        raise ValueError(
            f"The view '{view}' is {shape}, which looks like {other}, and this loss reads {data_format}: give it "
            f'data_format="{other}", or call keras.config.set_image_data_format("{other}") at first.'
        )
