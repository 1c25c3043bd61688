"""Losses on the latents of autoencoders."""

from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from lossmith._checks import check_bool, check_choice, check_number
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.formula.example_input import ExampleInput

__all__ = ["KL", "VQCommitment"]

Per = Literal["image", "dimension"]

_MAX_LOGVAR = 20.0
"""The log-variance above which the variance continues along its tangent, before its exponential overflows."""

_LATENTS = ExampleInput("normal", (4, 8, 8))


@final
class KL(Distance):
    r"""Kullback-Leibler divergence of Gaussian latents from the standard normal distribution, in nats.

    .. math:: \sum_j \max\!\Big(\lambda, \tfrac{1}{2} \big(\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2\big)\Big)

    on the inputs ``mu`` and ``logvar``, :math:`\log \sigma^2`, (N, ...). The paper, latent diffusion and diffusers sum
    over the latents of an image; AttnGAN's conditioning augmentation takes their mean, ``per="dimension"``. The sum is
    the mean times the number of latents; weights differ by the same factor.

    With free bits :math:`\lambda`, a dimension whose divergence is lower, in the mean over the batch as in the paper,
    has no gradient. Above a log-variance of 20, the variance continues along its tangent and stays finite.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014)
        | https://arxiv.org/abs/1312.6114
        | Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), for free bits
        | https://arxiv.org/abs/1606.04934

    Args:
        per: "image" for the sum over the latents of an image, "dimension" for their mean.
        free_bits: The divergence of a dimension below which it is not penalised, in nats; at least 0.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the shapes differ.

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
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {"mu": _LATENTS, "logvar": _LATENTS}

    def __init__(self, per: Per = "image", *, free_bits: float = 0.0) -> None:
        super().__init__()
        self.per = check_choice("KL per", per, Per)
        check_number("KL free_bits", free_bits, low=0)
        self.free_bits = free_bits

    def measure(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Compute the divergence of each image's latents, (N,)."""
        if mu.shape != logvar.shape:
            raise ValueError(
                f"{self!r} needs mu and logvar of one shape; got {tuple(mu.shape)} and {tuple(logvar.shape)}."
            )
        clamped = logvar.clamp_max(_MAX_LOGVAR)
        excess = logvar - clamped
        # expm1 is accurate about logvar 0, where the divergence is a small difference of large numbers
        nats = (mu.square() + torch.expm1(clamped) - clamped + (clamped.detach().exp() - 1) * excess).flatten(1) / 2
        if self.free_bits:
            nats = torch.where(nats.mean(dim=0) > self.free_bits, nats, self.free_bits)
        return nats.sum(dim=1) if self.per == "image" else nats.mean(dim=1)

    def __repr__(self) -> str:
        return repr_of(self, *([] if self.per == "image" else [self.per]), free_bits=self.free_bits or None)


@final
class VQCommitment(Distance):
    r"""Codebook and commitment loss of a vector-quantised autoencoder.

    .. math:: \overline{(\mathrm{sg}[z] - e)^2} + \beta \, \overline{(z - \mathrm{sg}[e])^2}

    on the inputs ``latents`` :math:`z`, the encoder's output, and ``codes`` :math:`e`, the selected entries of the
    codebook at each position, before the straight-through step, with their gradient. The mean is over all dimensions,
    as in the authors' code. taming-transformers applies :math:`\beta` to the other summand unless
    ``legacy=False``.

    References:
        | Neural Discrete Representation Learning (van den Oord et al., 2017)
        | https://arxiv.org/abs/1711.00937

    Args:
        beta: The weight of the commitment, positive; 0.25 in the paper.
        codebook: Whether to include the first summand; False for a codebook that is updated by moving averages.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the shapes differ.

    Example:
        >>> VQCommitment()(latents=torch.tensor([[1.0, 0.0]]), codes=torch.zeros(1, 2))
        tensor(0.6250)
    """

    citation_keys = ("oord2017",)
    reads_images = False
    is_mean_seeking = True
    gradient_note = "each summand stops the gradient of one input, as published"
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {"latents": _LATENTS, "codes": _LATENTS}

    def __init__(self, beta: float = 0.25, *, codebook: bool = True) -> None:
        super().__init__()
        check_number("VQCommitment beta", beta, low=0, open_low=True)
        self.beta, self.codebook = beta, check_bool("VQCommitment codebook", codebook)

    def measure(self, latents: Tensor, codes: Tensor) -> Tensor:
        """Compute the loss of each image, (N,)."""
        if latents.shape != codes.shape:
            raise ValueError(
                f"{self!r} needs latents and codes of one shape; got {tuple(latents.shape)} and {tuple(codes.shape)}."
            )
        squares = self.beta * (latents - codes.detach()).square()
        if self.codebook:
            squares = squares + (latents.detach() - codes).square()
        return squares.flatten(1).mean(dim=1)

    def __repr__(self) -> str:
        beta = [] if self.beta == 0.25 else [self.beta]
        return repr_of(self, *beta, codebook=None if self.codebook else False)
