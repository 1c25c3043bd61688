"""The adversarial loss, with a discriminator that is trained beside the network."""

from typing import final

import torch.nn.functional as F
from torch import Tensor

from lossmith.image import resize_mask
from lossmith.losses._adversarial_base import AdversarialBase
from lossmith.losses.discriminator_objectives import batch_mean, real_fake_loss

__all__ = ["Adversarial"]


@final
class Adversarial(AdversarialBase):
    r"""Adversarial loss: how clearly a discriminator recognises the prediction as generated.

    The discriminator is trained on the images of each step. With :math:`D` its logits, averaged over the output map of
    an image, :math:`x` the prediction and :math:`y` the target, the network minimises the first column and the
    discriminator the second:

    ============== ================================================= ==================================================
    vanilla        :math:`-\log \sigma(D(x))`                        :math:`-\log \sigma(D(y)) - \log(1 - \sigma(D(x)))`
    lsgan          :math:`\frac12 (D(x) - 1)^2`                      :math:`\frac12 (D(y) - 1)^2 + \frac12 D(x)^2`
    hinge          :math:`-D(x)`                                     :math:`[1 - D(y)]_+ + [1 + D(x)]_+`
    wasserstein    :math:`-D(x)`                                     :math:`D(x) - D(y)`
    relativistic   :math:`-\log \sigma(D(x) - \bar D(y))`            the same with x and y exchanged
                   :math:`- \log(1 - \sigma(D(y) - \bar D(x)))`
    ============== ================================================= ==================================================

    .. math:: \bar D = \text{the mean logit of the batch} \qquad
        \text{r1, r2: } \tfrac{\gamma}{2 P} \lVert \nabla \textstyle\sum_p D_p \rVert^2 \text{ at } y, x \qquad
        \text{gp: } \gamma \big( P^{-1/2} \lVert \nabla \textstyle\sum_p D_p \rVert - 1 \big)^2 \text{ between them}

    "vanilla" is the non-saturating form. "relativistic" is the relativistic average form of ESRGAN, with means over the
    batches of all training processes. BasicSR's lsgan is twice ours, its relativistic form half. The penalties are
    those of the papers for a discriminator with one output; divided by the number P of logits in the output map, they
    do not grow with the resolution, as those of BasicSR do. "wasserstein" needs a penalty, where the paper clips the
    critic's weights.

    With a mask, ``.on(pred="filled", mask="mask")``, the masked pixels count as generated and the rest as real: the
    network's loss is averaged over the generated part, and the discriminator is trained to tell the parts apart
    (SM-PatchGAN, without the paper's blur of the mask). A logit whose receptive cell is partly masked counts as both,
    in proportion. "relativistic" accepts no mask.

    Evaluating the loss does not change the discriminator. :meth:`discriminator_step` does, with its own Adam optimiser
    in float32; ``lossmith train`` and :class:`~lossmith.LossMonitor` call it after each training step, or after every
    ``discriminator_every``-th, and ``lossmith train`` reports a collapsed discriminator. While the weight of the term
    is 0, as in ``OnFrom(1000) * Adversarial()``, the discriminator is neither evaluated nor trained;
    ``discriminator_start_step=500`` trains it earlier. The weights are part of the loss's `state_dict`; the text of the
    loss names the seed of the initial weights.

    References:
        | Generative Adversarial Networks (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661
        | Least Squares Generative Adversarial Networks (Mao et al., 2017), https://arxiv.org/abs/1611.04076
        | Geometric GAN (Lim and Ye, 2017), https://arxiv.org/abs/1705.02894
        | Wasserstein GAN (Arjovsky et al., 2017), https://arxiv.org/abs/1701.07875
        | The relativistic discriminator (Jolicoeur-Martineau, 2019), https://arxiv.org/abs/1807.00734
        | Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018), https://arxiv.org/abs/1801.04406
        | Improved Training of Wasserstein GANs (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028
        | Aggregated Contextual Transformations for High-Resolution Image Inpainting (Zeng et al., 2022), for the mask
        | https://arxiv.org/abs/2104.01431

    Args:
        discriminator: "unet", Real-ESRGAN's U-Net with a logit for every pixel, for images of at least 8 px a side; or
            "patch", pix2pix's with a receptive field of 70 x 70 px, for images of at least 24 px a side.
        kind: "vanilla", "lsgan", "hinge", "wasserstein" or "relativistic".
        penalty: The gradient penalty: "r1" at the target, "r2" at the prediction, "gp" between them, or None.
        gamma: The weight of the penalty; 10 in both papers.
        penalty_every: The number of steps from one penalty to the next; the penalty is multiplied by it. StyleGAN2
            uses 16.
        spectral_norm: Whether the discriminator's layers have spectral norm 1.
        width: The number of channels of the discriminator's first layer; 64 in the papers.
        channels: The number of image channels.
        lr: The learning rate of the discriminator's Adam.
        betas: The decay rates of the discriminator's Adam; (0, 0.9) is usual with "gp".
        seed: The random seed of the discriminator's initial weights and of the "gp" penalty.
        discriminator_start_step: The training step from which the discriminator is trained even while the weight of
            the term is 0; None for never.
        discriminator_every: The number of training steps from one step of the discriminator to the next. The penalty is
            counted in steps of the discriminator.

    Raises:
        ValueError: If an argument is out of range; or at the call, if an image is too small or has other channels, or
            if "relativistic" is given a mask.

    Example:
        >>> import torch
        >>> loss = Adversarial("patch", "hinge", width=4)
        >>> x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
        >>> loss.evaluate({"pred": x, "target": y})["Adversarial"].shape
        torch.Size([2])
        >>> sorted(loss.discriminator_step(x, y))
        ['fake_accuracy', 'logit_std', 'loss', 'real_accuracy']
    """

    @property
    def is_batch_dependent(self) -> bool:  # type: ignore[override]
        """Whether the logits of an image are compared with those of the batch."""
        return self.kind == "relativistic"

    @property
    def value_range(self) -> tuple[float, float]:  # type: ignore[override]
        """The range of the values; logits are unbounded."""
        return (-float("inf") if self.kind in ("hinge", "wasserstein") else 0.0, float("inf"))

    def discriminator_step(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Train the discriminator for one step and return its metrics, see :meth:`DiscriminatorTrainer.step`."""
        self._check_image(target)
        self._check_image(pred)
        self._check_mask(mask)
        return self.discriminator_trainer.step(real=target, fake=pred, mask=mask)

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the network's loss of each image, (N,)."""
        self._check_image(pred)
        self._check_mask(mask)
        fake = self.discriminator(pred)
        if self.kind == "relativistic":
            real = self.discriminator(target)
            training = fake.requires_grad  # False where a single process validates and no other would join the mean
            real_mean, fake_mean = batch_mean(real, training=training), batch_mean(fake, training=training)
            values = F.softplus(real_mean - fake) + F.softplus(real - fake_mean)
        elif self.kind == "hinge":
            values = -fake  # the discriminator's hinge has no gradient where it is confident
        else:
            values = real_fake_loss(self.kind, fake, real=True)
        values = values if mask is None else values * resize_mask(mask, values, mean=True)
        return values.flatten(1).mean(dim=1)

    def _check_mask(self, mask: Tensor | None) -> None:
        if mask is not None and self.kind == "relativistic":
            raise ValueError(f"{self!r} compares logits of the batch and accepts no mask; choose another kind.")
