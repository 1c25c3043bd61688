"""An evaluation example."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["MIN_SIZE", "Example"]

MIN_SIZE = 48
"""Smallest side in pixels of an evaluation image; smaller ones do not fill the windows of the metrics."""


class Example(NamedTuple):
    """An image to evaluate on: its name and a batch of one."""

    name: str
    batch: dict[str, Tensor]
