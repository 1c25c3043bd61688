"""What judges a run: figures of single pictures, each with its protocol."""

from lossmith.metrics.figures import psnr, ssim, texture
from lossmith.metrics.judge import METRICS, Metric, missing, protocol, score

__all__ = ["METRICS", "Metric", "missing", "protocol", "psnr", "score", "ssim", "texture"]
