"""The settings and the results of style transfer by optimization."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from lossmith._checks import check_choice, check_integer, check_number
from lossmith.formula.loss import Loss

__all__ = ["OptimizationStep", "StageResult", "StyleTransferConfig", "StyleTransferResult"]

Init = Literal["content", "noise"]
Optimizer = Literal["adam", "lbfgs"]


@dataclass(frozen=True, kw_only=True)
class StyleTransferConfig:
    """The settings of style transfer by optimization.

    Args:
        side: Longer side of the output in pixels, at least 32; None for that of the content, at most 1024.
        steps: Steps of the coarsest stage. Each stage of twice the side has half as many, at least 10.
        strength: Weight of the style terms, at least 0. Up to 1 it is also the amount by which the content's initial
            colours are matched to the style.
        optimizer: "adam", or "lbfgs", which needs fewer steps and more memory and keeps the pooling grids fixed.
        init: The initial image: "content", or "noise" for less of the content's shapes.
        preserve_colour: Whether to keep the content's colours: the style's colours are matched to the content, and only
            the luma of the result is used.
        style_scale: Longer side of the style images relative to the output; larger for larger strokes. Style images are
            never upsampled.
        tile: Side in pixels of the tiles in which networks process the image; 0 for no tiles.
        seed: Random seed of the initial noise.

    Raises:
        ValueError: A setting is out of range.
    """

    side: int | None = None
    steps: int = 200
    strength: float = 1.0
    optimizer: Optimizer = "adam"
    init: Init = "content"
    preserve_colour: bool = False
    style_scale: float = 1.0
    tile: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.side is not None:
            check_integer("side", self.side, low=32)
        check_integer("steps", self.steps, low=1)
        check_integer("tile", self.tile, low=0)
        check_number("strength", self.strength, low=0)
        check_number("style_scale", self.style_scale, low=0, open_low=True)
        check_choice("optimizer", self.optimizer, Optimizer)
        check_choice("init", self.init, Init)


class OptimizationStep(NamedTuple):
    """A step of an optimization, for progress displays.

    Args:
        side: Longer side of the stage in pixels.
        step: Number of the step, from 1, over all stages.
        steps: Number of steps of all stages.
        value: Loss.
    """

    side: int
    step: int
    steps: int
    value: float


class StageResult(NamedTuple):
    """The result of a stage of one size.

    Args:
        side: Longer side in pixels.
        steps: Number of steps.
        seconds: Duration.
        first_loss: Loss of the first step; None without a step.
        last_loss: Loss of the last step; None without a step.
        image: (1, 3, H, W).
    """

    side: int
    steps: int
    seconds: float
    first_loss: float | None
    last_loss: float | None
    image: Tensor


class StyleTransferResult(NamedTuple):
    """The result of an optimization.

    Args:
        image: The stylized image, (1, 3, H, W).
        stages: The stages from coarse to fine.
        stopped: Whether Ctrl-C stopped the optimization.
        loss: The loss of the last stage, with shares resolved to weights.
    """

    image: Tensor
    stages: list[StageResult]
    stopped: bool
    loss: Loss
