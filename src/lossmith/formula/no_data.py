"""Targets with pixels without data: NaN or a fill value, as of satellite images, depth maps and registered scans."""

from dataclasses import replace

import torch
from torch import Tensor

from lossmith.formula.loss import Hybrid, Loss
from lossmith.formula.term import Term

__all__ = ["mask_no_data", "mask_terms"]


def mask_no_data(target: Tensor, pred: Tensor | None = None, *, value: float | None = None) -> tuple[Tensor, Tensor]:
    """Return a target without missing pixels, and the mask of its valid pixels.

    A pixel is valid if all of its bands are. The missing pixels are filled with the prediction, so that they agree with
    it exactly: terms without a mask, and the surroundings of a missing pixel in a deep layer, then see no error there.
    Without a prediction they are filled with the mean of the valid pixels of their band. An image without valid pixels
    has the mask 0 everywhere, and each masked term is 0 for it.

    Args:
        target: The target (N, C, H, W); NaN marks missing values.
        pred: The prediction, of the same shape; it is used without its gradient.
        value: A number that marks missing values besides NaN, such as -9999; None for NaN alone.

    Returns:
        The filled target, (N, C, H, W), and the mask (N, 1, H, W), 1 where the target has data, else 0.

    Raises:
        ValueError: The target is not a floating-point batch of images, or the prediction has another shape.

    Example:
        >>> target = torch.tensor([0.2, float("nan"), 0.4]).view(1, 1, 1, 3)
        >>> filled, mask = mask_no_data(target, torch.full((1, 1, 1, 3), 0.5))
        >>> filled.flatten(), mask.flatten()
        (tensor([0.2000, 0.5000, 0.4000]), tensor([1., 0., 1.]))
        >>> from lossmith import parse
        >>> loss = mask_terms(parse("L1 + 0.1*FocalFrequency"))
        >>> loss
        L1().on(mask="mask") + 0.1 * FocalFrequency()
        >>> loss(torch.full((1, 1, 1, 3), 0.5), filled, mask=mask)
        tensor(0.2028)
    """
    if target.dim() != 4 or not target.is_floating_point():
        raise ValueError(
            f"mask_no_data needs a floating-point target (N, C, H, W); got {tuple(target.shape)}, {target.dtype}."
        )
    if pred is not None and pred.shape != target.shape:
        raise ValueError(
            f"mask_no_data needs a prediction of the target's shape, {tuple(target.shape)}; got {tuple(pred.shape)}."
        )
    missing = target.isnan() if value is None else target.isnan() | (target == value)
    missing = missing.any(dim=1, keepdim=True)
    if pred is None:
        count = (~missing).sum(dim=(2, 3), keepdim=True).clamp_min(1)
        fill = torch.where(missing, 0.0, target).sum(dim=(2, 3), keepdim=True) / count
    else:
        fill = pred.detach().to(target.dtype)
    return torch.where(missing, fill, target), (~missing).to(target.dtype)


def mask_terms(loss: Loss, mask: str = "mask") -> Hybrid:
    """Return the loss with a mask as an input of every term that takes one and has none.

    The other terms are left as they are: distances without positions, such as those of frequencies, and discriminators,
    whose mask means the region that a network has made. With the target of :func:`mask_no_data` they see no error in
    missing pixels, and count them as correct.

    Args:
        loss: The loss.
        mask: The name of the input.

    Example:
        >>> from lossmith import L1, perceptual
        >>> mask_terms(L1() + perceptual("vgg19", "conv3_4"), "valid")
        L1().on(mask="valid") + (L1() @ VGG("vgg19", "conv3_4")).on(mask="valid")
    """
    return Hybrid(term.on({"mask": mask}) if _takes_mask(term) else replace(term) for term in loss.terms)


def _takes_mask(term: Term) -> bool:
    is_free = "mask" in term.optional and "mask" not in term.inputs and term.distance.discriminator_step is None
    return is_free and all(stage.is_spatial for _, stage in term.path)
