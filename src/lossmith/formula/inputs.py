"""Checks of the inputs of a loss, before anything is computed."""

import warnings
from collections.abc import Mapping, Sequence, Set

import torch
from torch import Tensor

from lossmith.formula.term import Term
from lossmith.formula.weight import WeightValue

__all__ = ["bind_inputs", "check_axes", "check_image_batch", "check_inputs", "warn_of_constant_gradient"]


def bind_inputs(
    tensors: Sequence[Tensor], named: Mapping[str, WeightValue], input_names: frozenset[str]
) -> dict[str, Tensor]:
    """Return the inputs by name, from the positional pred and target and the named rest.

    Args:
        tensors: At most pred and target.
        named: The other inputs by name.
        input_names: The inputs that the loss reads, for error messages.

    Raises:
        ValueError: An input is given twice, is not a tensor, or is not read by the loss. All inputs of a task may be
            given by name, ``loss(**inputs)``; only a mask must be read then.
    """
    if len(tensors) > 2:
        raise ValueError(
            f"A loss takes pred and target as positional arguments and all other inputs by name; got {len(tensors)} "
            "positional tensors."
        )
    inputs: dict[str, Tensor] = dict(zip(("pred", "target"), tensors, strict=False))
    for name, value in named.items():
        if name in inputs:
            raise ValueError(f"The input '{name}' is given twice, by position and by name.")
        if not isinstance(value, Tensor):
            raise ValueError(
                _describe_non_tensor(name, value) if name in input_names else _describe_unread(name, input_names)
            )
        if name not in {"pred", "target", *input_names} and (tensors or name == "mask"):
            raise ValueError(_describe_unread(name, input_names))
        inputs[name] = value
    return inputs


def warn_of_constant_gradient(terms: Sequence[Term], inputs: Mapping[str, Tensor]) -> None:
    """Warn if a target requires a gradient and nothing else does, since a target is a constant.

    Args:
        terms: The terms.
        inputs: The inputs by name.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return
    targets = {name for term in terms for parameter, name in term.inputs.items() if parameter == "target"}
    others = {name for term in terms for parameter, name in term.inputs.items() if parameter != "target"}
    differentiable = {name for name, tensor in inputs.items() if tensor.requires_grad}
    trains = any(each.requires_grad for term in terms for each in term.distance.parameters())
    if (found := sorted((targets - others) & differentiable)) and not (others & differentiable or trains):
        warnings.warn(
            f"The input '{found[0]}' requires a gradient and no other input does, but a target is a constant, which "
            "gets none. Pass the prediction first, as in loss(pred, target).",
            stacklevel=5,
        )


def check_inputs(terms: Sequence[Term], names: Sequence[str], inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the inputs unchanged if all terms can read them.

    Args:
        terms: The terms.
        names: The terms' names, for error messages.
        inputs: The inputs by name.

    Raises:
        ValueError: An input is missing, not a tensor, empty, of an integer type, or not (N, C, H, W) where images are
            read.
    """
    for name, term in zip(names, terms, strict=True):
        if missing := term.input_names - inputs.keys() - set(term.inputs.values()):
            raise ValueError(
                f"The term '{name}' has a gate, which reads the input '{min(missing)}'; the inputs are "
                f"{', '.join(inputs)}. Gates are for diffusion steps; remove the gate elsewhere."
            )
        for parameter, input_name in term.inputs.items():
            _check_input(name, term, parameter, input_name, inputs)
    return inputs


def _check_input(name: str, term: Term, parameter: str, input_name: str, inputs: Mapping[str, Tensor]) -> None:
    if input_name not in inputs:
        given = ", ".join(inputs) or "none"
        raise ValueError(f"The term '{name}' reads the input '{input_name}'; the inputs are {given}.")
    tensor = inputs[input_name]
    if not isinstance(tensor, Tensor):
        raise ValueError(_describe_non_tensor(input_name, tensor))
    if tensor.shape[:1] == (0,) and parameter not in term.optional:
        raise ValueError(f"The input '{input_name}' must have at least one image; got shape {tuple(tensor.shape)}.")
    if term.distance.reads_images and parameter not in term.distance.unlensed_inputs:
        check_image_batch(input_name, tensor, term.distance.input_dims)
    elif parameter == term.parameters[0] and not tensor.is_floating_point():
        raise ValueError(f"The input '{input_name}' of '{name}' must be floating point; got {tensor.dtype}.")


def check_image_batch(name: str, tensor: Tensor, dims: Set[int] = frozenset({4})) -> None:
    """Raise ValueError unless an input is a floating-point batch of images (N, C, H, W); this reads no values.

    Args:
        name: The input's name.
        tensor: The input.
        dims: The allowed numbers of dimensions.
    """
    shape = tuple(tensor.shape)
    check_axes(name, shape, dims)
    if len(shape) == 4 and shape[3] == 3 and min(shape[1:3]) > 4:
        raise ValueError(
            f"The input '{name}' must be a batch of images (N, C, H, W); got {shape}, whose channels are last. To fix "
            f"this, move the channels with {name}.permute(0, 3, 1, 2)."
        )
    if not tensor.is_floating_point():
        raise ValueError(f"The input '{name}' must be floating point in [0, 1]; got {tensor.dtype}. Divide by 255.")


def check_axes(
    name: str, shape: tuple[int | None, ...], dims: Set[int] = frozenset({4}), *, channels_last: bool = False
) -> None:
    """Raise ValueError, with the cure, unless an input has the axes of a batch of images.

    Args:
        name: The input's name.
        shape: The input's shape; None for an axis whose length is not known.
        dims: The allowed numbers of axes.
        channels_last: Whether a batch is (N, H, W, C), as in Keras, and not (N, C, H, W).
    """
    if len(shape) == 3 and shape[-1 if channels_last else 0] in (1, 3, 4):  # its rows would be taken for images
        raise ValueError(f"The input '{name}' is a single image, {shape}; make a batch of it with {name}[None].")
    if len(shape) in dims:
        return
    if channels_last:
        channel, frames = f"{name}[..., None]", f"ops.reshape({name}, (-1, *{name}.shape[2:]))"
    else:
        channel, frames = f"{name}[:, None]", f"{name}.transpose(1, 2).flatten(0, 1)"
    cures = {
        3: f"insert the channel with {channel}, or the batch with {name}[None]",
        5: f"make the frames or slices images of the batch with {frames}",
    }
    cure = f" To fix this, {cures[len(shape)]}." if len(shape) in cures else ""
    layout = "(N, H, W, C)" if channels_last else "(N, C, H, W)"
    raise ValueError(f"The input '{name}' must be a batch of images {layout}; got {shape}.{cure}")


def _describe_unread(name: str, input_names: frozenset[str]) -> str:
    cure = ' To weight the errors by a mask, use loss.on(mask="mask").' if name == "mask" else ""
    inputs = ", ".join(sorted(input_names))
    return f"'{name}' is neither a knob nor an input of this loss; the inputs are {inputs}.{cure}"


def _describe_non_tensor(name: str, value: object) -> str:
    package = type(value).__module__.partition(".")[0]
    cure = " For TensorFlow and JAX use lossmith.keras." if package in ("tensorflow", "jax", "jaxlib") else ""
    return f"The input '{name}' must be a PyTorch tensor; got a {type(value).__name__}.{cure}"
