"""Whether a judge finds the caption of a picture among others: R-precision."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["RPrecision", "sample_mismatched_captions", "r_precision"]


class RPrecision(NamedTuple):
    """How often a judge was right, how sure that is, and how often a blind one would be.

    Args:
        value: The share of pictures whose own caption came first.
        error: Its standard error over pictures.
        chance: One over the number of captions offered.
    """

    value: float
    error: float
    chance: float


def sample_mismatched_captions(meanings: Sequence[int], own: Sequence[int], *, count: int = 99, seed: int = 0) -> list[list[int]]:
    """For each picture its own caption's number, and those of some others that do not mean the same.

    Args:
        meanings: A number for each caption, which captions of one meaning share.
        own: The number of each picture's caption.
        count: How many others, each of another meaning; fewer if there are not so many.
        seed: Which.

    Raises:
        ValueError: There is no other meaning: one class of pictures cannot be told apart.

    Example:
        >>> mismatched([7, 7, 8, 9], [0], count=2)
        [[0, 2, 3]]
    """
    chance = np.random.default_rng(seed)
    said: dict[int, list[int]] = {}
    for caption, meaning in enumerate(meanings):
        said.setdefault(meaning, []).append(caption)
    kinds = sorted(said)
    if len(kinds) < 2:
        raise ValueError("R-precision wants captions of at least two meanings; all of these mean the same.")
    rows = []
    for caption in own:
        others = [kind for kind in chance.permutation(kinds).tolist() if kind != meanings[caption]]
        rows.append([caption, *sorted(said[kind][int(chance.integers(len(said[kind])))] for kind in others[:count])])
    least = min(map(len, rows))
    return [row[:least] for row in rows]


def r_precision(pictures: Tensor, texts: Tensor, offered: Sequence[Sequence[int]]) -> RPrecision:
    """The share of pictures whose own caption has the largest cosine among those offered.

    By AttnGAN's protocol a picture's caption stands among 99 others, see :func:`mismatched`; with captions that differ
    in one attribute alone it asks whether a network does more than put the right words into a bag. A tie with another
    counts as wrong: a judge that sees no difference has not found it.

    References:
        | AttnGAN: Fine-Grained Text to Image Generation with Attentional Generative Adversarial Networks
        | (Xu et al., 2018), https://arxiv.org/abs/1711.10485

    Args:
        pictures: The judge's vector of each picture, (N, D).
        texts: Its vector of each caption, (M, D).
        offered: For each picture the numbers of captions, its own first; equally many for each.

    Raises:
        ValueError: Vectors or captions that do not fit, or that are not finite.

    Example:
        >>> r_precision(torch.eye(3), torch.eye(3), [[0, 1, 2], [1, 0, 2], [0, 1, 2]]).value
        0.6666666666666666
    """
    if not len(offered) or len(offered) != len(pictures) or len({len(row) for row in offered}) != 1:
        raise ValueError(
            f"R-precision wants one row of captions a picture, all of one length; got {len(offered)} rows for "
            f"{len(pictures)} pictures."
        )
    numbers = torch.tensor([list(row) for row in offered], device=texts.device)
    if numbers.shape[1] < 2 or pictures.shape[1:] != texts.shape[1:]:
        raise ValueError(
            f"R-precision wants two captions or more a picture, and vectors of one length; got {numbers.shape[1]} "
            f"captions, and vectors {tuple(pictures.shape)} and {tuple(texts.shape)}."
        )
    if not bool(pictures.isfinite().all() and texts.isfinite().all()):
        raise ValueError("R-precision wants finite vectors; the judge gave NaN or infinite ones.")
    ours, theirs = F.normalize(pictures.double(), dim=1), F.normalize(texts.double(), dim=1)
    cosines = torch.einsum("nd,nrd->nr", ours, theirs[numbers])
    right = (cosines[:, 0] > cosines[:, 1:].amax(dim=1)).double()
    value = right.mean().item()
    return RPrecision(value, (value * (1 - value) / len(right)) ** 0.5, 1 / numbers.shape[1])
