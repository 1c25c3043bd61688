"""What distributions of pictures are compared by: the embedded network's features, which come with lossmith."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.image import check_images
from lossmith.lenses import Embedded

__all__ = ["compute_image_features"]

LAYERS = ("relu3_2", "relu4_2", "relu5_2")
LEAST = 64
"""Smaller pictures are enlarged to this side: the deepest layer sees little of less."""
AT_ONCE = 32


@torch.no_grad()
def compute_image_features(pictures: Tensor) -> tuple[Tensor, str]:
    """A vector of 352 numbers for each picture, and the hash of the network that gives them, to be kept with figures.

    They are the means over places of the last three stages of :class:`lossmith.lenses.Embedded`; it is frozen with the
    package, so that figures of one hash can be compared. It never was a classifier: its figures are no Inception's.
    A loss that looks through Embedded must not be judged by them.

    Args:
        pictures: (N, 3, H, W) in [0, 1], of one size.

    Returns:
        (N, 352) and the SHA-256.
    """
    check_images("pictures", pictures)
    lens = Embedded(list(LAYERS))
    rows = []
    for some in torch.split(pictures.float().clamp(0, 1), AT_ONCE):
        if min(some.shape[2:]) < LEAST:
            scale = LEAST / min(some.shape[2:])
            some = F.interpolate(some, scale_factor=scale, mode="bicubic", antialias=True).clamp(0, 1)
        maps = lens.backbone(some, frozenset(LAYERS))
        rows.append(torch.cat([maps[layer].mean(dim=(2, 3)) for layer in LAYERS], dim=1).cpu())
    return torch.cat(rows), lens.backbone.sha256
