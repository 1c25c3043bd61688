"""A warning for images that are not in [0, 1], at the first call of a loss."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import torch
from torch import Tensor

from lossmith.engine.second_derivatives import is_transformed
from lossmith.formula.snr_gate import LOGSNR
from lossmith.formula.term import Term
from lossmith.image import OVERSHOOT

__all__ = ["warn_of_value_range"]

MAX_CHECKS = 100
"""Number of checks in a process, so that a loop that builds its loss anew does not wait for the device in each step."""
MIN_VALUES = 768
"""Number of values below which normal noise can look like an image; a batch of one 16x16 RGB image."""

_checks = count()


def warn_of_value_range(terms: Sequence[Term], inputs: Mapping[str, Tensor]) -> None:
    """Warn at the first call of a loss if an image looks like 0..255, 0..65535, [-1, 1] or normalised values.

    The values of a prediction or of an input that requires a gradient are not judged, since networks overshoot, nor
    those of a diffusion step. The first call waits for the device once. Nothing is read under torch.compile, the
    transforms of `torch.func`, tracing, and the capture of a CUDA graph; the next call is then the first.

    Args:
        terms: The terms.
        inputs: The inputs by name.
    """
    if torch.compiler.is_compiling() or getattr(terms[0].distance, "has_checked_range", False):
        return
    if is_transformed() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return
    if any(each.is_cuda for each in inputs.values()) and torch.cuda.is_current_stream_capturing():
        return
    terms[0].distance.__dict__["has_checked_range"] = True  # of the distance, since sums are built anew
    if LOGSNR in inputs or next(_checks) >= MAX_CHECKS:
        return
    for name in _judged_inputs(terms, inputs):
        if found := _describe_values(inputs[name].detach()):
            warnings.warn(
                f"The input '{name}' has values {found} Losses and their weights are made for images in [0, 1]. This "
                "is checked at the first call of a loss only.",
                stacklevel=5,
            )
            return


def _judged_inputs(terms: Sequence[Term], inputs: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield the names of the images that no network has made, as far as can be told without reading values."""
    roles: dict[str, set[str]] = {}
    for term in terms:
        for parameter, name in term.inputs.items() if term.distance.reads_images else ():
            if parameter not in term.distance.unlensed_inputs:
                roles.setdefault(name, set()).add(parameter)
    for name, parameters in roles.items():
        image = inputs[name]
        is_output = image.requires_grad or ("pred" in parameters and len(roles) > 1)
        has_values = type(image) is Tensor and not image.is_meta and image.numel() >= MIN_VALUES
        if has_values and not is_output and image.dim() == 4 and image.shape[1] in (1, 3):  # latents have more
            yield name


def _describe_values(image: Tensor) -> str | None:
    """Return range and cure of values that look like those of an image in another range; None for other values.

    Of 1,000 random 64x64 crops of photographs, 100 % in 0..255, 96 % in [-1, 1], 76 % of normalised ones and none in
    [0, 1] are recognised. Radiance (HDR), depths in metres and noise are not: most of their values are small, and they
    are no integers, or their extremes are larger.
    """
    values = image.float()
    is_integer, large = (values == values.round()).all().float(), (values > 8).float().mean()
    low, high, integer, large_fraction = torch.stack([values.min(), values.max(), is_integer, large]).tolist()
    cure = None
    if integer and low >= 0 and 32 < high <= 65535 and large_fraction > 0.1:
        cure = "Divide by 255." if high <= 255 else "If they are images of 16 bits, divide by 65535."
    elif low >= -45 and 32 < high <= 300 and large_fraction > 0.5 and image.shape[1] == 3:  # resampled, with overshoot
        cure = "Divide by 255."
    elif -1 - OVERSHOOT <= low < -OVERSHOOT and high <= 1 + OVERSHOOT:
        cure = "If they are images in [-1, 1], use (x + 1) / 2."
    elif -2.2 <= low < -1 - OVERSHOOT and 1 < high <= 2.7 and image.shape[1] == 3:  # mean and deviation of ImageNet
        cure = "If they are normalised images, undo the normalisation; networks of a formula normalise themselves."
    return f"from {low:.3g} to {high:.3g}. {cure}" if cure else None
