"""VGG, AlexNet, SqueezeNet and the embedded network run by Keras, with the weights that the PyTorch half finds."""

from collections.abc import Sequence
from functools import cache

import keras
import torch
from keras import ops

from lossmith.engine.layers import Conv, MaxPool, Step
from lossmith.keras.registry import Tensor
from lossmith.lenses.applications import run_in_thread
from lossmith.lenses.sequential_network import SequentialNetwork

__all__ = ["run_sequential_network"]

Kernels = dict[str, tuple[Tensor, Tensor]]
"""The kernel (k, k, in, out) and bias of each convolution by its name."""


def run_sequential_network(network: SequentialNetwork, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Compute the features (N, H, W, C) at some layers, in the precision of the images.

    Under a mixed-precision policy the convolutions after :attr:`SequentialNetwork.fp32_until` run in half precision.

    Args:
        network: The network.
        image: (N, H, W, 3), or grey, (N, H, W, 1), which is repeated, in [0, 1].
        layers: The layers.

    Raises:
        ValueError: The images are neither RGB nor grey, or smaller than the layers allow.
    """
    _check_rgb_image(network.name, image, network.min_size(layers))
    mean, kernels = _load_kernels(network, keras.backend.standardize_dtype(image.dtype))
    policy = keras.config.dtype_policy().compute_dtype
    inner_dtype = policy if policy in ("float16", "bfloat16") else image.dtype
    last = max(network.layers.index(layer) for layer in layers)
    last_fp32 = -1 if network.fp32_until is None else network.layers.index(network.fp32_until)
    x, features = image - mean, {}  # zero padding follows the subtraction of the mean
    for index, step in enumerate(network.architecture[: last + 1]):
        if index == last_fp32 + 1:
            x = ops.cast(x, inner_dtype)
        x = _run_step(step, x, kernels)
        if step.name in layers:
            features[step.name] = ops.cast(x, image.dtype)
    return features


def _run_step(step: Step, x: Tensor, kernels: Kernels) -> Tensor:
    """Run one step on a map (N, H, W, C)."""
    if isinstance(step, Conv):
        kernel, bias = (ops.cast(each, x.dtype) for each in kernels[step.name])
        side = step.weight.shape[-1]
        is_same = step.stride == 1 and 2 * step.padding == side - 1
        if step.padding and not is_same:  # "same" with a stride pads differently from PyTorch
            x = ops.pad(x, [[0, 0], [step.padding] * 2, [step.padding] * 2, [0, 0]])
        padding = "same" if is_same else "valid"
        return ops.conv(x, kernel, step.stride, padding, data_format="channels_last") + bias
    if isinstance(step, MaxPool):
        if step.ceil:  # pad so that a window that exceeds the map is counted
            rest = [0, step.stride - 1]
            x = ops.pad(x, [[0, 0], rest, rest, [0, 0]], constant_values=float("-inf"))
        return ops.max_pool(x, step.kernel, step.stride, "valid", data_format="channels_last")
    return ops.relu(x)


@cache
def _load_kernels(network: SequentialNetwork, dtype: str) -> tuple[Tensor, Kernels]:
    """Return the mean to subtract and the kernels as tensors of the backend."""
    mean, steps = network.load_steps()

    def convert(tensor: torch.Tensor) -> Tensor:
        return ops.convert_to_tensor(tensor.numpy(), dtype=dtype)

    def convert_all() -> tuple[Tensor, Kernels]:
        convs = [step for step in steps if isinstance(step, Conv)]
        kernels = {conv.name: (convert(conv.weight.permute(2, 3, 1, 0)), convert(conv.bias)) for conv in convs}
        return convert(mean.ravel()), kernels

    return run_in_thread(convert_all)


def _check_rgb_image(name: str, image: Tensor, min_size: int) -> None:
    """Raise ValueError if a network cannot take images (N, H, W, C)."""
    shape = tuple(image.shape)
    if len(shape) != 4 or shape[3] not in (1, 3):
        cure = "say which bands are red, green and blue with a lens, such as ... @ Bands(3, 2, 1)"
        if len(shape) == 4 and shape[1] in (1, 3):
            cure = 'pass data_format="channels_first" to the loss'
        elif len(shape) != 4:
            cure = "pass a batch of images"
        expected = "RGB images (N, H, W, 3) or grey images (N, H, W, 1)"
        raise ValueError(f"{name} expects {expected}; got {shape}. To fix this, {cure}.")
    if any(side is not None and side < min_size for side in shape[1:3]):
        raise ValueError(
            f"{name} expects images of at least {min_size} px a side for these layers; got {shape[1]}x{shape[2]}."
        )
