"""Decoding of captioned images with their transparency as mask."""

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from lossmith.data.formats.pillow import open_image
from lossmith.image import pil_to_tensor

__all__ = ["decode_with_mask"]


def decode_with_mask(data: bytes, side: int) -> Tensor:
    """Decode an image and resize it with antialiasing so that its shorter side is `side` pixels.

    Args:
        data: The content of an image file.
        side: The shorter side in pixels.

    Returns:
        (4, h, w), uint8: RGB on white, and as fourth channel the mask of the opaque part, zeros for an opaque image.

    Raises:
        ValueError: The image cannot be decoded, is too small or is fully transparent; the message is the reason.
    """
    with open_image(data) as image:
        return _resize(image, side)


def _resize(image: Image.Image, side: int) -> Tensor:
    if min(image.size) < side:
        raise ValueError(f"{image.width}x{image.height} px is too small; the minimum is {side}x{side} px")
    upright = ImageOps.exif_transpose(image)
    mask = Image.new("L", upright.size, 0)
    if "A" in upright.getbands() or "transparency" in upright.info:
        alpha = upright.convert("RGBA").getchannel("A")
        low, high = alpha.getextrema()
        if high == 0:
            raise ValueError("the image is fully transparent")
        mask = mask if low == 255 else alpha
    colours = pil_to_tensor(image)
    if colours.dtype == torch.uint16:
        colours = (colours.int() // 257).to(torch.uint8)
    rgb = Image.fromarray(colours.permute(1, 2, 0).contiguous().numpy())
    scale = side / min(upright.size)
    size = (max(round(upright.width * scale), side), max(round(upright.height * scale), side))
    channels = [np.asarray(each.resize(size, Image.Resampling.BICUBIC)) for each in (rgb, mask)]
    return torch.from_numpy(np.dstack(channels).copy()).permute(2, 0, 1).contiguous()
