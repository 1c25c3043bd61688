"""The row of steps that VGG, AlexNet and SqueezeNet are, run by Keras with the weights that the PyTorch half finds."""

from collections.abc import Sequence
from functools import cache

import keras
import torch
from keras import ops

from lossmith.engine.layers import Conv, MaxPool, Step
from lossmith.keras.inputs import Tensor
from lossmith.lenses.applications import run_in_thread
from lossmith.lenses.sequential_network import SequentialNetwork

__all__ = ["features", "refuse_no_rgb"]

Loaded = tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]


def features(network: SequentialNetwork, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """The features (N, H, W, C) of pictures (N, H, W, 3) in [0, 1] at some layers, in the precision of the pictures.

    Under a mixed policy the convolutions behind :attr:`SequentialNetwork.fp32_until` run in its half precision.
    """
    refuse_no_rgb(network.name, image, network.min_size(layers))
    mean, kernels = loaded(network, keras.backend.standardize_dtype(image.dtype))
    policy = keras.config.dtype_policy().compute_dtype
    inner = policy if policy in ("float16", "bfloat16") else image.dtype
    last = max(network.layers.index(layer) for layer in layers)
    fine = -1 if network.fp32_until is None else network.layers.index(network.fp32_until)
    x, seen = image - mean, {}  # padding is zero after the mean is taken off
    for place, step in enumerate(network.architecture[: last + 1]):
        if place == fine + 1:
            x = ops.cast(x, inner)
        x = run(step, x, kernels)
        if step.name in layers:
            seen[step.name] = ops.cast(x, image.dtype)
    return seen


def run(step: Step, x: Tensor, kernels: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    """One step on a map (N, H, W, C)."""
    if isinstance(step, Conv):
        kernel, bias = (ops.cast(each, x.dtype) for each in kernels[step.name])
        side = step.weight.shape[-1]
        same = step.stride == 1 and 2 * step.padding == side - 1
        if step.padding and not same:  # "same" with a stride pads otherwise than PyTorch
            x = ops.pad(x, [[0, 0], [step.padding] * 2, [step.padding] * 2, [0, 0]])
        padding = "same" if same else "valid"
        return ops.conv(x, kernel, step.stride, padding, data_format="channels_last") + bias
    if isinstance(step, MaxPool):
        if step.ceil:  # so much more that a window which juts out still counts
            rest = [0, step.stride - 1]
            x = ops.pad(x, [[0, 0], rest, rest, [0, 0]], constant_values=float("-inf"))
        return ops.max_pool(x, step.kernel, step.stride, "valid", data_format="channels_last")
    return ops.relu(x)


@cache
def loaded(network: SequentialNetwork, dtype: str) -> Loaded:
    """The mean to take off, and each convolution's kernel (k, k, in, out) and bias, as the backend's own tensors."""
    mean, steps = network.load_steps()

    def own(tensor: torch.Tensor) -> Tensor:
        return ops.convert_to_tensor(tensor.numpy(), dtype=dtype)

    convs = [step for step in steps if isinstance(step, Conv)]
    return run_in_thread(lambda: (own(mean.ravel()), {c.name: (own(c.weight.permute(2, 3, 1, 0)), own(c.bias)) for c in convs}))


def refuse_no_rgb(name: str, image: Tensor, smallest: int) -> None:
    """Raises if a network cannot look at pictures (N, H, W, C)."""
    shape = tuple(image.shape)
    if len(shape) != 4 or shape[3] != 3:
        grey = len(shape) == 4 and shape[3] == 1
        cure = "give grey ones as keras.ops.repeat(image, 3, axis=-1)" if grey else "cut or repeat channels"
        if len(shape) == 4 and shape[1] == 3:
            cure = 'give the loss data_format="channels_first"'
        raise ValueError(f"{name} wants RGB pictures; channels last, it got {shape}: {cure}.")
    if any(side is not None and side < smallest for side in shape[1:3]):
        raise ValueError(
            f"{name} wants pictures of at least {smallest} px a side for these layers; got {shape[1]}x{shape[2]}."
        )
