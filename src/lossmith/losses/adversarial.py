"""Adversarial losses, with a discriminator that is trained beside the network."""

from abc import ABC
from collections.abc import Sequence
from typing import Any, ClassVar, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_integer
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.image import resize_mask
from lossmith.losses.discriminator_objectives import AdversarialKind, batch_mean, real_fake_loss
from lossmith.losses.discriminator_trainer import DiscriminatorTrainer, GradientPenalty
from lossmith.losses.discriminators import Discriminator, DiscriminatorName

__all__ = ["Adversarial", "FeatureMatching"]

_DEFAULTS: dict[str, Any] = {
    "penalty": None,
    "gamma": 10.0,
    "penalty_every": 1,
    "spectral_norm": True,
    "width": 64,
    "channels": 3,
    "lr": 1e-4,
    "betas": (0.9, 0.99),
    "seed": 0,
    "discriminator_start_step": None,
}
_CITATION_KEYS = {
    "vanilla": "goodfellow2014",
    "lsgan": "mao2017",
    "hinge": "lim2017",
    "wasserstein": "arjovsky2017",
    "relativistic": "jolicoeur2019",
    "patch": "isola2017",
    "unet": "wang2021",
    "spectral_norm": "miyato2018",
    "r1": "mescheder2018",
    "r2": "mescheder2018",
    "gp": "gulrajani2017",
    "feature_matching": "wang2018",
}
_RENAMED_STATE = {
    "learner.critic.": "discriminator_trainer.discriminator.",
    "learner.mean": "discriminator_trainer.exp_avg",
    "learner.square": "discriminator_trainer.exp_avg_sq",
    "learner._extra_state": "discriminator_trainer._extra_state",
}
"""Prefixes of state-dict keys in checkpoints of lossmith 0.1 and their present names."""


class _AdversarialBase(Distance, ABC):
    """A loss with a trained discriminator."""

    citation_keys = tuple(dict.fromkeys(_CITATION_KEYS.values()))  # an instance has those that it uses
    _method: ClassVar[str] = ""

    def __init__(
        self,
        discriminator: DiscriminatorName = "unet",
        kind: AdversarialKind = "vanilla",
        *,
        penalty: GradientPenalty | None = None,
        gamma: float = 10.0,
        penalty_every: int = 1,
        spectral_norm: bool = True,
        width: int = 64,
        channels: int = 3,
        lr: float = 1e-4,
        betas: Sequence[float] = (0.9, 0.99),
        seed: int = 0,
        discriminator_start_step: int | None = None,
    ) -> None:
        super().__init__()
        if discriminator_start_step is not None:
            check_integer("discriminator_start_step", discriminator_start_step, low=0)
        options: dict[str, Any] = {"penalty": penalty, "gamma": gamma, "penalty_every": penalty_every}
        options |= {"spectral_norm": spectral_norm, "width": width, "channels": channels}
        options |= {"lr": lr, "betas": betas, "seed": seed}
        self.discriminator_trainer = DiscriminatorTrainer(discriminator, kind, **options)
        options |= {"betas": tuple(betas), "discriminator_start_step": discriminator_start_step}
        self.options = {name: value for name, value in options.items() if value != _DEFAULTS[name]}
        self.positional: list[Any] = [] if discriminator == "unet" and kind == "vanilla" else [discriminator]
        self.positional += [] if kind == "vanilla" else [kind]
        self.discriminator_start_step = discriminator_start_step
        self.kind = kind
        parts = (self._method, discriminator, kind, "spectral_norm" if spectral_norm else "", penalty or "")
        self.citation_keys = tuple(_CITATION_KEYS[part] for part in parts if part)  # type: ignore[misc]

    @property
    def discriminator(self) -> Discriminator:
        """The discriminator."""
        return self.discriminator_trainer.discriminator

    def discriminator_step(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Train the discriminator for one step and return its metrics, see :meth:`DiscriminatorTrainer.step`."""
        self._check_image(target)
        self._check_image(pred)
        return self.discriminator_trainer.step(real=target, fake=pred)

    def _check_image(self, image: Tensor) -> None:
        """Raise ValueError if the discriminator cannot process the image."""
        discriminator = self.discriminator
        if image.ndim != 4 or image.shape[1] != discriminator.channels:
            raise ValueError(
                f"{self!r} needs images (N, {discriminator.channels}, H, W); got {tuple(image.shape)}. "
                "Set channels=..., or remove the lens."
            )
        height, width = image.shape[-2:]
        if min(height, width) < discriminator.min_size:
            raise ValueError(
                f"{self!r} needs images of at least {discriminator.min_size} px a side; got {height}x{width}."
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for old, new in _RENAMED_STATE.items():
            for key in [key for key in state_dict if key.startswith(prefix + old)]:
                state_dict[prefix + new + key.removeprefix(prefix + old)] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        options = {name: list(value) if name == "betas" else value for name, value in self.options.items()}
        return repr_of(self, *self.positional, **options)


@final
class Adversarial(_AdversarialBase):
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

    Evaluating the loss does not change the discriminator. :meth:`discriminator_step` does, once per training step, with
    its own Adam optimiser in float32; this package's trainer calls it and reports a collapsed discriminator. While the
    weight of the term is 0, as in ``OnFrom(1000) * Adversarial()``, the discriminator is neither evaluated nor trained;
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

    Raises:
        ValueError: If an argument is out of range; or at the call, if an image is too small or has other channels, or
            if "relativistic" is given a mask.

    Example:
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


@final
class FeatureMatching(_AdversarialBase):
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
