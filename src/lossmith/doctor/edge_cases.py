"""Edge cases: inputs of a loss that a training may meet, made from ordinary inputs."""

from collections.abc import Callable

import torch
from torch import Tensor

from lossmith.doctor.example_inputs import Inputs

__all__ = ["EDGE_CASES", "FINITE_CASES", "Transform", "map_first"]

Transform = Callable[[Inputs], Inputs]


def _map_all(change: Callable[[Tensor, int], Tensor]) -> Transform:
    """Return a transform of every floating-point input, given its index."""
    return lambda inputs: {
        name: change(tensor, i) if tensor.is_floating_point() else tensor
        for i, (name, tensor) in enumerate(inputs.items())
    }


def map_first(change: Callable[[Tensor], Tensor]) -> Transform:
    """Return a transform of the first floating-point input, which is "pred" if the loss reads it."""

    def transform(inputs: Inputs) -> Inputs:
        first = _first_name(inputs)
        return {name: change(tensor) if name == first else tensor for name, tensor in inputs.items()}

    return transform


def _replace_others(make: Callable[[Tensor], Tensor]) -> Transform:
    """Return a transform that replaces all inputs of the first one's shape by a function of the first one."""

    def transform(inputs: Inputs) -> Inputs:
        first = _first_name(inputs)
        source = inputs[first]
        replaced = {n for n, t in inputs.items() if n != first and t.is_floating_point() and t.shape == source.shape}
        return {name: make(source) if name in replaced else tensor for name, tensor in inputs.items()}

    return transform


def _first_name(inputs: Inputs) -> str:
    return next((name for name, tensor in inputs.items() if tensor.is_floating_point()), next(iter(inputs)))


def _map_images(change: Callable[[Tensor], Tensor]) -> Transform:
    """Return a transform of every input with the shape of images, (N, 3, H, W)."""
    return lambda inputs: {n: change(t) if t.dim() == 4 and t.shape[1] == 3 else t for n, t in inputs.items()}


def _with_channels(count: int) -> Transform:
    return _map_images(lambda image: image.mean(dim=1, keepdim=True).expand(-1, count, -1, -1).clone())


def _crop(height: int, width: int) -> Transform:
    return _map_images(lambda image: image[..., :height, :width])


def _shrink_last(fraction: float) -> Transform:
    """Return a transform that makes the last of several inputs smaller along its last dimension."""

    def transform(inputs: Inputs) -> Inputs:
        name = list(inputs)[-1]
        tensor = inputs[name]
        length = max(1, int(fraction * tensor.shape[-1]))
        return inputs | {name: tensor[..., :length]} if len(inputs) > 1 else inputs

    return transform


def _insert_nan(tensor: Tensor) -> Tensor:
    """Return a copy with a NaN in the centre of the first image."""
    copy = tensor.clone()
    copy[(0, *(side // 2 for side in tensor.shape[1:]))] = float("nan")
    return copy


FINITE_CASES: dict[str, Transform] = {
    "black": _map_all(lambda tensor, i: torch.zeros_like(tensor)),
    "black on noise": map_first(torch.zeros_like),
    "white": _map_all(lambda tensor, i: torch.ones_like(tensor)),
    "constant": _map_all(lambda tensor, i: torch.full_like(tensor, 0.3 + 0.1 * (i % 7))),
    "equal": _replace_others(lambda first: first.clone()),
    "opposite": _replace_others(lambda first: 1 - first),
    "tiny values": _map_all(lambda tensor, i: tensor * 1e-12),
    "float16": _map_all(lambda tensor, i: tensor.half()),
    "bfloat16": _map_all(lambda tensor, i: tensor.bfloat16()),
    "black float16": _map_all(lambda tensor, i: torch.zeros_like(tensor).half()),
    "extreme": _map_all(lambda tensor, i: (tensor - 0.5) * 2e4),
    "flat extreme": _map_all(lambda tensor, i: torch.full_like(tensor, 1e4 + 10 * i)),
}
"""Edge cases for which value and gradient of a loss must be finite."""

EDGE_CASES: dict[str, Transform] = {
    "noise": lambda inputs: dict(inputs),
    **FINITE_CASES,
    "[0, 255]": _map_images(lambda image: 255 * image),
    "[-1, 1]": _map_images(lambda image: 2 * image - 1),
    "a NaN": map_first(_insert_nan),
    "1x1 px": _crop(1, 1),
    "1x9 px": _crop(1, 9),
    "2x2 px": _crop(2, 2),
    "grey": _with_channels(1),
    "RGBA": _with_channels(4),
    "channels last": _map_images(lambda image: image.permute(0, 2, 3, 1).contiguous()),
    "no batch dimension": _map_images(lambda image: image[0]),
    "integers": lambda inputs: {name: (255 * tensor).long() for name, tensor in inputs.items()},
    "half width": _shrink_last(0.5),
    "one column less": _shrink_last(0.98),
    "grey target": lambda inputs: {n: t.mean(dim=1, keepdim=True) if n == "target" else t for n, t in inputs.items()},
    "empty batch": lambda inputs: {name: tensor[:0] for name, tensor in inputs.items()},
}
"""All edge cases by name, including ordinary noise and inputs that a loss may reject."""
