"""Image metrics of the library torchmetrics as terms of a formula."""

from collections.abc import Callable, Mapping
from typing import ClassVar, final

from torch import Tensor

from lossmith.adapters.base import LibraryLoss

__all__ = ["TorchMetrics"]


@final
class TorchMetrics(LibraryLoss):
    """An image metric of torchmetrics, computed by torchmetrics on each image; 1 minus the metric if higher is better.

    Args:
        name: A function of ``torchmetrics.functional.image``: "structural_similarity_index_measure",
            "multiscale_structural_similarity_index_measure", "universal_image_quality_index",
            "spatial_correlation_coefficient", "spectral_distortion_index", "relative_average_spectral_error",
            "root_mean_squared_error_using_sliding_window" or "error_relative_global_dimensionless_synthesis".
        options: The options of the function.

    Raises:
        ValueError: An unknown name or option, or torchmetrics is not installed.

    Example:
        >>> from lossmith import parse
        >>> parse('L1 + 0.1*TorchMetrics("universal_image_quality_index")')  # doctest: +SKIP
        L1() + 0.1 * TorchMetrics("universal_image_quality_index")
    """

    library = "torchmetrics"
    functions: ClassVar[Mapping[str, float | None]] = {
        "structural_similarity_index_measure": 1.0,
        "multiscale_structural_similarity_index_measure": 1.0,
        "universal_image_quality_index": 1.0,
        "spatial_correlation_coefficient": 1.0,
        "spectral_distortion_index": None,
        "relative_average_spectral_error": None,
        "root_mean_squared_error_using_sliding_window": None,
        "error_relative_global_dimensionless_synthesis": None,
    }
    is_batched = False
    example_formula = 'TorchMetrics("universal_image_quality_index")'

    def build(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the function, or 1 minus the function."""
        function, best = self.load("torchmetrics.functional.image"), self.functions[self.name]
        options = self.options
        if self.name.endswith("similarity_index_measure"):
            options = {"data_range": 1.0, **options}  # torchmetrics would take the range of each image

        def measure_image(pred: Tensor, target: Tensor) -> Tensor:
            value: Tensor = function(pred, target, **options)
            return value if best is None else best - value

        return measure_image
