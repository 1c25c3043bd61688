"""What an image batch is: float (N, 3, H, W), RGB, in [0, 1]; made and looked at once, at the edges."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

__all__ = ["area", "eight_bit", "from_pil", "inspect", "luma", "pixels", "scaled", "to_pil"]

OVERSHOOT = 0.25
"""How far beyond [0, 1] a value may lie: networks and interpolation overshoot a little."""


def pixels(image: Image.Image) -> Tensor:
    """The values of a picture as they are stored, upright, as RGB.

    Grey is repeated, a palette looked up, CMYK converted; a transparent picture is laid on white, as a browser shows
    it, since what lies under full transparency is arbitrary. The EXIF orientation is applied. Grey with 16 bits
    keeps them; colour with 16 bits arrives from Pillow with its upper 8.

    Returns:
        (3, H, W), uint8 or uint16.

    Raises:
        ValueError: Floating-point values outside [0, 1], or whole ones beyond 16 bits.
        OSError: The file behind the picture cannot be decoded.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        return _deep(upright)
    if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        ground = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(ground, upright.convert("RGBA"))
    values = np.array(upright.convert("RGB"))  # a copy: Pillow's own memory is read-only
    return torch.from_numpy(values).permute(2, 0, 1).contiguous()


def _deep(image: Image.Image) -> Tensor:
    values = np.array(image)
    low, high, top = float(values.min()), float(values.max()), 1.0 if image.mode == "F" else 65535.0
    if not (low >= 0 and high <= top):  # also when they are no numbers
        raise ValueError(
            f"A grey picture of mode {image.mode} wants values from 0 to {top:g}; it has {low:g} to {high:g}. "
            "Scale it, or save it with 8 or 16 bits."
        )
    if image.mode == "F":
        values = np.rint(values * 65535.0)
    return torch.from_numpy(values.astype(np.uint16)).expand(3, -1, -1).contiguous()


def scaled(values: Tensor) -> Tensor:
    """Stored values, uint8 or uint16, as floats in [0, 1]: each by its own largest value."""
    return values.float() / (65535 if values.dtype == torch.uint16 else 255)


def from_pil(image: Image.Image) -> Tensor:
    """A picture as (3, H, W) in [0, 1]; see :func:`pixels` for grey, palette, transparent and 16-bit pictures.

    Example:
        >>> from_pil(Image.new("L", (4, 2), 51)).shape, from_pil(Image.new("L", (4, 2), 51)).max()
        (torch.Size([3, 2, 4]), tensor(0.2000))
    """
    return scaled(pixels(image))


def eight_bit(image: Tensor) -> Tensor:
    """The nearest of the 256 values that a file can hold, half upwards as MATLAB rounds; still in [0, 1]."""
    # the nudge: a sum that should end in .5 may end a hair below it
    return torch.floor(image.clamp(0, 1) * 255 + (0.5 + 1e-6)) / 255


