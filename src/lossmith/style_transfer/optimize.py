"""The picture itself as the model: it is painted by its loss, from coarse to fine."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.formula.loss import Loss
from lossmith.formula.pinned import pinned
from lossmith.formula.tiled import tiled
from lossmith.style_transfer.colour import compute_colour_statistics, replace_luma, match_colours
from lossmith.style_transfer.loss import (
    blend_images,
    check_style_loss,
    split_style_terms,
    min_image_size,
    resolve_style_strength,
)
from lossmith.style_transfer.task import resize_longer_side

__all__ = ["StyleTransferConfig", "OptimizationStep", "StyleTransferResult", "StageResult", "stylize"]

Init = Literal["content", "make_initial_noise"]
Optimizer = Literal["adam", "lbfgs"]

COARSEST_SIDE = 128
"""The longer side in pixels at which one begins: there strokes are found that are wide in the finished picture."""
PADDING = 16
"""Pixels of mirror image around what the networks see: their zeros beyond the border would be painted as a frame."""
GRID_OFFSETS = ((0, 0), (3, 5), (5, 2), (6, 7))
"""Where the networks' grids of pools lie, step by step: no two alike at any pool of 2, 4 or 8 pixels, whose pattern
would show in the painting if it always lay in one place."""
ADAM_LR = 0.02
"""Of Adam, in units of the image range."""
CACHE_BYTES = 2**30
"""Bytes of what the networks have seen of the other pictures that each place of the grids may keep."""
MIN_STEPS = 10
"""Steps that every size gets."""


@dataclass(frozen=True, kw_only=True)
class StyleTransferConfig:
    """How to paint.

    Args:
        side: The longer side of the painting in pixels; None for the content's, but not above 1024.
        steps: Steps at the coarsest size; each size of twice the side gets half of that, and 10 at least.
        strength: The weight of the style beside the content, from 0; also how much of its colours the content gets at
            the start, up to 1.
        optimizer: "adam", or "lbfgs", which wants fewer steps and more memory, and holds the networks' grids still.
        init: "content", or "make_initial_noise" for less of its shapes.
        preserve_colour: Whether the colours stay the content's: the style gets these, and of what is painted the
            brightness alone is taken.
        style_scale: The style's longer side in those of the painting: larger makes for larger strokes. It is never
            enlarged beyond its own pixels.
        tile: The side of the tiles in which networks see what does not fit into memory; 0 for none.
        seed: Of the noise.

    Raises:
        ValueError: A number that cannot be, or another optimiser or beginning.
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
        for name, value, least in (("side", self.side or 32, 32), ("steps", self.steps, 1), ("tile", self.tile, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} wants a whole number of at least {least}; got {value!r}.")
        for name, number in (("strength", self.strength), ("style_scale", self.style_scale)):
            if not (number >= 0 and number < float("inf")) or (name == "style_scale" and not number):
                raise ValueError(
                    f"{name} wants a number {'from' if name == 'strength' else 'above'} 0; got {number!r}."
                )
        for name, word, choice in (("optimizer", self.optimizer, Optimizer), ("init", self.init, Init)):
            if word not in get_args(choice):
                raise ValueError(f"{name} is one of {', '.join(get_args(choice))}; got {word!r}.")


class OptimizationStep(NamedTuple):
    """One step, for whoever watches: the size's longer side, the step among all, how many there are, and the value."""

    side: int
    step: int
    steps: int
    value: float


class StageResult(NamedTuple):
    """One size: its longer side, its steps, its seconds, the values of the first and last, and what was painted."""

    side: int
    steps: int
    seconds: float
    first: float | None
    last: float | None
    picture: Tensor


class StyleTransferResult(NamedTuple):
    """The painting (1, 3, H, W), how it grew, whether somebody stopped it, and the last size's loss in numbers."""

    picture: Tensor
    stages: list[StageResult]
    stopped: bool
    loss: Loss


def stylize(
    content: Tensor,
    styles: Sequence[Tensor],
    loss: Loss,
    *,
    weights: Sequence[float] | None = None,
    brush: StyleTransferConfig | None = None,
    watch: Callable[[OptimizationStep], None] | None = None,
) -> StyleTransferResult:
    """Paints a picture in the style of others; Ctrl-C gives what there is by then.

    At each size the styles are looked at once, for each place of the networks' grids. The picture is kept in [0, 1]
    after every step. Adam's steps fade at each size; LBFGS hands on the best picture that it has seen.

    Args:
        content: (1, 3, H, W) in [0, 1].
        styles: Pictures of any size.
        loss: On the views "pred", "content" and "style"; shares of the gradient are measured at every size.
        weights: How much of each style, in any unit; None for equal parts.
        brush: How to paint.
        watch: Is told of every step.

    Raises:
        ValueError: A loss that cannot paint, weights that do not fit, a picture too small, or a value that is not
            finite.
    """
    brush = brush or StyleTransferConfig()
    parts = normalize_style_weights(weights, len(styles))
    loss = split_style_terms(check_style_loss(loss), parts)
    height, width = content.shape[-2:]
    side = brush.side or min(1024, max(height, width))
    least = max(min_image_size(loss), 2 * PADDING)
    for name, picture, longer in (("content", content, side), *(("style", s, max(s.shape[-2:])) for s in styles)):
        h, w = (round(each * longer / max(picture.shape[-2:])) for each in picture.shape[-2:])
        if min(h, w) < least:
            raise ValueError(f"The loss wants a {name} of at least {least} px a side; there are {w}x{h} px.")
    sides = pyramid_sides(side, min(height, width) / max(height, width), least)
    counts = [max(min(MIN_STEPS, brush.steps), brush.steps >> i) for i in range(len(sides))]
    canvas: Tensor | None = None
    stages: list[StageResult] = []
    stopped, resolved = False, loss
    for longer, count in zip(sides, counts, strict=True):
        begun, done = time.monotonic(), sum(stage.steps for stage in stages)
        views, middle = prepare_stage(resize_longer_side(content, longer), styles, parts, brush, least)
        ground = views["content"]
        if canvas is None:
            canvas = ground if brush.init == "content" else make_initial_noise(ground, brush.seed)
        resolved = resolve_style_strength(loss, brush.strength, pad_with_offset({"pred": middle, **views}, GRID_OFFSETS[0]))
        places = GRID_OFFSETS if brush.optimizer == "adam" else GRID_OFFSETS[:1]  # LBFGS wants the same function at every step
        canvas, values, stopped = optimize_image(
            resize_like(canvas, ground),
            [build_objective(resolved, views, place, brush.tile) for place in places],
            count,
            brush.optimizer,
            lambda step, value: watch and watch(OptimizationStep(longer, done + step, sum(counts), value)),  # noqa: B023
        )
        first, last = (values[0], values[-1]) if values else (None, None)
        stages.append(StageResult(longer, len(values), time.monotonic() - begun, first, last, canvas))
        if stopped:
            break
    assert canvas is not None
    final = resize_longer_side(content, side)
    picture = resize_like(canvas, final)
    picture = replace_luma(final, picture) if brush.preserve_colour else picture
    return StyleTransferResult(picture, stages, stopped, resolved)


def prepare_stage(
    content: Tensor, styles: Sequence[Tensor], parts: Sequence[float], brush: StyleTransferConfig, least: int
) -> tuple[dict[str, Tensor], Tensor]:
    """The views "content", "style0", ... at a size, in the colours that they shall have; and the middle of them."""
    side = max(least, round(max(content.shape[-2:]) * brush.style_scale))
    models = [resize_longer_side(s, min(max(s.shape[-2:]), side)) for s in styles]
    models = [m if min(m.shape[-2:]) >= least else s for m, s in zip(models, styles, strict=True)]
    if brush.preserve_colour:
        models = [match_colours(model, compute_colour_statistics([content], [1.0])) for model in models]
    else:
        content = match_colours(content, compute_colour_statistics(models, parts), min(1.0, brush.strength))
    return {"content": content, **{f"style{i}": m for i, m in enumerate(models)}}, blend_images(content, models, parts)


def optimize_image(
    begin: Tensor,
    judges: Sequence[Callable[[Tensor], Tensor]],
    steps: int,
    optimizer: Optimizer,
    tell: Callable[[int, float], object],
) -> tuple[Tensor, list[float], bool]:
    """The picture at the end of a way down from one, the values on it, and whether somebody stopped it.

    Raises:
        ValueError: A value is not finite.
    """
    picture = begin.clone().requires_grad_()
    descent: torch.optim.Optimizer
    if optimizer == "adam":
        descent = torch.optim.Adam([picture], lr=ADAM_LR, betas=(0.9, 0.99))
    else:  # one step a call, so that somebody can watch
        descent = torch.optim.LBFGS([picture], max_iter=1, history_size=10, tolerance_grad=0, tolerance_change=0)
    best = begin.clone()
    values: list[float] = []

    def closure() -> Tensor:
        descent.zero_grad()
        value = judges[len(values) % len(judges)](picture)
        value.backward()  # type: ignore[no-untyped-call]
        found = float(value.detach())
        if not math.isfinite(found):
            raise ValueError(f"The loss is {found} at step {len(values) + 1} of a size; lossmith doctor says why.")
        if optimizer == "adam" or found <= min(values, default=found):
            best.copy_(picture.detach())
        values.append(found)
        return value

    try:
        for step in range(steps):
            if optimizer == "adam":
                descent.param_groups[0]["lr"] = ADAM_LR * (1 + math.cos(math.pi * step / steps)) / 2
            descent.step(closure)  # type: ignore[arg-type, no-untyped-call]
            with torch.no_grad():
                picture.clamp_(0, 1)
            tell(step + 1, values[-1])
    except KeyboardInterrupt:
        return best, values, True
    return picture.detach() if optimizer == "adam" else best, values, False


def build_objective(loss: Loss, views: Mapping[str, Tensor], place: tuple[int, int], tile: int) -> Callable[[Tensor], Tensor]:
    """The loss of a painting alone, with the networks' grids at a place.

    In tiles the networks look at the other views again at each step.
    """
    there = pad_with_offset({name: view for name, view in views.items() if name in loss.input_names}, place)
    if tile:
        in_tiles = tiled(loss, tile)
        return lambda picture: in_tiles(**pad_with_offset({"pred": picture}, place), **there)
    pin = pinned(loss, limit=CACHE_BYTES, **there)
    return lambda picture: pin(**pad_with_offset({"pred": picture}, place))


def pad_with_offset(pictures: Mapping[str, Tensor], place: tuple[int, int]) -> dict[str, Tensor]:
    """The pictures with their mirror images around them, cut so that a network's grid falls on a place of them."""
    rims = (PADDING - place[1], PADDING - 8 + place[1], PADDING - place[0], PADDING - 8 + place[0])
    return {name: F.pad(picture, rims, mode="reflect") for name, picture in pictures.items()}


def pyramid_sides(side: int, ratio: float, least: int) -> list[int]:
    """The longer sides from coarse to fine, each twice the one before."""
    found = [side]
    while found[0] / 2 >= COARSEST_SIDE and ratio * found[0] / 2 >= least:
        found.insert(0, round(found[0] / 2))
    return found


def normalize_style_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """The parts of each style, which sum to 1.

    Raises:
        ValueError: Not one weight a style, or not positive numbers.
    """
    if not count:
        raise ValueError("A painting wants at least one style; got none.")
    found = list(weights) if weights is not None else [1.0] * count
    if len(found) != count:
        raise ValueError(f"{count} style{'s want' if count > 1 else ' wants'} as many weights; got {len(found)}.")
    if not all(0 < weight < float("inf") for weight in found):
        raise ValueError(f"The weights of styles want to be positive numbers; got {', '.join(map(str, found))}.")
    return [weight / sum(found) for weight in found]


def resize_like(picture: Tensor, like: Tensor) -> Tensor:
    """The picture in the size of another."""
    if picture.shape == like.shape:
        return picture
    return F.interpolate(picture, size=like.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)


def make_initial_noise(like: Tensor, seed: int) -> Tensor:
    """Faint grey noise of a picture's size and mean."""
    chance = torch.Generator().manual_seed(seed)
    drawn = torch.rand(like.shape, generator=chance).to(like)
    return (like.mean(dim=(2, 3), keepdim=True) + 0.2 * (drawn - 0.5)).clamp(0, 1)
