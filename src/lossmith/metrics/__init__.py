"""What judges a run: figures of single pictures, each with its protocol, and of sets of pictures made from captions."""

from lossmith.metrics.alignment import Precision, mismatched, r_precision
from lossmith.metrics.caption_judge import CaptionJudge
from lossmith.metrics.features import picture_features
from lossmith.metrics.figures import psnr, ssim, texture
from lossmith.metrics.judge import METRICS, Metric, missing, protocol, score, sharing
from lossmith.metrics.kid import Distance, kid
from lossmith.metrics.oracle import oracle_accuracy, oracle_ceiling, oracle_chance
from lossmith.metrics.patches import swd
from lossmith.metrics.variety import diversity, memorisation, vendi

__all__ = [
    "METRICS",
    "CaptionJudge",
    "Distance",
    "Metric",
    "Precision",
    "diversity",
    "kid",
    "memorisation",
    "mismatched",
    "missing",
    "oracle_accuracy",
    "oracle_ceiling",
    "oracle_chance",
    "picture_features",
    "protocol",
    "psnr",
    "r_precision",
    "score",
    "sharing",
    "ssim",
    "swd",
    "texture",
    "vendi",
]
