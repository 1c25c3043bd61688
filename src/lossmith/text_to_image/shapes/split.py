"""Which scenes of shapes to hold out, so that what is measured on them is recombination and not a word never heard."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lossmith.text_to_image.shapes.scenes import Scene

__all__ = ["checked_split", "hold_out", "variance_shares"]


def hold_out(
    scenes: Sequence[Scene], share: float, *, by: Literal["thing", "scene"] = "thing", seed: int = 0
) -> tuple[list[Scene], list[Scene]]:
    """Parts scenes into those to train on and those held out; see :meth:`Shapes.split`."""
    if by not in ("thing", "scene") or not 0 < share < 1:
        raise ValueError(f'hold_out wants a share between 0 and 1, by "thing" or "scene"; got {share!r} by {by!r}.')
    chance = np.random.default_rng(seed)
    if by == "scene":
        chosen = set(chance.permutation(len(scenes))[: max(round(share * len(scenes)), 1)].tolist())
        return _parted(scenes, [number in chosen for number in range(len(scenes))])
    things = sorted({thing[:2] for scene in scenes for thing in scene.things})
    things = [things[place] for place in chance.permutation(len(things))]
    wanted, held = max(round(share * len(things)), 1), set[tuple[str, ...]]()
    total = Counter(value for thing in things for value in thing)
    gone: Counter[str] = Counter()
    for _ in range(wanted):  # evenly: the next is one whose values were held out least, each at most half of the time
        free = [t for t in things if t not in held and all(2 * (gone[value] + 1) <= total[value] for value in t)]
        if free:
            held.add(min(free, key=lambda t: sum(gone[value] / total[value] for value in t)))
            gone = Counter(value for thing in held for value in thing)
    if len(held) < wanted:
        raise ValueError(
            f"{wanted} of {len(things)} pairs of colour and shape cannot be held out with half of each value's left to "
            f"train on; {len(held)} can. Hold out a smaller share."
        )
    return _parted(scenes, [any(thing[:2] in held for thing in scene.things) for scene in scenes])


def _parted(scenes: Sequence[Scene], out: Sequence[bool]) -> tuple[list[Scene], list[Scene]]:
    pairs = list(zip(scenes, out, strict=True))
    return [scene for scene, away in pairs if not away], [scene for scene, away in pairs if away]


def checked_split(train: Sequence[Scene], held: Sequence[Scene]) -> dict[str, dict[str, tuple[int, int]]]:
    """How many scenes of each side have each single value: {attribute: {value: (trained on, held out)}}.

    Raises:
        ValueError: A value is never trained on, or a scene is on both sides: what is measured on the held-out scenes
            would not be what it seems.
    """
    if both := set(train) & set(held):
        raise ValueError(f"{len(both)} scenes are both trained on and held out, such as {next(iter(both))}.")
    counts = [Counter(value for scene in side for value in scene.values) for side in (train, held)]
    missing = sorted(value for value in counts[1] if not counts[0][value])
    if missing:
        attribute, value = missing[0]
        raise ValueError(
            f"The {attribute} {value!r} is in {counts[1][missing[0]]} held-out scenes and in none of the {len(train)} "
            f"that are trained on: no network can know it. Hold out combinations, such as a colour with a shape, and "
            f"leave every single value in training."
        )
    table: dict[str, dict[str, tuple[int, int]]] = {}
    for attribute, value in sorted(counts[0] | counts[1]):
        table.setdefault(attribute, {})[value] = (counts[0][attribute, value], counts[1][attribute, value])
    return table


def variance_shares(pictures: Tensor, labels: Mapping[str, Sequence[object]]) -> dict[str, float]:
    r"""How much of the variance of the pixels each attribute explains by itself, from 0 to 1.

    .. math:: \frac{\sum_p \operatorname{Var}_v \, E[x_p \mid v]}{\sum_p \operatorname{Var} x_p}

    A squared error teaches a network first what moves most pixels: an attribute of which this is a thousandth is learnt
    last, whatever the captions say. Main effects only; with few pictures a value they are too large by about the number
    of values over that of pictures.

    Args:
        pictures: (N, C, H, W).
        labels: For each attribute its value in each picture.

    Example:
        >>> pictures = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(4, 1, 1, 1)
        >>> variance_shares(pictures, {"bright": [0, 0, 1, 1], "other": "abab"})
        {'bright': 1.0, 'other': 0.0}
    """
    flat = pictures.flatten(1).double()
    centred = flat - flat.mean(dim=0)
    total = centred.square().sum()
    shares = {}
    for name, values in labels.items():
        if len(values) != len(flat):
            raise ValueError(f"{len(flat)} pictures want as many values of {name!r}; got {len(values)}.")
        kinds = list(dict.fromkeys(values))
        number = torch.tensor([kinds.index(value) for value in values])
        sums = torch.zeros(len(kinds), flat.shape[1], dtype=flat.dtype).index_add_(0, number, centred)
        count = torch.bincount(number).clamp(min=1).double()
        between = (sums.square() / count[:, None]).sum()
        shares[name] = float(between / total) if total > 0 else 0.0
    return shares
