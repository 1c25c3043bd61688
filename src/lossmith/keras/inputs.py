"""Checks and layout of the inputs of a loss under Keras."""

from collections.abc import Mapping, Set
from typing import Any

import keras

from lossmith.formula.inputs import check_axes
from lossmith.formula.loss import Loss
from lossmith.keras.registry import Tensor

__all__ = ["check_keras_inputs", "check_tensor", "to_channels_last"]

LIBRARIES = {"tensorflow": "TensorFlow", "jax": "JAX", "jaxlib": "JAX", "torch": "PyTorch"}
"""The libraries of tensors by the package of their classes."""


def check_tensor(name: str, value: Any, is_image: bool = True) -> None:
    """Raise ValueError if an input is not a tensor or array for the backend, or an image of an integer type.

    Args:
        name: The input's name.
        value: The input.
        is_image: Whether the input must be an image batch.
    """
    backend = LIBRARIES.get(keras.backend.backend(), keras.backend.backend())
    if isinstance(value, keras.Model):
        unbuilt = "" if value.built else ", which is not built"
        raise ValueError(f"The input '{name}' is the model '{value.name}'{unbuilt}; pass its output, model(inputs).")
    if isinstance(value, keras.KerasTensor):
        raise ValueError(
            f"The input '{name}' is a symbolic KerasTensor {value.shape}; pass the loss to model.compile(loss=...), or "
            "call the loss with the output of model(inputs) for arrays."
        )
    library = LIBRARIES.get(type(value).__module__.partition(".")[0])
    if library is not None and library != backend:
        torch_hint = " For PyTorch use lossmith.parse(...)." if library == "PyTorch" else ""
        raise ValueError(
            f"The input '{name}' is a {library} tensor, and Keras runs on {backend}: pass {backend} tensors or NumPy "
            f"arrays, or set KERAS_BACKEND before keras is imported.{torch_hint}"
        )
    if not hasattr(value, "shape"):
        raise ValueError(f"The input '{name}' must be a {backend} tensor or an array; got a {type(value).__name__}.")
    dtype = keras.backend.standardize_dtype(value.dtype)
    if is_image and "int" in dtype:
        raise ValueError(f"The input '{name}' must be floating point in [0, 1]; got {dtype}. Divide by 255.")


def check_keras_inputs(formula: Loss, inputs: Mapping[str, Any], data_format: str) -> None:
    """Raise ValueError if an input of a formula is missing, or cannot be read by its terms."""
    for name, term in zip(formula.names, formula.terms, strict=True):
        for parameter, input_name in term.inputs.items():
            if input_name not in inputs:
                given = ", ".join(inputs) or "none"
                raise ValueError(f"The term '{name}' reads the input '{input_name}'; the inputs are {given}.")
            is_image = term.distance.reads_images and parameter not in term.distance.unlensed_inputs
            check_tensor(input_name, inputs[input_name], is_image)
            if is_image:
                _check_batch_shape(input_name, tuple(inputs[input_name].shape), data_format, term.distance.input_dims)


def to_channels_last(value: Any, data_format: str) -> Tensor:
    """Convert an input to a tensor of the backend with channels last, in float32 or float64."""
    dtype = keras.backend.standardize_dtype(value.dtype)
    if dtype != "float64" and "int" not in dtype:
        dtype = keras.config.floatx()
    tensor = keras.ops.convert_to_tensor(value, dtype=dtype)
    if data_format == "channels_first" and len(tensor.shape) == 4:
        return keras.ops.transpose(tensor, (0, 2, 3, 1))
    return tensor


def _check_batch_shape(name: str, shape: tuple[int | None, ...], data_format: str, dims: Set[int]) -> None:
    is_last = data_format == "channels_last"
    check_axes(name, shape, dims, channels_last=is_last)
    if len(shape) != 4:
        return
    channels, other = (shape[3], shape[1]) if is_last else (shape[1], shape[3])
    if other in (1, 3) and channels is not None and channels > 4:
        suggested = "channels_first" if is_last else "channels_last"
        raise ValueError(
            f"The input '{name}' is {shape}, which looks like {suggested}, and this loss reads {data_format}: pass "
            f'data_format="{suggested}" to the loss, or call keras.config.set_image_data_format("{suggested}") first.'
        )
