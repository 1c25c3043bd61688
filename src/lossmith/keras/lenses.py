"""The lenses without a network on maps (N, H, W, C), under Keras."""

import torch
from keras import ops

from lossmith.keras.registry import Maps, Tensor, register_lens
from lossmith.lenses import Bands, Calibrated, Distilled, Gram
from lossmith.lenses.embedded import EMBEDDED_LAYERS
from lossmith.lenses.lpips import LPIPS_LAYERS

__all__: list[str] = []


@register_lens(Bands)
def _bands(lens: Bands, maps: Maps) -> Maps:
    return {name: _select_bands(lens, image) for name, image in maps.items()}


def _select_bands(lens: Bands, image: Tensor) -> Tensor:
    if lens.mode == "mean":
        return ops.mean(image, axis=-1, keepdims=True)
    if lens.mode == "each":
        _, height, width, _ = ops.shape(image)
        return ops.reshape(ops.transpose(image, (0, 3, 1, 2)), (-1, height, width, 1))
    lens.check_bands(image.shape[-1])
    return ops.stack([image[..., number - 1] for number in lens.numbers], axis=-1)


@register_lens(Gram)
def _gram(lens: Gram, maps: Maps) -> Maps:
    return {layer: _gram_matrix(lens, features) for layer, features in maps.items()}


@register_lens(Calibrated)
def _calibrated(lens: Calibrated, maps: Maps) -> Maps:
    layers = LPIPS_LAYERS[lens.net]
    if list(maps) != layers:
        raise ValueError(f"{lens!r} expects the layers {', '.join(layers)}; got {', '.join(maps)}.")
    heads = lens.heads({layers[0]: torch.empty(0, device="cpu")})
    return {layer: _normalize_features(maps[layer], head) for layer, head in zip(layers, heads, strict=True)}


@register_lens(Distilled)
def _distilled(lens: Distilled, maps: Maps) -> Maps:
    if list(maps) != EMBEDDED_LAYERS:
        raise ValueError(f"{lens!r} expects the layers {', '.join(EMBEDDED_LAYERS)}; got {', '.join(maps)}.")
    heads = lens.heads({EMBEDDED_LAYERS[0]: torch.empty(0, device="cpu")})
    normalized = {}
    for layer, (head, epsilon) in zip(EMBEDDED_LAYERS, heads, strict=True):
        features = maps[layer]
        squares = ops.sum(ops.square(features), axis=-1, keepdims=True)
        weights = ops.cast(head.numpy().ravel(), features.dtype)
        normalized[layer] = features * ops.rsqrt(squares + float(epsilon)) * weights
    return normalized


def _gram_matrix(lens: Gram, features: Tensor) -> Tensor:
    """Compute the matrix (N, C, C) of a map."""
    _, height, width, channels = ops.shape(features)
    rows = ops.reshape(features, (-1, height * width, channels))
    divisor = {"chw": height * width * channels, "hw": height * width, "none": 1}[lens.norm]
    return ops.matmul(ops.transpose(rows, (0, 2, 1)), rows) / ops.cast(divisor, features.dtype)


def _normalize_features(features: Tensor, head: torch.Tensor) -> Tensor:
    """Normalise features over channels and weight the channels; a zero vector has gradient 0."""
    squares = ops.sum(ops.square(features), axis=-1, keepdims=True)
    is_positive = squares > 1e-20
    scale = ops.where(is_positive, ops.rsqrt(ops.where(is_positive, squares, 1.0)), 0.0)
    return features * scale * ops.cast(head.numpy().ravel(), features.dtype)
