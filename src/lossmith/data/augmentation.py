"""Flips and rotations of training crops."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["draw_flip_and_rotation", "flip_and_rotate"]


def draw_flip_and_rotation(rng: np.random.Generator) -> tuple[bool, int]:
    """Draw one of the eight symmetries of the square: whether to flip, and the number of quarter turns."""
    return bool(rng.integers(2)), int(rng.integers(4))


def flip_and_rotate(image: Tensor, is_flipped: bool, quarter_turns: int) -> Tensor:
    """Return an image (C, H, W), flipped horizontally if requested and then rotated by quarter turns."""
    if image.dtype == torch.uint16:  # of which torch copies the signed kind in a quarter of the time
        return flip_and_rotate(image.view(torch.int16), is_flipped, quarter_turns).view(torch.uint16)
    return (image.flip(-1) if is_flipped else image).rot90(quarter_turns, (-2, -1)).contiguous()
