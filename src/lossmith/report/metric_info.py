"""How the report names, formats and compares validation metrics."""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["METRIC_INFOS", "MetricInfo"]


@dataclass(frozen=True)
class MetricInfo:
    """Name, format and direction of a validation metric.

    Args:
        key: The key in validation.jsonl.
        name: The name on the page.
        unit: The unit; "" for none.
        digits: Decimal places.
        ideal: The best possible value; None if higher is always better.
        network: Part of the name of the network that the metric uses; "" for none.
        is_headline: Whether the summary of a run names the metric.
    """

    key: str
    name: str
    unit: str
    digits: int
    ideal: float | None
    network: str = ""
    is_headline: bool = False

    @property
    def direction(self) -> str:
        """The direction in which values are better, in words."""
        return "higher is better" if self.ideal is None else "lower is better" if self.ideal == 0 else "1 is ideal"

    @property
    def arrow(self) -> str:
        """The direction in which values are better, as a symbol."""
        return "↑" if self.ideal is None else "↓" if self.ideal == 0 else "→ 1"

    def quality(self, value: float) -> float:
        """Return a number that is higher for a better value."""
        return value if self.ideal is None else -abs(value - self.ideal)

    @property
    def cost_name(self) -> str:
        """The name of the negative quality."""
        return self.name if not self.ideal else f"distance of {self.name} from {self.ideal:g}"

    def format(self, value: float) -> str:
        """Return the value with its decimal places and its unit."""
        return f"{value:.{self.digits}f}{self.unit and ' ' + self.unit}".replace("-", "\u2212")

    def best_point(self, points: Iterable[tuple[float, float]]) -> tuple[float, float]:
        """Return the point (step, value) with the best value; the earliest one of equals."""
        return max(points, key=lambda point: self.quality(point[1]))


METRIC_INFOS = (
    MetricInfo("psnr_y", "PSNR-Y", "dB", 2, None, is_headline=True),
    MetricInfo("psnr_rgb", "PSNR-RGB", "dB", 2, None),
    MetricInfo("ssim_y", "SSIM", "", 4, None),
    MetricInfo("lpips_alex", "LPIPS", "", 3, 0.0, "alex", is_headline=True),
    MetricInfo("dists", "DISTS", "", 3, 0.0, "vgg16"),
    MetricInfo("texture", "Texture", "", 3, 1.0),
)
"""The image metrics of restoration, accuracy before perceptual quality; a task may add metrics of its own."""
