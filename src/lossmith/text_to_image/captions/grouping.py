"""Groups of captions and images that belong together, and splits that keep them together."""

import warnings
from collections.abc import Sequence

import numpy as np

__all__ = ["choose_held_out_groups", "connected_components"]

MAX_EXCESS = 1.5
"""Factor over the requested number of held-out images above which a split warns."""


def connected_components(links: Sequence[Sequence[int]], count: int) -> list[int]:
    """Return for each of the nodes 0, ..., count - 1 the smallest node of its connected component.

    Args:
        links: Sets of nodes that are connected.
        count: Number of nodes.

    Example:
        >>> connected_components([[0, 2], [2, 3]], 5)
        [0, 1, 0, 0, 4]
    """
    parent = list(range(count))

    def find_root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    for linked in links:
        roots = sorted({find_root(node) for node in linked})
        for root in roots[1:]:
            parent[root] = roots[0]
    return [find_root(node) for node in range(count)]


def choose_held_out_groups(groups: Sequence[int], fraction: float, *, seed: int = 0) -> set[int]:
    """Choose groups to hold out, at least one and about a fraction of all images.

    Args:
        groups: The group of each image.
        fraction: Fraction of the images to hold out, between 0 and 1.
        seed: Random seed of the choice.

    Raises:
        ValueError: There is only one group, or the fraction is not between 0 and 1.

    Warns:
        UserWarning: Far more images are held out than requested.
    """
    distinct, count = sorted(set(groups)), len(groups)
    if len(distinct) < 2 or not 0 < fraction < 1:
        raise ValueError(
            f"A split needs a fraction between 0 and 1, and images of at least two groups; got the fraction "
            f"{fraction!r} of {count} images in {len(distinct)} groups. Images with a common caption or group stay "
            "together: give other validation images (--val DIR), or distinct captions."
        )
    sizes = np.bincount(groups, minlength=max(distinct) + 1)
    held_out, total = set[int](), 0
    for place in np.random.default_rng(seed).permutation(len(distinct)):
        if total + sizes[distinct[place]] <= max(fraction * count, 1) and len(held_out) < len(distinct) - 1:
            held_out.add(distinct[place])
            total += sizes[distinct[place]]
    held_out = held_out or {min(distinct, key=lambda group: sizes[group])}
    total = sum(int(sizes[group]) for group in held_out)
    if total > MAX_EXCESS * fraction * count:
        warnings.warn(
            f"{total} of {count} images ({total / count:.0%}) are held out instead of the fraction {fraction:g}: "
            f"images with a common caption or group stay together, and there are only {len(distinct)} such sets. Give "
            "other validation images (--val DIR), or more captions.",
            stacklevel=3,
        )
    return held_out
