"""How much of each term: what the weights in a formula come to, measured once, or kept through a training.

A balance is a map from numbers to numbers; it sees no loss and no picture.
"""

from lossmith.balance.adaptive import Adaptive
from lossmith.balance.base import Balance, Fixed
from lossmith.balance.calibrate import calibrate
from lossmith.balance.calibration_report import Card
from lossmith.balance.gradnorm import GradNorm
from lossmith.balance.share import Share
from lossmith.balance.text import parse
from lossmith.balance.torchjd import TorchJD
from lossmith.balance.uncertainty import Uncertainty

__all__ = ["Adaptive", "Balance", "Card", "Fixed", "GradNorm", "Share", "TorchJD", "Uncertainty", "calibrate", "parse"]
