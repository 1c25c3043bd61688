"""What judges a run: figures of single pictures, each with its protocol."""

from lossmith.metrics.figures import psnr, ssim, texture
from lossmith.metrics.judge import METRICS, Metric, missing, protocol, score, sharing
from lossmith.metrics.patches import swd

__all__ = ["METRICS", "Metric", "missing", "protocol", "psnr", "score", "sharing", "ssim", "swd", "texture"]
