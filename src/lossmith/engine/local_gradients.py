"""The local gradient of a term: its gradient at its network's features, which is all that the backward pass needs.

A term has one value per image, so that its gradient at the image's features, times the gradient of the value, is what
propagates further. The local gradient is computed in the forward pass, and the graph of the term (Gram matrices, norms,
differences) is freed: a term keeps one tensor per layer. The norm of the local gradients measures the influence of each
term at no extra network pass, and since weights are multiplied later, any weighting costs one backward pass of the
network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from lossmith.engine.second_derivatives import link_to, refuse_second_derivative
from lossmith.lens import Maps, autocast_disabled

__all__ = [
    "FeatureGradient",
    "compute_local_gradients",
    "detach_features",
    "get_storage_dtype",
    "with_precomputed_gradient",
]


def detach_features(maps: Mapping[str, Tensor]) -> Maps:
    """Return the features as leaves of a new graph."""
    return {layer: each.detach().requires_grad_() for layer, each in maps.items()}


def compute_local_gradients(value: Tensor, leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients of the summed values at the leaves, zeros for unused ones; the graph in between is freed."""
    if not value.requires_grad:  # with an empty mask, for instance
        return tuple(map(torch.zeros_like, leaves))
    with autocast_disabled(value):  # autocast would run this backward pass in half precision
        return torch.autograd.grad(value.sum(), leaves, allow_unused=True, materialize_grads=True)


def get_storage_dtype(like: Tensor) -> torch.dtype:
    """Return the dtype for stored local gradients: bf16 under bf16 autocast, where convolutions return that precision.

    Under fp16 autocast the gradients stay in float32, since they would leave fp16's range.
    """
    device = like.device.type
    if like.dtype != torch.float64 and torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.bfloat16 if torch.get_autocast_dtype(device) == torch.bfloat16 else like.dtype
    return like.dtype


@final
@dataclass(frozen=True)
class FeatureGradient:
    """A term's gradient at a feature map, or at a part of one.

    Args:
        gradient: The gradient of the sum of the term's values.
        map: The index of the feature map.
        region: The part of the map; the empty tuple for the whole map.
    """

    gradient: Tensor
    map: int
    region: tuple[slice, ...] = ()


def with_precomputed_gradient(
    value: Tensor, gradients: Sequence[FeatureGradient], features: Sequence[Tensor], dtype: torch.dtype
) -> Tensor:
    """Return a term's values (N,) with a backward pass that multiplies precomputed gradients.

    Args:
        value: The values (N,); each depends on the features of its own image only.
        gradients: The gradients at the feature maps.
        features: The feature maps (N, ...), with the graph that leads to the image.
        dtype: The precision in which the gradients are kept.
    """
    regions = [(each.map, each.region) for each in gradients]
    tensors = [each.gradient.to(dtype) for each in gradients]
    link = link_to(features)
    out: Tensor = _PrecomputedGradient.apply(value.detach(), regions, [link], *tensors, *features)  # type: ignore[no-untyped-call]
    return out


class _PrecomputedGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        regions: list[tuple[int, tuple[slice, ...]]],
        link: list[Tensor | None],
        *tensors: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(*tensors[: len(regions)])
        ctx.link, ctx.regions = link[0], regions
        ctx.features = [(each.shape, each.dtype) for each in tensors[len(regions) :]]
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grads = [_empty(shape, dtype, grad_output.device) for shape, dtype in ctx.features]
        with torch.no_grad():
            for (index, region), gradient in zip(ctx.regions, ctx.saved_tensors, strict=True):
                factor = grad_output[region[:1]].view(-1, *(1,) * (gradient.dim() - 1))
                torch.mul(gradient, factor, out=grads[index][region])
        grads = [refuse_second_derivative(each, grad_output, ctx.link) for each in grads]
        return None, None, None, *(None,) * len(ctx.regions), *grads


def _empty(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=device, memory_format=layout)
