"""Contrastive losses between the images of a batch."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, final

from torch import Tensor

from lossmith._checks import check_bool, check_choice
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.formula.example_input import ExampleInput
from lossmith.losses._info_nce import info_nce
from lossmith.losses._similarity import Temperature

__all__ = ["CLIPLoss", "InfoNCE"]

Directions = Literal["both", "pred", "target"]
Modalities = Literal["both", "image", "text"]

_EXAMPLE_INPUTS = {
    "negatives": ExampleInput("normal", (16,), requires_grad=None, is_batched=False),
    "groups": ExampleInput("uniform", (), requires_grad=False),
}


@final
class InfoNCE(Distance):
    r"""InfoNCE: each prediction is to be closer to its own target than to the targets of the other images.

    .. math:: -\log \frac{e^{s(x_i, y_i) / \tau}}{\sum_j e^{s(x_i, y_j) / \tau}}, \qquad
        s(x, y) = \frac{x \cdot y}{\lVert x \rVert \lVert y \rVert}

    on vectors; feature maps are flattened. Only the prediction receives a gradient, as beside a frozen or slowly moving
    encoder; :class:`CLIPLoss` trains both sides. An image without negatives has the value 0.

    Two optional inputs are read if ``.on()`` names them: ``negatives``, (K, D) for the batch or (N, K, D) for each
    image, are added to the targets; ``groups``, (N,), are numbers: images of one group are not negatives of each other,
    for example images with equal captions.

    References:
        | Representation Learning with Contrastive Predictive Coding (van den Oord et al., 2018)
        | https://arxiv.org/abs/1807.03748
        | Decoupled Contrastive Learning (Yeh et al., 2022), for ``include_positive=False``
        | https://arxiv.org/abs/2110.06848

    Args:
        temperature: The temperature of the softmax, in units of the cosine; its initial value if it is learnable.
        learnable: Whether the temperature is a parameter of the loss, at least 0.01; pass ``loss.parameters()`` to the
            optimizer too.
        directions: "pred" to compare each prediction with all targets, "target" to compare each target with all
            predictions, or "both" for the mean. Extra negatives are added to the targets.
        include_positive: Whether the own target is part of the denominator; if not, values may be negative.
        gather: Whether the batches of all processes, which must have one size, form one batch.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the shapes do not match.

    Example:
        >>> import torch
        >>> x, y = torch.eye(2), torch.eye(2)
        >>> InfoNCE(temperature=1.0)(x, y)  # log(1 + 1/e)
        tensor(0.3133)
        >>> InfoNCE(temperature=1.0).on(groups="captions")(x, y, captions=torch.tensor([7, 7]))
        tensor(0.)
    """

    citation_keys = ("oord2018",)
    value_range = (-math.inf, math.inf)
    unlensed_inputs = frozenset({"groups"})
    is_batch_dependent = True
    reads_images = False
    default_gate_logsnr = 1.0
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = _EXAMPLE_INPUTS

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        learnable: bool = False,
        directions: Directions = "both",
        include_positive: bool = True,
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = Temperature("InfoNCE", temperature, learnable)
        self.directions = check_choice("InfoNCE directions", directions, Directions)
        self.include_positive = check_bool("InfoNCE include_positive", include_positive)
        self.gather = check_bool("InfoNCE gather", gather)

    def measure(
        self, pred: Tensor, target: Tensor, negatives: Tensor | None = None, groups: Tensor | None = None
    ) -> Tensor:
        """Compute the loss of each image, (N,)."""
        if negatives is not None and self.directions == "target":
            raise ValueError(
                f'{self!r} does not use negatives, which are added to the targets; set directions="both" or "pred".'
            )
        return info_nce(
            self,
            pred,
            target,
            negatives,
            groups,
            scale=self.temperature(),
            directions=(self.directions != "target", self.directions != "pred"),
            gather=self.gather,
            include_positive=self.include_positive,
        )

    def __repr__(self) -> str:
        return repr_of(
            self,
            *self.temperature.repr_arguments(0.1),
            learnable=self.temperature.learnable or None,
            directions=None if self.directions == "both" else self.directions,
            include_positive=None if self.include_positive else False,
            gather=self.gather or None,
        )


@final
class CLIPLoss(Distance):
    r"""CLIP's loss: each image embedding is to be closer to its own text than to other texts, and vice versa.

    .. math:: -\frac{1}{2} \log \frac{e^{s(u_i, w_i) / \tau}}{\sum_j e^{s(u_i, w_j) / \tau}}
        - \frac{1}{2} \log \frac{e^{s(u_i, w_i) / \tau}}{\sum_j e^{s(u_j, w_i) / \tau}}

    This is :class:`InfoNCE` for two encoders that are trained together: both inputs, ``image`` :math:`u` and ``text``
    :math:`w`, (N, D), receive a gradient. The optional inputs ``negatives`` (more texts) and ``groups`` are as there.

    References:
        | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
        | https://arxiv.org/abs/2103.00020

    Args:
        temperature: The initial temperature, in units of the cosine.
        learnable: Whether the temperature is a parameter of the loss, at least 0.01; pass ``loss.parameters()`` to the
            optimizer too.
        directions: "image" to compare each image with all texts, "text" to compare each text with all images, or "both"
            for the mean.
        gather: Whether the batches of all processes, which must have one size, form one batch.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the shapes do not match.

    Example:
        >>> import torch
        >>> loss = CLIPLoss(temperature=1.0)
        >>> loss(image=torch.eye(2), text=torch.eye(2))
        tensor(0.3133, grad_fn=...)
    """

    citation_keys = ("radford2021",)
    unlensed_inputs = frozenset({"groups"})
    is_batch_dependent = True
    reads_images = False
    default_gate_logsnr = 1.0
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = _EXAMPLE_INPUTS

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        learnable: bool = True,
        directions: Modalities = "both",
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = Temperature("CLIPLoss", temperature, learnable)
        self.directions = check_choice("CLIPLoss directions", directions, Modalities)
        self.gather = check_bool("CLIPLoss gather", gather)

    def measure(
        self, image: Tensor, text: Tensor, negatives: Tensor | None = None, groups: Tensor | None = None
    ) -> Tensor:
        """Compute the loss of each pair, (N,)."""
        if negatives is not None and self.directions == "text":
            raise ValueError(
                f'{self!r} does not use negatives, which are added to the texts; set directions="both" or "image".'
            )
        return info_nce(
            self,
            image,
            text,
            negatives,
            groups,
            scale=self.temperature(),
            directions=(self.directions != "text", self.directions != "image"),
            gather=self.gather,
        )

    def __repr__(self) -> str:
        return repr_of(
            self,
            *self.temperature.repr_arguments(0.07),
            learnable=None if self.temperature.learnable else False,
            directions=None if self.directions == "both" else self.directions,
            gather=self.gather or None,
        )
