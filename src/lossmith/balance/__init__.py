"""Balancing of terms: calibration of the weights of a formula, once or at every step of a training.

A balancer is a function of numbers; it sees no loss and no image.
"""

from lossmith.balance.adaptive import Adaptive
from lossmith.balance.base import Balance, Fixed
from lossmith.balance.calibrate import calibrate
from lossmith.balance.calibration_report import CalibrationReport
from lossmith.balance.gradient_images import GradientImage, gradient_images
from lossmith.balance.gradnorm import GradNorm
from lossmith.balance.share import Share
from lossmith.balance.text import parse_balance
from lossmith.balance.torchjd import TorchJD
from lossmith.balance.uncertainty import Uncertainty

__all__ = [
    "Adaptive",
    "Balance",
    "CalibrationReport",
    "Fixed",
    "GradNorm",
    "GradientImage",
    "Share",
    "TorchJD",
    "Uncertainty",
    "calibrate",
    "gradient_images",
    "parse_balance",
]