def to_pil(image: Tensor) -> Image.Image:
    """A picture (3, H, W), clipped to [0, 1], as 8 bits a channel.

    Raises:
        ValueError: Another shape.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"to_pil wants one picture (3, H, W); got {tuple(image.shape)}. Take image[0] of a batch.")
    values = (eight_bit(image.detach().float()) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().cpu().numpy())


def luma(image: Tensor) -> Tensor:
    r"""The brightness Y' of BT.601 in studio range, as MATLAB's rgb2ycbcr: what super-resolution papers measure on.

    .. math:: Y = (16 + 65.481 R + 128.553 G + 24.966 B) / 255

    Args:
        image: (..., 3, H, W) in [0, 1].

    Returns:
        (..., 1, H, W) in [16/255, 235/255].

    Example:
        >>> (luma(torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)) * 255).round()
        tensor([[[[ 16., 235.]]]])
    """
    weights = image.new_tensor([65.481, 128.553, 24.966]).view(3, 1, 1) / 255
    return (image * weights).sum(dim=-3, keepdim=True) + 16 / 255


def area(mask: Tensor, features: Tensor, *, mean: bool = False) -> Tensor:
    """How much of each place of some features (N, C, H, W) a mask covers, (N, 1, H, W).

    Args:
        mask: (N, 1, H', W'), in [0, 1] or of truth values.
        features: What it masks, as large or smaller.
        mean: Whether to divide by the covered part of the whole, so that the mean is 1; an empty mask stays empty.
    """
    if mask.dim() != 4 or mask.shape[1] != 1 or len(mask) != len(features) or features.dim() != 4:
        raise ValueError(
            f"A mask is (N, 1, H, W), one a picture; got {tuple(mask.shape)} for features {tuple(features.shape)}."
        )
    if any(small < large for small, large in zip(mask.shape[2:], features.shape[2:], strict=True)):
        raise ValueError(
            f"The mask is {tuple(mask.shape)} and what it masks {tuple(features.shape)}: give one as large."
        )
    covered = mask.to(features.dtype)
    if covered.shape[2:] != features.shape[2:]:
        covered = F.adaptive_avg_pool2d(covered, (features.shape[2], features.shape[3]))
    if not mean:
        return covered
    part = covered.mean(dim=(2, 3), keepdim=True)
    return covered / torch.where(part > 0, part, 1.0)


def inspect(name: str, images: Tensor, **like: Tensor) -> None:
    """Looks once at a batch of images, and says what is wrong with it and how to mend it.

    It waits for the device, so it belongs before the first step and not into every step. A little overshoot passes.

    Args:
        name: What the batch is called in the message.
        images: The batch.
        like: Another batch, by its name, that must have the same shape: ``inspect("pred", x, target=y)``.

    Raises:
        ValueError: It is no float tensor (N, 3, H, W), RGB, in [0, 1] and finite, or not of the other's shape.

    Example:
        >>> inspect("target", torch.rand(1, 3, 8, 8) * 255)
        Traceback (most recent call last):
        ...
        ValueError: target wants values in [0, 1]; it has ... Divide it by 255.
    """
    if not isinstance(images, Tensor):
        raise ValueError(
            f"{name} wants a tensor (N, 3, H, W); got a {type(images).__name__}. Convert it with from_pil."
        )
    shape = tuple(images.shape)
    if images.ndim != 4:
        cure = "Add the batch with image[None]." if images.ndim == 3 else "Give a batch of pictures."
        raise ValueError(f"{name} wants 4 dimensions, (N, 3, H, W); it has {shape}. {cure}")
    if images.shape[1] != 3:
        raise ValueError(f"{name} wants 3 channels, (N, 3, H, W); it has {shape}. {_channels(images)}")
    if not images.is_floating_point():
        cure = "Convert it with x.float() / 255." if images.dtype == torch.uint8 else "Convert it to floats in [0, 1]."
        raise ValueError(f"{name} wants floats in [0, 1]; it holds {str(images.dtype).removeprefix('torch.')}. {cure}")
    if images.numel() == 0:
        raise ValueError(f"{name} wants at least one pixel; it has {shape}.")
    _values(name, images)
    for other, tensor in like.items():
        if tensor.shape != images.shape:
            raise ValueError(
                f"{name} and {other} want the same shape; {name} has {shape}, {other} {tuple(tensor.shape)}. "
                "Look at the model's scale and at the crops."
            )


def _channels(images: Tensor) -> str:
    if images.shape[3] in (1, 3, 4):
        return "Its channels are last: turn it with x.permute(0, 3, 1, 2)."
    if images.shape[1] == 1:
        return "It is grey: repeat it with x.expand(-1, 3, -1, -1)."
    if images.shape[1] == 4:
        return "It has an alpha channel: lay it on a ground, or drop it with x[:, :3]."
    return "Give RGB."


def _values(name: str, images: Tensor) -> None:
    found = images.detach()
    bad = (~found.isfinite()).sum()
    clean = torch.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
    count, low, high = torch.stack([bad.double(), clean.min().double(), clean.max().double()]).tolist()
    if count:
        raise ValueError(
            f"{name} wants finite values; {count:.0f} of {images.numel()} are NaN or infinite. "
            "Look at the pictures, or at the network if it is a prediction."
        )
    if low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
        return
    kind: Literal["byte", "signed", "other"] = "other"
    if low >= -OVERSHOOT * 255 and high > 8:
        kind = "byte"
    elif low >= -1 - OVERSHOOT and high <= 1 + OVERSHOOT:
        kind = "signed"
    cure = {
        "byte": "Divide it by 255.",
        "signed": "It looks like [-1, 1]: take (x + 1) / 2.",
        "other": "Undo its normalisation; only a lens normalises.",
    }[kind]
    raise ValueError(f"{name} wants values in [0, 1]; it has {low:.3g} to {high:.3g}. {cure}")
