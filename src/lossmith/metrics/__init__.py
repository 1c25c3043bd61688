"""What judges a run: figures of single pictures, each with its protocol, and of sets of pictures made from captions."""

from lossmith.metrics.features import picture_features
from lossmith.metrics.image_metrics import psnr, ssim, texture
from lossmith.metrics.patches import swd
from lossmith.metrics.registry import (
    METRICS,
    Metric,
    missing,
    protocol,
    score,
    sharing,
)

__all__ = [
    "METRICS",
    "Metric",
    "missing",
    "picture_features",
    "protocol",
    "psnr",
    "score",
    "sharing",
    "ssim",
    "swd",
    "texture",
]
