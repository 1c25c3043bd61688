"""The lenses that are no networks, on maps (N, H, W, C)."""

import numpy as np
import torch
from keras import ops

from lossmith.keras.inputs import Tensor
from lossmith.lenses import Calibrated, Distilled, Gram
from lossmith.lenses.embedded import EMBEDDED_LAYERS
from lossmith.lenses.lpips import LPIPS_LAYERS

__all__ = ["calibrated", "distilled", "gram"]

Maps = dict[str, Tensor]


def gram(lens: Gram, maps: Maps) -> Maps:
    """The matrix (N, C, C) of each map."""
    return {layer: _matrix(lens, features) for layer, features in maps.items()}


def calibrated(lens: Calibrated, maps: Maps) -> Maps:
    """The five maps in LPIPS's space."""
    layers = LPIPS_LAYERS[lens.net]
    if list(maps) != layers:
        raise ValueError(f"{lens!r} wants the layers {', '.join(layers)}; it was given {', '.join(maps)}.")
    heads = lens.heads({layers[0]: torch.empty(0)})
    return {layer: _weighed(maps[layer], head.numpy().ravel()) for layer, head in zip(layers, heads, strict=True)}


def distilled(lens: Distilled, maps: Maps) -> Maps:
    """The five maps in the space of the embedded network's distance."""
    if list(maps) != EMBEDDED_LAYERS:
        raise ValueError(f"{lens!r} wants the layers {', '.join(EMBEDDED_LAYERS)}; it was given {', '.join(maps)}.")
    heads = lens.heads({EMBEDDED_LAYERS[0]: torch.empty(0)})
    shown = {}
    for layer, (head, epsilon) in zip(EMBEDDED_LAYERS, heads, strict=True):
        features = maps[layer]
        squares = ops.sum(ops.square(features), axis=-1, keepdims=True)
        weights = ops.cast(head.numpy().ravel(), features.dtype)
        shown[layer] = features * ops.rsqrt(squares + float(epsilon)) * weights
    return shown


def _matrix(lens: Gram, features: Tensor) -> Tensor:
    _, height, width, channels = ops.shape(features)
    rows = ops.reshape(features, (-1, height * width, channels))
    divisor = {"chw": height * width * channels, "hw": height * width, "none": 1}[lens.norm]
    return ops.matmul(ops.transpose(rows, (0, 2, 1)), rows) / ops.cast(divisor, features.dtype)


def _weighed(features: Tensor, head: np.ndarray) -> Tensor:  # type: ignore[type-arg]
    squares = ops.sum(ops.square(features), axis=-1, keepdims=True)
    seen = squares > 1e-20
    scale = ops.where(seen, ops.rsqrt(ops.where(seen, squares, 1.0)), 0.0)  # no direction, no gradient
    return features * scale * ops.cast(head, features.dtype)
