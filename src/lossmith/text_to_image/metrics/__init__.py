"""Metrics of sets of images generated from captions."""

from lossmith.text_to_image.metrics.caption_judge import CaptionJudge
from lossmith.text_to_image.metrics.diversity import diversity, memorisation, vendi_score
from lossmith.text_to_image.metrics.kernel_distance import KernelDistance, kid
from lossmith.text_to_image.metrics.oracle_accuracy import oracle_accuracy, oracle_ceiling, oracle_chance
from lossmith.text_to_image.metrics.r_precision import RPrecision, r_precision, sample_mismatched_captions

__all__ = [
    "CaptionJudge",
    "KernelDistance",
    "RPrecision",
    "diversity",
    "kid",
    "memorisation",
    "oracle_accuracy",
    "oracle_ceiling",
    "oracle_chance",
    "r_precision",
    "sample_mismatched_captions",
    "vendi_score",
]
