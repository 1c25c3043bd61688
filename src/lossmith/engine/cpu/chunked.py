"""Evaluation of a term on large feature maps in chunks of rows, so that intermediates stay in the processor's cache.

A pointwise lens and a distance that is a mean or a sum over positions need only a few rows of the features at once. On
a CPU this halves the time of such a term, which is limited by memory bandwidth.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import product

import torch
from torch import Tensor

from lossmith.engine.cpu import is_enabled
from lossmith.engine.local_gradients import FeatureGradient, compute_local_gradients
from lossmith.lens import Maps

__all__ = ["chunked", "should_chunk"]

Region = tuple[slice, slice, slice]

CHUNK_ELEMENTS = 2**20
"""The number of elements of the largest map in a chunk: 4 MB of float32."""


def should_chunk(features: Mapping[str, Maps]) -> bool:
    """Return whether chunks are enabled and faster: for large maps on a CPU; on a GPU each chunk would be a launch."""
    maps = [each for layers in features.values() for each in layers.values()]
    is_on_cpu = maps[0].device.type in ("cpu", "meta")  # cost plans, on the meta device, are for a CPU
    if not (is_enabled() and is_on_cpu and all(each.dim() == 4 for each in maps)):
        return False
    return max(each[0].numel() for each in maps) >= 2 * CHUNK_ELEMENTS


def chunked(
    measure: Callable[[Mapping[str, Maps], Mapping[str, float]], Tensor],
    maps: Mapping[str, Maps],
    parameters: Collection[str],
) -> tuple[Tensor, list[FeatureGradient]]:
    """Compute a term's values (N,) and their gradients at the maps of some parameters, chunk by chunk.

    Args:
        measure: A function from the maps of one chunk of one image, and the fraction of each layer that the chunk
            covers, to the value (1,).
        maps: The features (N, C, H, W) of each parameter by layer.
        parameters: The parameters whose gradients are computed.
    """
    first = next(iter(maps.values()))
    values: list[Tensor] = []
    gradients: list[FeatureGradient] = []
    for image in range(len(next(iter(first.values())))):
        parts = []
        for regions, portions in _split_rows(first, image):
            cut = {p: {layer: each[regions[layer]] for layer, each in layers.items()} for p, layers in maps.items()}
            cut |= {p: {layer: each.detach().requires_grad_() for layer, each in cut[p].items()} for p in parameters}
            value = measure(cut, portions)
            found = compute_local_gradients(value, [cut[p][layer] for p, layer in product(parameters, first)])
            layers = (layer for _, layer in product(parameters, first))
            gradients += [
                FeatureGradient(gradient, i, regions[layer])
                for i, (gradient, layer) in enumerate(zip(found, layers, strict=True))
            ]
            parts.append(value.detach())
        values.append(torch.cat(parts).sum())
    return torch.stack(values), gradients


def _split_rows(maps: Maps, image: int) -> Iterator[tuple[dict[str, Region], dict[str, float]]]:
    """Yield the region of each chunk of one image in each layer, and the fraction of the layer that it covers."""
    rows = {layer: each.shape[2] for layer, each in maps.items()}
    count = min(-(-max(each[0].numel() for each in maps.values()) // CHUNK_ELEMENTS), *rows.values())
    for i in range(count):
        ends = {layer: (i * height // count, (i + 1) * height // count) for layer, height in rows.items()}
        regions: dict[str, Region] = {
            layer: (slice(image, image + 1), slice(None), slice(*end)) for layer, end in ends.items()
        }
        yield regions, {layer: (end - begin) / rows[layer] for layer, (begin, end) in ends.items()}
