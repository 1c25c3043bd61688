"""Adversarial losses, whose critic learns beside the network that it judges."""

from abc import ABC
from collections.abc import Sequence
from typing import Any, ClassVar, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._repr import spelled
from lossmith.formula.distance import Distance
from lossmith.image import area
from lossmith.losses.discriminator_trainer import (
    Kind,
    Learner,
    Penalty,
    against,
    typical,
    within,
)
from lossmith.losses.discriminators import CriticName

__all__ = ["Adversarial", "FeatureMatching"]

USUAL: dict[str, Any] = {
    "penalty": None,
    "gamma": 10.0,
    "every": 1,
    "spectral": True,
    "width": 64,
    "channels": 3,
    "lr": 1e-4,
    "betas": (0.9, 0.99),
    "seed": 0,
    "since": None,
}
PAPERS = {
    "vanilla": "goodfellow2014",
    "lsgan": "mao2017",
    "hinge": "lim2017",
    "wasserstein": "arjovsky2017",
    "relativistic": "jolicoeur2019",
    "patch": "isola2017",
    "unet": "wang2021",
    "spectral": "miyato2018",
    "r1": "mescheder2018",
    "r2": "mescheder2018",
    "gp": "gulrajani2017",
    "matching": "wang2018",
}


class _Judged(Distance, ABC):
    """A loss with a critic that learns."""

    papers = tuple(dict.fromkeys(PAPERS.values()))  # an instance has those that it uses
    source: ClassVar[str] = ""

    def __init__(
        self,
        critic: CriticName = "unet",
        kind: Kind = "vanilla",
        *,
        penalty: Penalty | None = None,
        gamma: float = 10.0,
        every: int = 1,
        spectral: bool = True,
        width: int = 64,
        channels: int = 3,
        lr: float = 1e-4,
        betas: Sequence[float] = (0.9, 0.99),
        seed: int = 0,
        since: int | None = None,
    ) -> None:
        super().__init__()
        if since is not None:
            within("since", since, isinstance(since, int) and since >= 0, "a step, a whole number of at least 0")
        options: dict[str, Any] = {"penalty": penalty, "gamma": gamma, "every": every, "spectral": spectral}
        options |= {"width": width, "channels": channels, "lr": lr, "betas": betas, "seed": seed}
        self.places = [] if (critic, kind) == ("unet", "vanilla") else [critic] if kind == "vanilla" else [critic, kind]
        self.learner = Learner(critic, kind, **options)
        options |= {"betas": tuple(betas), "since": since}
        self.since = since
        self.options = {name: value for name, value in options.items() if value != USUAL[name]}
        self.kind = kind
        parts = (self.source, critic, kind, "spectral" if spectral else "", penalty or "")
        self.papers = tuple(PAPERS[part] for part in parts if part)  # type: ignore[misc]

    def study(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """One step of the critic; its figures as scalars, see :meth:`Learner.step`."""
        return self.learner.step(real=self.fits(target), fake=self.fits(pred))

    def fits(self, image: Tensor) -> Tensor:
        """The pictures, if the critic can look at them."""
        critic = self.learner.critic
        if image.ndim != 4 or image.shape[1] != critic.channels:
            raise ValueError(
                f"{self!r} wants pictures (N, {critic.channels}, H, W); got {tuple(image.shape)}. "
                "Give channels=..., or take the lens away."
            )
        height, width = image.shape[-2:]
        if min(height, width) < critic.smallest:
            raise ValueError(f"{self!r} wants pictures of at least {critic.smallest} px a side; got {height}x{width}.")
        return image

    def __repr__(self) -> str:
        options = {name: list(value) if name == "betas" else value for name, value in self.options.items()}
        return spelled(self, *self.places, **options)


@final
class Adversarial(_Judged):
    r"""How unreal a critic finds the prediction, where the critic learns from each step's pictures.

    With :math:`C` the critic's verdict (a logit), means over its map for each image, :math:`x` the prediction and
    :math:`y` the target, the network lowers the first and the critic the second of

    ============== ================================================= ==================================================
    vanilla        :math:`-\log \sigma(C(x))`                        :math:`-\log \sigma(C(y)) - \log(1 - \sigma(C(x)))`
    lsgan          :math:`\frac12 (C(x) - 1)^2`                      :math:`\frac12 (C(y) - 1)^2 + \frac12 C(x)^2`
    hinge          :math:`-C(x)`                                     :math:`[1 - C(y)]_+ + [1 + C(x)]_+`
    wasserstein    :math:`-C(x)`                                     :math:`C(x) - C(y)`
    relativistic   :math:`-\log \sigma(C(x) - \bar C(y))`            the same with x and y exchanged
                   :math:`- \log(1 - \sigma(C(y) - \bar C(x)))`
    ============== ================================================= ==================================================

    .. math:: \bar C = \text{the mean verdict on the batch} \qquad
        \text{r1, r2: } \tfrac{\gamma}{2 P} \lVert \nabla \textstyle\sum_p C_p \rVert^2 \text{ at } y, x \qquad
        \text{gp: } \gamma \big( P^{-1/2} \lVert \nabla \textstyle\sum_p C_p \rVert - 1 \big)^2 \text{ between them}

    Vanilla is the non-saturating form; relativistic is the average one, as in ESRGAN, over the batches of all processes
    that train together. BasicSR's lsgan is twice ours, its relativistic half. The penalties are
    those of their papers for a critic of one verdict; divided by the number P of verdicts in its map they do not grow
    with the resolution, as BasicSR's do. Wasserstein wants a penalty where its paper clips the critic's weights.

    With a mask, ``.on(pred="filled", mask="mask")``, what it covers was made and the rest is real: the mean is over
    what was made, and the critic learns which is which (SM-PatchGAN, without its blur of the mask). A verdict whose
    place is covered in part counts as both, in these parts. Verdicts that are compared take no mask.

    Evaluating never changes the critic: :meth:`learn` does, once a step, with an Adam of its own in float32 (the
    `Training` of this package calls it, and says when a critic has collapsed). While the term's weight is 0, as in
    ``OnFrom(1000) * Adversarial()``, it neither learns nor looks; ``since=500`` has it learn ahead. Its state is the
    loss's `state_dict`; its text names the seed that it began with.

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
        critic: "unet", Real-ESRGAN's with a verdict on each pixel, for pictures of at least 8 px a side; or "patch",
            pix2pix's with verdicts on 70 x 70 px, for pictures of at least 24.
        kind: "vanilla", "lsgan", "hinge", "wasserstein" or "relativistic".
        penalty: "r1" at the target, "r2" at the prediction, "gp" between them, or None.
        gamma: The penalty's weight; 10 in both papers.
        every: The penalty is taken each so many steps and counts as often (StyleGAN2 takes 16).
        spectral: Whether the critic's layers have spectral norm 1.
        width: Channels of the critic's first layer; 64 in the papers.
        channels: Channels of a picture.
        lr: The learning rate of the critic's Adam.
        betas: The decays of the critic's Adam; (0, 0.9) is usual with gp.
        seed: Of the critic's first weights and of where gp looks.
        since: The step of the training from which the critic learns even while the term's weight is 0; None for never.

    Raises:
        ValueError: A bad argument; or at the call pictures that the critic cannot look at, or a mask where verdicts are
            compared.

    Example:
        >>> loss = Adversarial("patch", "hinge", width=4)
        >>> x, y = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
        >>> loss.evaluate({"pred": x, "target": y})["Adversarial"].shape
        torch.Size([2])
        >>> sorted(loss.study(x, y))
        ['critic', 'fake', 'real', 'spread']
    """

    @property
    def mixes(self) -> bool:  # type: ignore[override]
        """Whether it compares a picture's verdict with those on the others of the batch."""
        return self.kind == "relativistic"

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        """Verdicts themselves have no bound."""
        return (-float("inf") if self.kind in ("hinge", "wasserstein") else 0.0, float("inf"))

    def study(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """One step of the critic; its figures as scalars, see :meth:`Learner.step`."""
        return self.learner.step(real=self.fits(target), fake=self.fits(pred), mask=self.masked(mask))

    def measure(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The network's part for each image, (N,)."""
        fake, mask = self.learner.critic(self.fits(pred)), self.masked(mask)
        if self.kind == "relativistic":
            real = self.learner.critic(target)
            both = fake.requires_grad  # not so where one process alone judges, without a training
            middle = typical(real, training=both), typical(fake, training=both)
            values = F.softplus(middle[0] - fake) + F.softplus(real - middle[1])
        elif self.kind == "hinge":
            values = -fake  # and not the critic's own value, which is flat where it is sure
        else:
            values = against(self.kind, fake, real=True)
        values = values if mask is None else values * area(mask, values, mean=True)
        return values.flatten(1).mean(dim=1)

    def masked(self, mask: Tensor | None) -> Tensor | None:
        """The mask, if there is none or the kind takes one."""
        if mask is not None and self.kind == "relativistic":
            raise ValueError(f"{self!r} compares verdicts with each other, and takes no mask; take another kind.")
        return mask


@final
class FeatureMatching(_Judged):
    r"""How differently a critic's layers see the prediction and the target, where the critic learns.

    .. math:: \sum_l \frac{1}{C_l H_l W_l} \lVert D_l(x) - D_l(y) \rVert_1

    over all layers of the critic but its verdicts. The critic learns as that of an :class:`Adversarial` with the same
    arguments: beside one on the same views it is the same critic at every step, to the bit on a CPU. In Python
    :meth:`of` shares one instead, which saves its step and changes no value.

    References:
        | High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs (Wang et al., 2018)
        | https://arxiv.org/abs/1711.11585

    Args:
        critic: "unet" or "patch".
        kind: How the critic learns, see :class:`Adversarial`, as all that follows.
        penalty: "r1", "r2", "gp" or None.
        gamma: The penalty's weight.
        every: The penalty is taken each so many steps and counts as often.
        spectral: Whether the critic's layers have spectral norm 1.
        width: Channels of the critic's first layer; 64 in the papers.
        channels: Channels of a picture.
        lr: The learning rate of the critic's Adam.
        betas: The decays of the critic's Adam.
        seed: Of the critic's first weights and of where gp looks.
        since: The step from which the critic learns even while the term's weight is 0.

    Raises:
        ValueError: A bad argument; or at the call pictures that the critic cannot look at.

    Example:
        >>> critic = Adversarial("patch", "lsgan", width=4)
        >>> critic + 10 * FeatureMatching.of(critic)
        Adversarial("patch", "lsgan", width=4) + 10.0 * FeatureMatching("patch", "lsgan", width=4)
    """

    source = "matching"
    shares = False

    @classmethod
    def of(cls, adversarial: Adversarial) -> Self:
        """The loss on the critic of another term, which alone trains it."""
        loss = cls(*adversarial.places, **adversarial.options)
        loss.learner, loss.shares = adversarial.learner, True
        return loss

    def study(self, pred: Tensor, target: Tensor) -> dict[str, Tensor]:
        """One step of the critic if it is its own; its figures as scalars, see :meth:`Learner.step`."""
        return {} if self.shares else super().study(pred, target)

    def measure(self, pred: Tensor, target: Tensor) -> Tensor:
        """The distance for each image, (N,)."""
        critic = self.learner.critic
        pairs = zip(critic.maps(self.fits(pred))[:-1], critic.maps(target)[:-1], strict=True)
        return torch.stack([(x - y).abs().flatten(1).mean(dim=1) for x, y in pairs]).sum(dim=0)
