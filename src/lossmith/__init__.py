"""Losses for image networks, written as one formula."""

__version__ = "0.1.0"
