"""Splits of scenes for compositional generalization: held-out combinations of values that are all trained on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lossmith._checks import check_choice
from lossmith.text_to_image.shapes.scenes import Scene

__all__ = ["SplitBy", "check_scene_split", "explained_variance_ratio", "split_scenes"]

SplitBy = Literal["object", "scene"]


def split_scenes(
    scenes: Sequence[Scene], fraction: float, *, by: SplitBy = "object", seed: int = 0
) -> tuple[list[Scene], list[Scene]]:
    """Split scenes into training and held-out scenes, see :meth:`ShapesDataset.split`.

    Raises:
        ValueError: The fraction is not between 0 and 1, or so many objects cannot be held out.
    """
    check_choice("by", by, SplitBy)
    if not 0 < fraction < 1:
        raise ValueError(f"The fraction of held-out scenes must be between 0 and 1; got {fraction!r}.")
    rng = np.random.default_rng(seed)
    if by == "scene":
        chosen = set(rng.permutation(len(scenes))[: max(round(fraction * len(scenes)), 1)].tolist())
        return _partition(scenes, [index in chosen for index in range(len(scenes))])
    objects = sorted({each[:2] for scene in scenes for each in scene.objects})
    objects = [objects[place] for place in rng.permutation(len(objects))]
    held_out = _choose_objects(objects, max(round(fraction * len(objects)), 1))
    return _partition(scenes, [any(each[:2] in held_out for each in scene.objects) for scene in scenes])


def _choose_objects(objects: Sequence[tuple[str, str]], count: int) -> set[tuple[str, str]]:
    """Choose pairs of colour and shape, balanced over the values, with at least half of each value's pairs left."""
    total = Counter(value for pair in objects for value in pair)
    held_out = set[tuple[str, str]]()
    removed: Counter[str] = Counter()
    for _ in range(count):
        allowed = [
            pair
            for pair in objects
            if pair not in held_out and all(2 * (removed[value] + 1) <= total[value] for value in pair)
        ]
        if allowed:
            held_out.add(min(allowed, key=lambda pair: sum(removed[value] / total[value] for value in pair)))
            removed = Counter(value for pair in held_out for value in pair)
    if len(held_out) < count:
        raise ValueError(
            f"{count} of {len(objects)} pairs of colour and shape cannot be held out with half of each value's pairs "
            f"left for training; {len(held_out)} can. Hold out a smaller fraction."
        )
    return held_out


def _partition(scenes: Sequence[Scene], is_held_out: Sequence[bool]) -> tuple[list[Scene], list[Scene]]:
    pairs = list(zip(scenes, is_held_out, strict=True))
    return [scene for scene, held_out in pairs if not held_out], [scene for scene, held_out in pairs if held_out]


def check_scene_split(train: Sequence[Scene], held_out: Sequence[Scene]) -> dict[str, dict[str, tuple[int, int]]]:
    """Count the scenes of each side with each value, and check that metrics on the held-out side are meaningful.

    Returns:
        {attribute: {value: (training scenes, held-out scenes)}}.

    Raises:
        ValueError: A value occurs in no training scene, or a scene is on both sides.
    """
    if both := set(train) & set(held_out):
        raise ValueError(f"{len(both)} scenes are both in the training and the held-out part, such as {min(both)}.")
    counts = [Counter(value for scene in side for value in scene.values) for side in (train, held_out)]
    missing = sorted(value for value in counts[1] if not counts[0][value])
    if missing:
        attribute, value = missing[0]
        raise ValueError(
            f"The {attribute} {value!r} is in {counts[1][missing[0]]} held-out scenes and in none of the {len(train)} "
            "training scenes, so that no network can learn the value. Hold out combinations of values, such as a "
            "colour with a shape."
        )
    table: dict[str, dict[str, tuple[int, int]]] = {}
    for attribute, value in sorted(counts[0] | counts[1]):
        table.setdefault(attribute, {})[value] = (counts[0][attribute, value], counts[1][attribute, value])
    return table


def explained_variance_ratio(images: Tensor, labels: Mapping[str, Sequence[object]]) -> dict[str, float]:
    r"""Compute the fraction of the pixels' variance that each attribute explains by itself, from 0 to 1.

    .. math:: \frac{\sum_p \operatorname{Var}_v \, E[x_p \mid v]}{\sum_p \operatorname{Var} x_p}

    A squared error learns the attribute with the largest ratio first; an attribute with a ratio of 0.001 is learnt
    last. Only main effects count. With few images per value the ratio is biased upwards by about the number of values
    over the number of images.

    Args:
        images: (N, C, H, W).
        labels: For each attribute its value in each image.

    Raises:
        ValueError: An attribute has another number of values than there are images.

    Example:
        >>> images = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(4, 1, 1, 1)
        >>> explained_variance_ratio(images, {"bright": [0, 0, 1, 1], "other": "abab"})
        {'bright': 1.0, 'other': 0.0}
    """
    flat = images.flatten(1).double()
    centred = flat - flat.mean(dim=0)
    total = centred.square().sum()
    ratios = {}
    for name, values in labels.items():
        if len(values) != len(flat):
            raise ValueError(f"Each attribute needs one value per image, {len(flat)}; got {len(values)} of {name!r}.")
        distinct = list(dict.fromkeys(values))
        index = torch.tensor([distinct.index(value) for value in values])
        sums = torch.zeros(len(distinct), flat.shape[1], dtype=flat.dtype).index_add_(0, index, centred)
        count = torch.bincount(index).clamp(min=1).double()
        between = (sums.square() / count[:, None]).sum()
        ratios[name] = float(between / total) if total > 0 else 0.0
    return ratios
