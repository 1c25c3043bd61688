"""What keeps the latents of an autoencoder in order."""

from typing import Literal, final, get_args

import torch
from torch import Tensor

from lossmith._repr import format_literal, repr_of
from lossmith.formula.distance import Distance

__all__ = ["KL", "VQCommitment"]

Per = Literal["image", "dimension"]

STEEP = 20.0
"""The log-variance past which the variance grows along its tangent: its exponential soon is no number any more."""


@final
class KL(Distance):
    r"""The divergence of each latent's Gaussian from the standard normal, in nats.

    .. math:: \sum_j \max\!\Big(\lambda, \tfrac{1}{2} \big(\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2\big)\Big)

    on the views ``mu`` and ``logvar``, :math:`\log \sigma^2`, (N, ...). The paper, latent diffusion and diffusers sum
    over an image's latents; AttnGAN's conditioning augmentation takes their mean, ``per="dimension"``. The sum is the
    mean times the number of latents, by which weights differ too.

    Free bits :math:`\lambda` leave a dimension alone that costs less than that, in the mean over the batch as in the
    paper. Past a log-variance of 20 the variance goes on along its tangent: large, and never infinite.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014)
        | https://arxiv.org/abs/1312.6114
        | Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), for free bits
        | https://arxiv.org/abs/1606.04934

    Args:
        per: "image" for the sum over an image's latents, "dimension" for their mean.
        free_bits: What each dimension may cost freely, in nats.

    Raises:
        ValueError: A bad argument, or at the call views of two shapes.

    Example:
        >>> KL()(mu=torch.tensor([[1.0, 0.0]]), logvar=torch.zeros(1, 2))
        tensor(0.5000)
        >>> from lossmith import L1, Ramp
        >>> L1() + Ramp(0.0, 1e-6, steps=10_000) * KL()  # beta rises
        L1() + Ramp(0.0, 1e-06, steps=10000) * KL()
    """

    citation_keys = ("kingma2014",)
    is_batch_dependent = True  # with free bits
    reads_images = False
    is_mean_seeking = True

    def __init__(self, per: Per = "image", *, free_bits: float = 0.0) -> None:
        super().__init__()
        if per not in get_args(Per):
            raise ValueError(f"KL is taken per {' or '.join(map(format_literal, get_args(Per)))}; got {per!r}.")
        if isinstance(free_bits, bool) or not isinstance(free_bits, int | float) or not 0 <= free_bits < float("inf"):
            raise ValueError(f"KL wants free_bits of at least 0; got {free_bits!r}.")
        self.per, self.free_bits = per, free_bits

    def measure(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """The divergence of each image's latents, (N,)."""
        if mu.shape != logvar.shape:
            raise ValueError(
                f"{self!r} wants mu and logvar of one shape; got {tuple(mu.shape)}, {tuple(logvar.shape)}."
            )
        moderate = logvar.clamp_max(STEEP)
        beyond = logvar - moderate
        # expm1 keeps the digits about logvar 0, where the divergence is the small difference of large numbers
        nats = (mu.square() + torch.expm1(moderate) - moderate + (moderate.detach().exp() - 1) * beyond).flatten(1) / 2
        if self.free_bits:
            nats = torch.where(nats.mean(dim=0) > self.free_bits, nats, self.free_bits)
        return nats.sum(dim=1) if self.per == "image" else nats.mean(dim=1)

    def __repr__(self) -> str:
        return repr_of(self, *([] if self.per == "image" else [self.per]), free_bits=self.free_bits or None)


@final
class VQCommitment(Distance):
    r"""Codes follow the latents that chose them, and latents keep to their codes.

    .. math:: \overline{(\mathrm{sg}[z] - e)^2} + \beta \, \overline{(z - \mathrm{sg}[e])^2}

    on the views ``latents`` :math:`z`, the encoder's output, and ``codes`` :math:`e`, the chosen entries of the
    codebook at each place, before the straight-through step, with their gradient. The mean is over all dimensions, as
    in the authors' code. taming-transformers puts :math:`\beta` on the other summand unless told ``legacy=False``.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017)
        | https://arxiv.org/abs/1711.00937

    Args:
        beta: How much latents keep to their codes; the paper's 0.25.
        codebook: Whether codes follow, the first summand; False for a codebook that moving averages update.

    Raises:
        ValueError: A bad argument, or at the call views of two shapes.

    Example:
        >>> VQCommitment()(latents=torch.tensor([[1.0, 0.0]]), codes=torch.zeros(1, 2))
        tensor(0.6250)
    """

    citation_keys = ("oord2017",)
    reads_images = False
    is_mean_seeking = True

    def __init__(self, beta: float = 0.25, *, codebook: bool = True) -> None:
        super().__init__()
        if isinstance(beta, bool) or not isinstance(beta, int | float) or not 0 < beta < float("inf"):
            raise ValueError(f"VQCommitment wants beta > 0; got {beta!r}.")
        if not isinstance(codebook, bool):
            raise ValueError(f"VQCommitment wants codebook to be True or False; got {codebook!r}.")
        self.beta, self.codebook = beta, codebook

    def measure(self, latents: Tensor, codes: Tensor) -> Tensor:
        """How far each image's latents are from their codes, (N,)."""
        if latents.shape != codes.shape:
            raise ValueError(
                f"{self!r} wants latents and codes of one shape; got {tuple(latents.shape)}, {tuple(codes.shape)}."
            )
        squares = self.beta * (latents - codes.detach()).square()
        if self.codebook:
            squares = squares + (latents.detach() - codes).square()
        return squares.flatten(1).mean(dim=1)

    def __repr__(self) -> str:
        beta = [] if self.beta == 0.25 else [self.beta]
        return repr_of(self, *beta, codebook=None if self.codebook else False)
