"""How the commands, the report and the studies name, format and compare a metric."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["MetricInfo"]


@dataclass(frozen=True)
class MetricInfo:
    """Name, format and direction of a validation metric.

    Args:
        key: The name on the command line and the key in validation.jsonl; unique among the metrics of all tasks.
        name: The name on pages.
        unit: The unit; "" for none.
        digits: Decimal places.
        ideal: The best possible value; None if higher is always better.
        network: Part of the name of the network that the metric uses; "" for none.
        is_headline: Whether the summary of a run names the metric.
        kind: "distortion" compares images pixel by pixel; "perceptual" tolerates what a viewer does not see, and is
            plotted against distortion.
    """

    key: str
    name: str
    unit: str
    digits: int
    ideal: float | None
    network: str = ""
    is_headline: bool = False
    kind: Literal["distortion", "perceptual"] = "distortion"

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
