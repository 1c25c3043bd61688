"""Losses of the library piq as terms of a formula."""

from collections.abc import Callable
from typing import final

from torch import Tensor

from lossmith.adapters.base import LibraryLoss

__all__ = ["Piq"]


@final
class Piq(LibraryLoss):
    """A loss of piq, computed by piq, with one value per image.

    Perceptual losses and losses of piq that need a network are those of lossmith: ``perceptual``, ``style``, ``lpips``
    and ``dists``, which share one pass of it.

    Args:
        name: "FSIMLoss", "SRSIMLoss", "GMSDLoss", "MultiScaleGMSDLoss", "VSILoss", "MDSILoss", "HaarPSILoss",
            "VIFLoss", "InformationWeightedSSIMLoss", "DSSLoss", "SSIMLoss" or "MultiScaleSSIMLoss".
        options: The options of the class in piq but ``reduction`` and ``data_range``.

    Raises:
        ValueError: An unknown name or option, or piq is not installed.

    Example:
        >>> from lossmith import parse
        >>> parse('L1 + 0.1*Piq("VIFLoss")')  # doctest: +SKIP
        L1() + 0.1 * Piq("VIFLoss")
    """

    library = "piq"
    functions = dict.fromkeys(
        (
            "FSIMLoss",
            "SRSIMLoss",
            "GMSDLoss",
            "MultiScaleGMSDLoss",
            "VSILoss",
            "MDSILoss",
            "HaarPSILoss",
            "VIFLoss",
            "InformationWeightedSSIMLoss",
            "DSSLoss",
            "SSIMLoss",
            "MultiScaleSSIMLoss",
        )
    )
    is_batched = True
    example_formula = 'Piq("VIFLoss")'

    def build(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return piq's module, without a reduction over the batch."""
        module: Callable[[Tensor, Tensor], Tensor] = self.load("piq")(reduction="none", **self.options)
        return module
