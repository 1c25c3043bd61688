"""How much of each term, kept through training: maps from what was asked for to the weights in use."""

from lossmith.balance.base import Balance, Fixed
from lossmith.balance.share import Share

__all__ = ["Balance", "Fixed", "Share"]
