"""A term on large maps of features, band by band, so that what it makes on the way stays in the processor's cache.

A lens that looks at one place at a time and a distance that is a mean or a sum over places need no more of the features
than a few rows at once. On a CPU that halves what such a term costs, for it is memory that it waits for.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import product

import torch
from torch import Tensor

from lossmith.engine.local_gradients import FeatureGradient, compute_local_gradients
from lossmith.lens import Maps

__all__ = ["chunked", "should_chunk"]

Places = tuple[slice, slice, slice]

REACH = 2**20
"""The elements of the largest map in a band: 4 MB of float32."""


def should_chunk(met: Mapping[str, Maps]) -> bool:
    """Whether maps are so large, and where it helps: on a GPU each band would be a launch of its own."""
    maps = [each for layers in met.values() for each in layers.values()]
    on_cpu = maps[0].device.type in ("cpu", "meta")  # what is planned runs on a CPU
    return on_cpu and all(each.dim() == 4 for each in maps) and max(each[0].numel() for each in maps) >= 2 * REACH


def chunked(
    measure: Callable[[Mapping[str, Maps], Mapping[str, float]], Tensor],
    maps: Mapping[str, Maps],
    moved: Collection[str],
) -> tuple[Tensor, list[FeatureGradient]]:
    """A term's values (N,), and their gradients at the maps of some parameters.

    Args:
        measure: From the maps of one band of one image, and the part that it is of each layer, to the value (1,).
        maps: The features of each parameter by layer, (N, C, H, W).
        moved: The parameters whose gradients are wanted.
    """
    first = next(iter(maps.values()))
    values: list[Tensor] = []
    pulls: list[FeatureGradient] = []
    for image in range(len(next(iter(first.values())))):
        parts = []
        for places, share in _bands(first, image):
            cut = {p: {layer: each[places[layer]] for layer, each in layers.items()} for p, layers in maps.items()}
            cut |= {p: {layer: each.detach().requires_grad_() for layer, each in cut[p].items()} for p in moved}
            value = measure(cut, share)
            found = compute_local_gradients(value, [cut[p][layer] for p, layer in product(moved, first)])
            layers = (layer for _, layer in product(moved, first))
            pulls += [FeatureGradient(g, i, places[layer]) for i, (g, layer) in enumerate(zip(found, layers, strict=True))]
            parts.append(value.detach())
        values.append(torch.cat(parts).sum())
    return torch.stack(values), pulls


def _bands(maps: Maps, image: int) -> Iterator[tuple[dict[str, Places], dict[str, float]]]:
    """The places of one image's bands in each layer, and the part of the layer that each is."""
    rows = {layer: each.shape[2] for layer, each in maps.items()}
    count = min(-(-max(each[0].numel() for each in maps.values()) // REACH), *rows.values())
    for band in range(count):
        ends = {layer: (band * high // count, (band + 1) * high // count) for layer, high in rows.items()}
        places: dict[str, Places] = {n: (slice(image, image + 1), slice(None), slice(*end)) for n, end in ends.items()}
        yield places, {n: (end - begin) / rows[n] for n, (begin, end) in ends.items()}
