"""Style transfer: by optimization of one image, and by a feed-forward network trained on one style."""

from typing import TYPE_CHECKING

from lossmith._lazy import lazy_names

if TYPE_CHECKING:
    from lossmith.style_transfer.config import StyleTransferConfig, StyleTransferResult
    from lossmith.style_transfer.feedforward import StyleNetwork
    from lossmith.style_transfer.loss import build_style_formula
    from lossmith.style_transfer.optimize import stylize
    from lossmith.style_transfer.task import StyleTransfer

__all__ = [
    "StyleNetwork",
    "StyleTransfer",
    "StyleTransferConfig",
    "StyleTransferResult",
    "build_style_formula",
    "stylize",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "config": "StyleTransferConfig StyleTransferResult",
        "feedforward": "StyleNetwork",
        "loss": "build_style_formula",
        "optimize": "stylize",
        "task": "StyleTransfer",
    },
)
