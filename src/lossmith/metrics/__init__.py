"""What judges a run: figures of single pictures, each with its protocol."""

from lossmith.metrics.pixel import psnr, ssim, texture
from lossmith.metrics.score import METRICS, Metric, missing, protocol, score

__all__ = ["METRICS", "Metric", "missing", "protocol", "psnr", "score", "ssim", "texture"]
