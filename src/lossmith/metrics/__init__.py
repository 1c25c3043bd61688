"""Metrics of restored images with their protocols, and image features for metrics of generated images."""

from lossmith.metrics.features import compute_image_features
from lossmith.metrics.image_metrics import psnr, ssim, texture_ratio
from lossmith.metrics.registry import (
    DEFAULT_METRICS,
    MetricName,
    compute_metrics,
    describe_protocol,
    find_missing_metrics,
    find_shared_backbones,
)
from lossmith.metrics.sliced_wasserstein import swd

__all__ = [
    "DEFAULT_METRICS",
    "MetricName",
    "compute_image_features",
    "compute_metrics",
    "describe_protocol",
    "find_missing_metrics",
    "find_shared_backbones",
    "psnr",
    "ssim",
    "swd",
    "texture_ratio",
]
