"""What judges a run: figures of single pictures, each with its protocol, and of sets of pictures made from captions."""

from lossmith.metrics.features import compute_image_features
from lossmith.metrics.image_metrics import psnr, ssim, texture_ratio
from lossmith.metrics.sliced_wasserstein import swd
from lossmith.metrics.registry import (
    DEFAULT_METRICS,
    MetricName,
    find_missing_metrics,
    describe_protocol,
    compute_metrics,
    find_shared_backbones,
)

__all__ = [
    "DEFAULT_METRICS",
    "MetricName",
    "find_missing_metrics",
    "compute_image_features",
    "describe_protocol",
    "psnr",
    "compute_metrics",
    "find_shared_backbones",
    "ssim",
    "swd",
    "texture_ratio",
]
