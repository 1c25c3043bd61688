"""Metrics of restored images with their protocols, and image features for metrics of generated images.

The functions compute one value per image, ``(pred, target) -> (N,)``; :data:`METRICS` names them for the command line,
with their direction, unit and needs.
"""

from lossmith.metrics.artefacts import colour_shift, grid_strength
from lossmith.metrics.features import compute_image_features
from lossmith.metrics.hdr import psnr_mu, psnr_pu, pu21_encode
from lossmith.metrics.image_metrics import ms_ssim, psnr, ssim, texture_ratio
from lossmith.metrics.metric_info import MetricInfo
from lossmith.metrics.network_metrics import dists, lpips
from lossmith.metrics.protocol import (
    compute_metrics,
    describe_protocol,
    find_missing_metrics,
    find_shared_backbones,
)
from lossmith.metrics.registry import (
    ARTEFACT_METRICS,
    DEFAULT_METRICS,
    METRICS,
    Metric,
    default_metrics,
    parse_metrics,
)
from lossmith.metrics.sliced_wasserstein import swd
from lossmith.metrics.spectral import ergas, sam

__all__ = [
    "ARTEFACT_METRICS",
    "DEFAULT_METRICS",
    "METRICS",
    "Metric",
    "MetricInfo",
    "colour_shift",
    "compute_image_features",
    "compute_metrics",
    "default_metrics",
    "describe_protocol",
    "dists",
    "ergas",
    "find_missing_metrics",
    "find_shared_backbones",
    "grid_strength",
    "lpips",
    "ms_ssim",
    "parse_metrics",
    "psnr",
    "psnr_mu",
    "psnr_pu",
    "pu21_encode",
    "sam",
    "ssim",
    "swd",
    "texture_ratio",
]
