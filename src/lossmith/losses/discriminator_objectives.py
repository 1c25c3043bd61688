"""Objectives of discriminators, by the kind of adversarial loss."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from lossmith.distributed import rank_and_world_size

__all__ = ["AdversarialKind", "batch_mean", "correctness_margins", "discriminator_loss", "real_fake_loss"]

AdversarialKind = Literal["vanilla", "lsgan", "hinge", "wasserstein", "relativistic"]


def discriminator_loss(
    kind: AdversarialKind, real: Tensor, fake: Tensor, fake_fraction: Tensor | None = None
) -> Tensor:
    """Compute the value that the discriminator minimises.

    Args:
        kind: The kind of adversarial loss.
        real: Logits of real images.
        fake: Logits of generated images.
        fake_fraction: The generated part of each logit's position, in [0, 1]; None for 1 everywhere.

    Returns:
        A scalar.
    """
    if kind == "relativistic":
        return F.softplus(fake.mean() - real).mean() + F.softplus(fake - real.mean()).mean()
    fake_loss = real_fake_loss(kind, fake, real=False)
    if fake_fraction is not None:
        fake_loss = fake_fraction * fake_loss + (1 - fake_fraction) * real_fake_loss(kind, fake, real=True)
    return real_fake_loss(kind, real, real=True).mean() + fake_loss.mean()


def real_fake_loss(kind: AdversarialKind, logits: Tensor, *, real: bool) -> Tensor:
    """Compute the loss of each logit for the label real or fake; for a WGAN, the critic's objective."""
    if kind == "lsgan":
        return (logits - 1 if real else logits).square() / 2
    signed = logits if real else -logits
    if kind == "wasserstein":
        return -signed
    return F.softplus(-signed) if kind == "vanilla" else F.relu(1 - signed)


def correctness_margins(kind: AdversarialKind, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return by how much each logit is on the right side of the decision boundary; negative on the wrong side.

    The boundary of a kind that compares logits is the mean logit of the other class.
    """
    if kind in ("wasserstein", "relativistic"):
        return real - fake.mean(), real.mean() - fake
    boundary = 0.5 if kind == "lsgan" else 0.0
    return real - boundary, boundary - fake


def batch_mean(logits: Tensor, *, training: bool) -> Tensor:
    """Return the mean logit of the batch; in training, of the batches of all processes, which all must call this.

    Backward averages the gradients of the processes, as the gradient of the joint batch needs.
    """
    mean, world_size = logits.mean(), rank_and_world_size()[1]
    if not training or world_size == 1:
        return mean
    from torch.distributed.nn.functional import all_reduce  # slow to import

    total: Tensor = all_reduce(mean)  # type: ignore[no-untyped-call]
    return total / world_size
