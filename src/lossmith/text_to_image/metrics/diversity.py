"""Diversity of the images of one prompt, and memorization of training images."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["diversity", "memorisation", "vendi_score"]


def vendi_score(features: Tensor) -> float:
    r"""Compute the Vendi score, the effective number of distinct images, from 1 to N.

    .. math:: \exp\Big(-\sum_i \lambda_i \log \lambda_i\Big)

    :math:`\lambda` are the eigenvalues of the matrix of cosine similarities divided by N.

    References:
        | The Vendi Score: A Diversity Evaluation Metric for Machine Learning (Friedman and Dieng, 2022)
        | https://arxiv.org/abs/2210.02410

    Args:
        features: (N, D).

    Example:
        >>> round(vendi_score(torch.eye(4)), 4), round(vendi_score(torch.ones(4, 3)), 4)
        (4.0, 1.0)
    """
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    values = torch.linalg.eigvalsh(unit @ unit.T / len(unit)).clamp(min=0)
    return float(torch.exp(torch.special.entr(values).sum()))


def diversity(features: Tensor) -> dict[str, float]:
    """Compute the diversity of the images of each prompt, averaged over prompts.

    Args:
        features: Features of S images for each of P prompts, (P, S, D).

    Returns:
        "distance", the mean Euclidean distance between two images of a prompt, and "vendi", see :func:`vendi_score`.

    Raises:
        ValueError: The features have another shape, or there is one image per prompt.
    """
    if features.ndim != 3 or features.shape[1] < 2:
        raise ValueError(
            f"diversity takes features (P, S, D) of at least two images per prompt; got {tuple(features.shape)}."
        )
    count = features.shape[1]
    distances = torch.cdist(features.double(), features.double()).sum(dim=(1, 2)) / (count * (count - 1))
    return {"distance": float(distances.mean()), "vendi": float(np.mean([vendi_score(each) for each in features]))}


def memorisation(
    samples: Tensor, train: Tensor, held_out: Tensor, *, draws: int = 20, seed: int = 0
) -> dict[str, float]:
    """Compare the distances from samples to training images with the distances to held-out images.

    Args:
        samples: Features of generated images, (N, D).
        train: Features of training images, (M, D).
        held_out: Features of held-out real images, (K, D), K at most M.
        draws: Number of random subsets of K training images, over which the ratio is averaged.
        seed: Random seed of the subsets.

    Returns:
        "ratio", the median distance of a sample to its nearest training image over that to its nearest held-out image,
        with K images of each kind: 1 for a network that has learnt the distribution, 0 for a network that copies;
        "copies", the fraction of samples that are nearer to a training image than the nearest 1 % of training images
        are to another: 0.01 for real images.

    Raises:
        ValueError: The shapes do not match, or there are too few images.
    """
    sets = (samples, train, held_out)
    if any(each.ndim != 2 for each in sets) or len({each.shape[1] for each in sets}) != 1:
        shapes = ", ".join(str(tuple(each.shape)) for each in sets)
        raise ValueError(f"memorisation takes features (N, D) of one D; got {shapes}.")
    if not len(samples) or not 1 <= len(held_out) <= len(train) or len(train) < 2:
        raise ValueError(
            f"memorisation needs samples, and at least as many training images as held-out images; got {len(samples)} "
            f"samples, {len(train)} training images and {len(held_out)} held-out images."
        )
    to_train, to_held_out = (torch.cdist(samples.double(), each.double()) for each in (train, held_out))
    rng = np.random.default_rng(seed)
    subsets = (torch.from_numpy(rng.permutation(len(train))[: len(held_out)]) for _ in range(draws))
    train_median = float(np.mean([float(to_train[:, each].amin(dim=1).median()) for each in subsets]))
    held_out_median = float(to_held_out.amin(dim=1).median())
    within_train = torch.cdist(train.double(), train.double()).fill_diagonal_(torch.inf).amin(dim=1)
    is_copy = to_train.amin(dim=1) < within_train.quantile(0.01)
    return {
        "ratio": train_median / held_out_median if held_out_median > 0 else float(train_median > 0),
        "copies": float(is_copy.double().mean()),
    }
