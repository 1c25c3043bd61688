"""Metrics of restored images with their protocols, and image features for metrics of generated images.

The functions compute one value per image, ``(pred, target) -> (N,)``; :data:`METRICS` names them for the command line,
with their direction, unit and needs.
"""

from lossmith.metrics.features import compute_image_features
from lossmith.metrics.image_metrics import ms_ssim, psnr, ssim, texture_ratio
from lossmith.metrics.metric_info import MetricInfo
from lossmith.metrics.network_metrics import dists, lpips
from lossmith.metrics.protocol import (
    compute_metrics,
    describe_protocol,
    find_missing_metrics,
    find_shared_backbones,
)
from lossmith.metrics.registry import DEFAULT_METRICS, METRICS, Metric, parse_metrics
from lossmith.metrics.sliced_wasserstein import swd

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "Metric",
    "MetricInfo",
    "compute_image_features",
    "compute_metrics",
    "describe_protocol",
    "dists",
    "find_missing_metrics",
    "find_shared_backbones",
    "lpips",
    "ms_ssim",
    "parse_metrics",
    "psnr",
    "ssim",
    "swd",
    "texture_ratio",
]
