"""The feature-matching loss on the layers of a discriminator."""

from typing import Self, final

import torch
from torch import Tensor

from lossmith.losses._adversarial_base import AdversarialBase
from lossmith.losses.adversarial import Adversarial

__all__ = ["FeatureMatching"]


@final
class FeatureMatching(AdversarialBase):
    r"""Feature-matching loss: the distance of a discriminator's features of prediction and target.

    .. math:: \sum_l \frac{1}{C_l H_l W_l} \lVert D_l(x) - D_l(y) \rVert_1

    over all layers of the discriminator but the logits. The discriminator is trained as that of an :class:`Adversarial`
    with the same arguments: beside one on the same inputs, both discriminators are equal at every step, bit for bit on
    a CPU. In Python, :meth:`of` shares one discriminator, which saves its training step and changes no value.

    References:
        | High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs (Wang et al., 2018)
        | https://arxiv.org/abs/1711.11585

    Args:
        discriminator: "unet" or "patch".
        kind: The kind of the discriminator's loss; this and the following as in :class:`Adversarial`.
        penalty: The gradient penalty: "r1", "r2", "gp" or None.
        gamma: The weight of the penalty.
        penalty_every: The number of steps from one penalty to the next.
        spectral_norm: Whether the discriminator's layers have spectral norm 1.
        width: The number of channels of the discriminator's first layer; 64 in the papers.
        channels: The number of image channels.
        lr: The learning rate of the discriminator's Adam.
        betas: The decay rates of the discriminator's Adam.
        seed: The random seed of the discriminator's initial weights and of the "gp" penalty.
        discriminator_start_step: The step from which the discriminator is trained even while the weight of the term
            is 0.
        discriminator_every: The number of training steps from one step of the discriminator to the next.

    Raises:
        ValueError: If an argument is out of range; or at the call, if an image is too small or has other channels.

    Example:
        >>> adversarial = Adversarial("patch", "lsgan", width=4)
        >>> adversarial + 10 * FeatureMatching.of(adversarial)
        Adversarial("patch", "lsgan", width=4) + 10.0 * FeatureMatching("patch", "lsgan", width=4)
    """

    _method = "feature_matching"
    has_shared_discriminator = False

    @classmethod
    def of(cls, adversarial: Adversarial) -> Self:
        """Return the loss on the discriminator of another term, which alone trains it."""
        loss = cls(*adversarial.positional, **adversarial.options)
        loss.discriminator_trainer, loss.has_shared_discriminator = adversarial.discriminator_trainer, True
        return loss

    def discriminator_step(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Train the discriminator, unless another term trains it, and return its metrics."""
        return {} if self.has_shared_discriminator else super().discriminator_step(pred, target)

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the distance of each image, (N,)."""
        self._check_image(pred)
        feature_maps = self.discriminator.feature_maps
        pairs = zip(feature_maps(pred)[:-1], feature_maps(target)[:-1], strict=True)
        return torch.stack([(x - y).abs().flatten(1).mean(dim=1) for x, y in pairs]).sum(dim=0)
