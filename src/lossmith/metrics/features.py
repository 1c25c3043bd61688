"""Image features for distances between sets of images, from the embedded network of lossmith."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.image import check_images
from lossmith.lenses import Embedded

__all__ = ["compute_image_features"]

LAYERS = ("relu3_2", "relu4_2", "relu5_2")
MIN_SIDE = 64
"""Side to which smaller images are upsampled, because the deepest layer resolves little of a smaller image."""
BATCH_SIZE = 32


@torch.no_grad()
def compute_image_features(images: Tensor) -> tuple[Tensor, str]:
    """Compute a feature vector of 352 numbers for each image.

    The features are the spatial means of three layers of :class:`lossmith.lenses.Embedded`. The network is part of the
    package, so that values with equal hashes are comparable. The network is no classifier, so the values are not
    comparable with those of Inception features. Do not evaluate a network with these features if its loss uses the
    embedded network.

    Args:
        images: (N, 3, H, W) in [0, 1], of one size.

    Returns:
        The features, (N, 352), and the SHA-256 of the network's weights, to be stored with the results.
    """
    check_images("images", images)
    lens = Embedded(list(LAYERS))
    rows = []
    for batch in torch.split(images.float().clamp(0, 1), BATCH_SIZE):
        if min(batch.shape[2:]) < MIN_SIDE:
            scale = MIN_SIDE / min(batch.shape[2:])
            batch = F.interpolate(batch, scale_factor=scale, mode="bicubic", antialias=True).clamp(0, 1)
        maps = lens.backbone(batch, frozenset(LAYERS))
        rows.append(torch.cat([maps[layer].mean(dim=(2, 3)) for layer in LAYERS], dim=1).cpu())
    return torch.cat(rows), lens.backbone.sha256
