"""Image batches, float (N, 3, H, W), RGB, in [0, 1]: conversion from and to PIL, checks, 8-bit rounding, masks."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

__all__ = [
    "check_images",
    "convert_stored",
    "from_pil",
    "pil_to_tensor",
    "quantize",
    "quantize_8bit",
    "resize_mask",
    "rgb_to_luma",
    "to_float",
    "to_pil",
]

STORED_DTYPES = (torch.uint8, torch.uint16)
"""The types of integers that image files store."""
OVERSHOOT = 0.25
"""The tolerated distance from [0, 1], since networks and interpolation overshoot a little."""
ROUNDING = 0.5 + 1e-6
"""Offset before a floor that rounds half up: a sum that is .5 in exact arithmetic can end slightly below."""


def pil_to_tensor(image: Image.Image) -> Tensor:
    """Return the stored values of a PIL image, upright, as RGB.

    Grey is repeated, palettes are resolved and CMYK is converted. A transparent image is composed on white, as browsers
    do, since colours under full transparency are arbitrary. The EXIF orientation is applied. 16-bit grey keeps its 16
    bits; of 16-bit colour Pillow keeps the upper 8.

    Returns:
        (3, H, W), uint8 or uint16; colours are interleaved in memory, as Pillow decodes them.

    Raises:
        ValueError: Floating-point values outside [0, 1], or integers of more than 16 bits.
        OSError: The image file cannot be decoded.
    """
    is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    upright = ImageOps.exif_transpose(image) if is_turned else image  # which would be copied
    if upright.mode.startswith("I") or upright.mode == "F":
        return _grey_to_uint16(upright)
    if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        background = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(background, upright.convert("RGBA"))
    values = np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))  # Pillow's memory is read-only
    return torch.from_numpy(values).permute(2, 0, 1)


def _grey_to_uint16(image: Image.Image) -> Tensor:
    values = np.array(image)
    low, high, top = float(values.min()), float(values.max()), 1.0 if image.mode == "F" else 65535.0
    if not (low >= 0 and high <= top):  # also true for NaN
        raise ValueError(
            f"A grey image of mode {image.mode} must have values from 0 to {top:g}; got {low:g} to {high:g}. Scale the "
            "image, or save it with 8 or 16 bits."
        )
    if image.mode == "F":
        values = np.rint(values * 65535.0)
    return torch.from_numpy(values.astype(np.uint16)).expand(3, -1, -1).contiguous()


def to_float(values: Tensor) -> Tensor:
    """Convert uint8 or uint16 values to floats in [0, 1], contiguous; floats are returned as they are."""
    if values.is_floating_point():
        return values
    floats = values.to(torch.float32, memory_format=torch.contiguous_format)
    top = 65535 if values.dtype == torch.uint16 else 255
    # on accelerators, division by a Python number is a multiplication by its rounded reciprocal
    return floats.div_(top if values.device.type == "cpu" else floats.new_full((), top))


def convert_stored(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the images of a batch that are stored as uint8 or uint16 to floats in [0, 1]; the rest is unchanged.

    Example:
        >>> convert_stored({"target": torch.tensor([0, 51, 255], dtype=torch.uint8)})
        {'target': tensor([0.0000, 0.2000, 1.0000])}
    """
    return {name: to_float(each) if each.dtype in STORED_DTYPES else each for name, each in batch.items()}


def from_pil(image: Image.Image) -> Tensor:
    """Convert a PIL image to (3, H, W) in [0, 1]; see :func:`pil_to_tensor` for the modes.

    Example:
        >>> from_pil(Image.new("L", (4, 2), 51)).shape, from_pil(Image.new("L", (4, 2), 51)).max()
        (torch.Size([3, 2, 4]), tensor(0.2000))
    """
    return to_float(pil_to_tensor(image))


def quantize_8bit(image: Tensor) -> Tensor:
    """Round an image to the nearest of 256 values in [0, 1], half up as MATLAB does."""
    return quantize(image, 255)


def quantize(image: Tensor, levels: int) -> Tensor:
    """Round an image to the nearest multiple of 1 / `levels` in [0, 1], half up as MATLAB does."""
    return (image * float(levels)).clamp_(0, levels).add_(ROUNDING).floor_().div_(levels)


