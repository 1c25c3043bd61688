r"""Transfer functions between values and what a network sees.

Each maps the position of a value in its range, :math:`u = (v - l) / (h - l)`, from [0, 1] to [0, 1]:

========== =================================================================== ====================================
transfer   encoded value                                                       suits
========== =================================================================== ====================================
"linear"   :math:`u`                                                           photographs, CT, reflectances
"srgb"     the transfer function of IEC 61966-2-1                              linear light of low dynamic range
"log"      :math:`\log(v / l) / \log(h / l)`, for :math:`l > 0`                radar, rain rates, HDR
"mu-law"   :math:`\log(1 + 5000 u) / \log 5001`                                HDR, as in the papers on HDR imaging
"pq"       the perceptual quantizer, :math:`u = 1` for 10,000 cd/m²            HDR in absolute luminance
========== =================================================================== ====================================

References:
    | Deep High Dynamic Range Imaging of Dynamic Scenes (Kalantari and Ramamoorthi, 2017), for the mu-law
    | High Dynamic Range Electro-Optical Transfer Function of Mastering Reference Displays (SMPTE ST 2084, 2014)
"""

import math
from typing import Literal

import torch
from torch import Tensor

from lossmith._checks import check_choice

__all__ = ["TransferName", "decode_transfer", "encode_transfer"]

TransferName = Literal["linear", "srgb", "log", "mu-law", "pq"]

MU = 5000.0
PQ_M1, PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
PQ_C1, PQ_C2, PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def encode_transfer(position: Tensor, transfer: TransferName, ratio: float = 1.0) -> Tensor:
    """Return what a network sees of values.

    Args:
        position: The positions of values in their range, in [0, 1].
        transfer: The transfer function.
        ratio: For "log", the upper end of the range divided by the lower one.

    Raises:
        ValueError: The transfer function is unknown.

    Example:
        >>> encode_transfer(torch.tensor([0.0, 0.5, 1.0]), "srgb")
        tensor([0.0000, 0.7354, 1.0000])
    """
    check_choice("transfer", transfer, TransferName)
    u = position
    if transfer == "srgb":
        return torch.where(u <= 0.0031308, 12.92 * u, 1.055 * u.clamp(min=0) ** (1 / 2.4) - 0.055)
    if transfer == "log":
        return torch.log1p(u * (ratio - 1)) / math.log(ratio)
    if transfer == "mu-law":
        return torch.log1p(MU * u) / math.log1p(MU)
    if transfer == "pq":
        power = u.clamp(min=0) ** PQ_M1
        return ((PQ_C1 + PQ_C2 * power) / (1 + PQ_C3 * power)) ** PQ_M2
    return u


def decode_transfer(encoded: Tensor, transfer: TransferName, ratio: float = 1.0) -> Tensor:
    """Return the positions of values in their range, the inverse of :func:`encode_transfer` on [0, 1].

    Args:
        encoded: What a network gives; values outside [0, 1] are continued.
        transfer: The transfer function.
        ratio: For "log", the upper end of the range divided by the lower one.

    Raises:
        ValueError: The transfer function is unknown.
    """
    check_choice("transfer", transfer, TransferName)
    x = encoded
    if transfer == "srgb":
        return torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0) + 0.055) / 1.055) ** 2.4)
    if transfer == "log":
        return torch.expm1(x * math.log(ratio)) / (ratio - 1)
    if transfer == "mu-law":
        return torch.expm1(x * math.log1p(MU)) / MU
    if transfer == "pq":
        power = x.clamp(min=0) ** (1 / PQ_M2)
        return ((power - PQ_C1).clamp(min=0) / (PQ_C2 - PQ_C3 * power)) ** (1 / PQ_M1)
    return x
