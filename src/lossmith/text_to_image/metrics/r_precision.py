"""R-precision: how often a judge ranks an image's own caption first."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["RPrecision", "r_precision", "sample_mismatched_captions"]


class RPrecision(NamedTuple):
    """An R-precision with its standard error.

    Args:
        value: Fraction of images whose own caption ranks first.
        error: Standard error over images.
        chance: Value of a random ranking, one over the number of candidates.
    """

    value: float
    error: float
    chance: float


def sample_mismatched_captions(
    groups: Sequence[int], own: Sequence[int], *, count: int = 99, seed: int = 0
) -> list[list[int]]:
    """Return for each image its own caption and random captions of other groups.

    Args:
        groups: A number for each caption, shared by the captions of one meaning.
        own: The caption index of each image.
        count: Number of other captions, each of another group; fewer if there are fewer groups.
        seed: Random seed of the choice.

    Returns:
        For each image the caption indices, its own first; equally many for each image.

    Raises:
        ValueError: All captions belong to one group.

    Example:
        >>> sample_mismatched_captions([7, 7, 8, 9], [0], count=2)
        [[0, 2, 3]]
    """
    rng = np.random.default_rng(seed)
    members: dict[int, list[int]] = {}
    for caption, group in enumerate(groups):
        members.setdefault(group, []).append(caption)
    distinct = sorted(members)
    if len(distinct) < 2:
        raise ValueError("R-precision needs captions of at least two meanings; all captions have the same.")
    rows = []
    for caption in own:
        others = [group for group in rng.permutation(distinct).tolist() if group != groups[caption]]
        drawn = [members[group][int(rng.integers(len(members[group])))] for group in others[:count]]
        rows.append([caption, *sorted(drawn)])
    length = min(map(len, rows))
    return [row[:length] for row in rows]


def r_precision(images: Tensor, captions: Tensor, candidates: Sequence[Sequence[int]]) -> RPrecision:
    """Compute the fraction of images whose own caption has the largest cosine similarity among the candidates.

    In AttnGAN's protocol the candidates are the image's caption and 99 others, see :func:`sample_mismatched_captions`.
    Candidates that differ in one attribute, see :attr:`lossmith.text_to_image.shapes.Scene.neighbours`, test whether a
    network relates words to each other. A tie counts as wrong, so that a constant judge scores 0.

    References:
        | AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative Adversarial Networks
        | (Xu et al., 2018), https://arxiv.org/abs/1711.10485

    Args:
        images: The judge's vectors of the images, (N, D).
        captions: The judge's vectors of the captions, (M, D).
        candidates: For each image the indices of its candidates, its own caption first; equally many for each image.

    Raises:
        ValueError: The shapes do not match, or a vector is not finite.

    Example:
        >>> r_precision(torch.eye(3), torch.eye(3), [[0, 1, 2], [1, 0, 2], [0, 1, 2]]).value
        0.6666666666666666
    """
    if not len(candidates) or len(candidates) != len(images) or len({len(row) for row in candidates}) != 1:
        raise ValueError(
            f"R-precision needs one row of candidates per image, all of one length; got {len(candidates)} rows for "
            f"{len(images)} images."
        )
    indices = torch.tensor([list(row) for row in candidates], device=captions.device)
    if indices.shape[1] < 2 or images.shape[1:] != captions.shape[1:]:
        raise ValueError(
            f"R-precision needs at least two candidates per image, and vectors of one length; got {indices.shape[1]} "
            f"candidates, and vectors {tuple(images.shape)} and {tuple(captions.shape)}."
        )
    if not bool(images.isfinite().all() and captions.isfinite().all()):
        raise ValueError("R-precision needs finite vectors; the judge returned NaN or infinite values.")
    unit_images, unit_captions = F.normalize(images.double(), dim=1), F.normalize(captions.double(), dim=1)
    cosines = torch.einsum("nd,nrd->nr", unit_images, unit_captions[indices])
    is_right = (cosines[:, 0] > cosines[:, 1:].amax(dim=1)).double()
    value = is_right.mean().item()
    return RPrecision(value, (value * (1 - value) / len(is_right)) ** 0.5, 1 / indices.shape[1])
