"""Whether pictures of one prompt differ from each other, and whether they are copies of what was trained on."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["diversity", "memorisation", "vendi_score"]


def vendi_score(features: Tensor) -> float:
    r"""How many different pictures there are among some, from 1 to their number.

    .. math:: \exp\Big(-\sum_i \lambda_i \log \lambda_i\Big)

    :math:`\lambda` are the eigenvalues of the matrix of their cosines over their number.

    References:
        | The Vendi Score: A Diversity Evaluation Metric for Machine Learning (Friedman and Dieng, 2022)
        | https://arxiv.org/abs/2210.02410

    Args:
        features: (N, D).

    Example:
        >>> round(vendi(torch.eye(4)), 4), round(vendi(torch.ones(4, 3)), 4)
        (4.0, 1.0)
    """
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    values = torch.linalg.eigvalsh(unit @ unit.T / len(unit)).clamp(min=0)
    return float(torch.exp(torch.special.entr(values).sum()))


def diversity(features: Tensor) -> dict[str, float]:
    """How different pictures of one prompt are, on average over prompts: never pictures of different prompts.

    Args:
        features: (P, S, D), of S pictures for each of P prompts.

    Returns:
        "distance", the mean Euclidean distance between two pictures of a prompt, and "vendi_score", see :func:`vendi`.

    Raises:
        ValueError: Another shape, or one picture a prompt.
    """
    if features.ndim != 3 or features.shape[1] < 2:
        raise ValueError(
            f"diversity wants features (P, S, D) of at least two pictures for each prompt; got {tuple(features.shape)}."
        )
    count = features.shape[1]
    distances = torch.cdist(features.double(), features.double()).sum(dim=(1, 2)) / (count * (count - 1))
    return {"distance": float(distances.mean()), "vendi_score": float(np.mean([vendi_score(each) for each in features]))}


def memorisation(samples: Tensor, train: Tensor, held: Tensor, *, draws: int = 20, seed: int = 0) -> dict[str, float]:
    """How near samples lie to what was trained on, beside what was not.

    Args:
        samples: Features of what a network made, (N, D).
        train: Of the pictures that it was trained on, (M, D).
        held: Of real pictures that it was not, (K, D), K at most M.
        draws: How often as many training pictures as held-out ones are drawn.
        seed: Which.

    Returns:
        "ratio", the median distance of a sample to its nearest training picture over that to its nearest held-out one,
        with equally many of both: 1 is what a network does that has learnt the distribution, and 0 one that copies;
        "copies", the share of samples that lie nearer to a training picture than all but one in a hundred training
        pictures lie to another: 0.01 is what real pictures give.

    Raises:
        ValueError: Other shapes, or too few pictures.
    """
    if not (samples.ndim == train.ndim == held.ndim == 2 and samples.shape[1] == train.shape[1] == held.shape[1]):
        shapes = ", ".join(str(tuple(each.shape)) for each in (samples, train, held))
        raise ValueError(f"memorisation wants features (N, D) of one D; got {shapes}.")
    if not len(samples) or not 1 <= len(held) <= len(train) or len(train) < 2:
        raise ValueError(
            f"memorisation wants samples, and at least as many training pictures as held-out ones; got {len(samples)} "
            f"samples, {len(train)} training and {len(held)} held-out pictures."
        )
    near, far = (torch.cdist(samples.double(), each.double()) for each in (train, held))
    chance = np.random.default_rng(seed)
    chosen = (torch.from_numpy(chance.permutation(len(train))[: len(held)]) for _ in range(draws))
    median = float(np.mean([float(near[:, each].amin(dim=1).median()) for each in chosen]))
    own = torch.cdist(train.double(), train.double()).fill_diagonal_(torch.inf).amin(dim=1)
    away = float(far.amin(dim=1).median())
    return {
        "ratio": median / away if away > 0 else float(median > 0),
        "copies": float((near.amin(dim=1) < own.quantile(0.01)).double().mean()),
    }