def to_pil(image: Tensor) -> Image.Image:
    """Convert an image (3, H, W), clipped to [0, 1], to a PIL image of 8 bits per channel.

    Raises:
        ValueError: The shape is not (3, H, W).
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"to_pil needs one image (3, H, W); got {tuple(image.shape)}. Use batch[0] of a batch.")
    values = (quantize_8bit(image.detach().float()) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().cpu().numpy())


def rgb_to_luma(image: Tensor) -> Tensor:
    r"""Compute the luma Y' of BT.601 in studio range, as MATLAB's rgb2ycbcr; papers on super-resolution measure on Y'.

    .. math:: Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255

    Args:
        image: (..., 3, H, W) in [0, 1].

    Returns:
        (..., 1, H, W) in [16/255, 235/255].

    Example:
        >>> (rgb_to_luma(torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)) * 255).round()
        tensor([[[[ 16., 235.]]]])
    """
    red, green, blue = image.unbind(dim=-3)
    luma = (red * (65.481 / 255)).add_(green, alpha=128.553 / 255).add_(blue, alpha=24.966 / 255).add_(16 / 255)
    return luma.unsqueeze(-3)


def resize_mask(mask: Tensor, features: Tensor, *, mean: bool = False) -> Tensor:
    """Compute the fraction of each position of features that a mask covers, (N, 1, H, W).

    Args:
        mask: (N, 1, H', W'), in [0, 1] or boolean.
        features: The masked features, (N, C, H, W), at most as large as the mask.
        mean: Whether to divide by the covered fraction of the whole map, so that the mean is 1; an empty mask stays 0.

    Raises:
        ValueError: The mask has another shape, or is smaller than the features.
    """
    if mask.dim() != 4 or mask.shape[1] != 1 or len(mask) != len(features) or features.dim() != 4:
        raise ValueError(
            f"A mask must be (N, 1, H, W) with one mask per image; got {tuple(mask.shape)} for features "
            f"{tuple(features.shape)}."
        )
    if any(small < large for small, large in zip(mask.shape[2:], features.shape[2:], strict=True)):
        raise ValueError(
            f"A mask must be at least as large as the masked features; got {tuple(mask.shape)} for "
            f"{tuple(features.shape)}."
        )
    covered = mask.to(features.dtype)
    if covered.shape[2:] != features.shape[2:]:
        covered = F.adaptive_avg_pool2d(covered, (features.shape[2], features.shape[3]))
    if not mean:
        return covered
    fraction = covered.mean(dim=(2, 3), keepdim=True)
    return covered / torch.where(fraction > 0, fraction, 1.0)


def check_images(name: str, images: Tensor, *, channels: int | None = 3, **like: Tensor) -> None:
    """Raise ValueError, with the cure, if a tensor is not an image batch.

    The check waits for the device: call it before the first step, not in every step. Values up to 0.25 outside [0, 1]
    are accepted.

    Args:
        name: The name of the batch for the message.
        images: The batch.
        channels: The number of channels; None for any.
        like: Other batches by name that must have the same shape: ``check_images("pred", x, target=y)``.

    Raises:
        ValueError: The batch is not a finite float tensor (N, C, H, W) in [0, 1], or shapes differ.

    Example:
        >>> check_images("target", torch.rand(1, 3, 8, 8) * 255)
        Traceback (most recent call last):
        ...
        ValueError: target must be in [0, 1]; got values from ... Divide by 255.
    """
    if not isinstance(images, Tensor):
        raise ValueError(
            f"{name} must be a tensor (N, 3, H, W); got a {type(images).__name__}. Convert it with from_pil."
        )
    shape = tuple(images.shape)
    if images.ndim != 4:
        cure = "Add the batch dimension with image[None]." if images.ndim == 3 else "Pass a batch of images."
        raise ValueError(f"{name} must have 4 dimensions, (N, 3, H, W); got {shape}. {cure}")
    if channels is not None and images.shape[1] != channels:
        cure = _channel_cure(images) if channels == 3 else "Check the network and the images."
        raise ValueError(f"{name} must have {channels} channels, (N, {channels}, H, W); got {shape}. {cure}")
    if not images.is_floating_point():
        cure = "Convert it with x.float() / 255." if images.dtype == torch.uint8 else "Convert it to floats in [0, 1]."
        raise ValueError(
            f"{name} must be floating point in [0, 1]; got {str(images.dtype).removeprefix('torch.')}. {cure}"
        )
    if images.numel() == 0:
        raise ValueError(f"{name} must have at least one pixel; got {shape}.")
    _check_values(name, images)
    for other, tensor in like.items():
        if tensor.shape != images.shape:
            raise ValueError(
                f"{name} and {other} must have the same shape; got {shape} and {tuple(tensor.shape)}. Check the "
                "model's scale and the crops."
            )


def _channel_cure(images: Tensor) -> str:
    if images.shape[3] in (1, 3, 4):
        return "The channels are last: use x.permute(0, 3, 1, 2)."
    if images.shape[1] == 1:
        return "The images are grey: repeat the channel with x.expand(-1, 3, -1, -1)."
    if images.shape[1] == 4:
        return "The images have an alpha channel: compose them on a background, or drop alpha with x[:, :3]."
    return "Pass RGB."


def _check_values(name: str, images: Tensor) -> None:
    values = images.detach()
    nonfinite = (~values.isfinite()).sum()
    finite = torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    is_integer = (finite == finite.round()).all()
    numbers = [nonfinite, is_integer, finite.min(), finite.max(), finite.mean()]
    count, integer, low, high, mean = torch.stack([each.double() for each in numbers]).tolist()
    if count:
        raise ValueError(
            f"{name} must be finite; {count:.0f} of {images.numel()} values are NaN or infinite. Check the images, or "
            "the network if it is a prediction; if NaN marks missing data, use mask_no_data."
        )
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        cure = _range_cure(low, high, mean, bool(integer))
        raise ValueError(f"{name} must be in [0, 1]; got values from {low:.3g} to {high:.3g}. {cure}")


def _range_cure(low: float, high: float, mean: float, is_integer: bool) -> str:
    """Return how to bring values to [0, 1], from what their distribution looks like."""
    is_positive = low >= 0 or (not is_integer and low >= -OVERSHOOT * high)  # resampling overshoots
    if is_positive and 8 < high <= 255 * (1 + OVERSHOOT) and (is_integer or mean > 8):
        return "Divide by 255."
    if is_positive and 255 < high <= 65535 * (1 + OVERSHOOT) and (is_integer or mean > 2048):
        return "Divide by the largest value that the data can have: 65535 for 16 bits, 4095 for 12 bits."
    if -1 - OVERSHOOT <= low < -2 * OVERSHOOT and high <= 1 + OVERSHOOT:
        return "The range looks like [-1, 1]: use (x + 1) / 2."
    if low >= -2 * OVERSHOOT and high <= 1 + 2 * OVERSHOOT:
        return "If the values overshoot, clip them with x.clamp(0, 1); if a network makes them, train it first."
    if low >= -OVERSHOOT:
        return "If the values are HDR or physical, divide by their largest value, or encode them, as by a mu-law."
    if is_integer:
        return "Map the range of the data to [0, 1]: (x - low) / (high - low)."
    return "Undo the normalisation; only lenses normalise."
