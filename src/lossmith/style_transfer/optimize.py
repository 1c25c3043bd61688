"""Style transfer by optimization of the pixels of one image, from coarse to fine."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.formula.loss import Loss
from lossmith.formula.pinned import pinned
from lossmith.formula.tiled import tiled
from lossmith.style_transfer.colour import compute_colour_statistics, match_colours, replace_luma
from lossmith.style_transfer.config import (
    OptimizationStep,
    Optimizer,
    StageResult,
    StyleTransferConfig,
    StyleTransferResult,
)
from lossmith.style_transfer.image_sizes import pyramid_sides, resize_like, resize_longer_side
from lossmith.style_transfer.loss import (
    blend_images,
    check_style_loss,
    min_image_size,
    normalize_style_weights,
    resolve_style_strength,
    split_style_terms,
)

__all__ = ["stylize"]

MAX_DEFAULT_SIDE = 1024
PADDING = 16
"""Reflection padding in pixels around the image; the networks' zero padding would leave a visible frame."""
GRID_OFFSETS = ((0, 0), (3, 5), (5, 2), (6, 7))
"""Offsets (y, x) of the networks' pooling grids, alternated over the steps. They differ modulo 2, 4 and 8 pixels, so
that no grid pattern of a pooling layer becomes visible."""
ADAM_LR = 0.02
"""Learning rate of Adam in units of the image range."""
CACHE_BYTES = 2**30
"""Memory limit in bytes of the kept features of content and styles, for each grid offset."""
MIN_STEPS = 10
"""Smallest number of steps of a stage."""

Objective = Callable[[Tensor], Tensor]


def stylize(
    content: Tensor,
    styles: Sequence[Tensor],
    loss: Loss,
    *,
    weights: Sequence[float] | None = None,
    config: StyleTransferConfig | None = None,
    on_step: Callable[[OptimizationStep], None] | None = None,
) -> StyleTransferResult:
    """Optimize an image to the content of one image and the style of others.

    Each stage computes the styles' features once for each grid offset. The image is clipped to [0, 1] after every step.
    Adam's learning rate decays to 0 in each stage; LBFGS returns the image of the lowest loss. Ctrl-C stops the
    optimization and returns the current image.

    Args:
        content: (1, 3, H, W) in [0, 1].
        styles: Style images of any size.
        loss: The loss on the inputs "pred", "content" and "style"; shares of the gradient are measured in every stage.
        weights: Positive weights of the styles, normalized to sum to 1; None for equal weights.
        config: The settings; None for the defaults.
        on_step: Called after every step.

    Raises:
        ValueError: The loss or the weights do not suit, an image is too small, or the loss is not finite.
    """
    config = config or StyleTransferConfig()
    normalized = normalize_style_weights(weights, len(styles))
    check_style_loss(loss)
    loss = split_style_terms(loss, normalized)
    height, width = content.shape[-2:]
    side = config.side or min(MAX_DEFAULT_SIDE, max(height, width))
    min_side = max(min_image_size(loss), 2 * PADDING)
    _check_sizes(content, styles, side, min_side)
    sides = pyramid_sides(side, min(height, width) / max(height, width), min_side)
    counts = [max(min(MIN_STEPS, config.steps), config.steps >> i) for i in range(len(sides))]
    image: Tensor | None = None
    stages: list[StageResult] = []
    stopped, resolved = False, loss
    for stage_side, steps in zip(sides, counts, strict=True):
        start, done = time.monotonic(), sum(stage.steps for stage in stages)
        report = _step_reporter(on_step, stage_side, done, sum(counts))
        inputs, blend = prepare_inputs(resize_longer_side(content, stage_side), styles, normalized, config, min_side)
        padded = pad_with_offset({"pred": blend, **inputs}, GRID_OFFSETS[0])
        resolved = resolve_style_strength(loss, config.strength, padded)
        image, values, stopped = _run_stage(image, inputs, resolved, steps, config, report)
        first, last = (values[0], values[-1]) if values else (None, None)
        stages.append(StageResult(stage_side, len(values), time.monotonic() - start, first, last, image))
        if stopped:
            break
    assert image is not None
    final_content = resize_longer_side(content, side)
    image = resize_like(image, final_content)
    image = replace_luma(final_content, image) if config.preserve_colour else image
    return StyleTransferResult(image, stages, stopped, resolved)


def _check_sizes(content: Tensor, styles: Sequence[Tensor], side: int, min_side: int) -> None:
    """Raise ValueError if the content at its final size, or a style image, is too small."""
    images = [("content", content, side), *(("style", style, max(style.shape[-2:])) for style in styles)]
    for name, image, longer in images:
        height, width = (round(each * longer / max(image.shape[-2:])) for each in image.shape[-2:])
        if min(height, width) < min_side:
            raise ValueError(
                f"The {name} image must have at least {min_side} px a side for this loss; got {width}x{height} px."
            )


def _step_reporter(
    on_step: Callable[[OptimizationStep], None] | None, side: int, done: int, total: int
) -> Callable[[int, float], None]:
    """Return the function that is called after each step of a stage with its number and its loss."""

    def report(step: int, value: float) -> None:
        if on_step is not None:
            on_step(OptimizationStep(side, done + step, total, value))

    return report


def prepare_inputs(
    content: Tensor, styles: Sequence[Tensor], weights: Sequence[float], config: StyleTransferConfig, min_side: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the inputs "content", "style0", ... of a stage with matched colours, and their blend."""
    side = max(min_side, round(max(content.shape[-2:]) * config.style_scale))
    resized = [resize_longer_side(style, min(max(style.shape[-2:]), side)) for style in styles]
    resized = [r if min(r.shape[-2:]) >= min_side else s for r, s in zip(resized, styles, strict=True)]
    if config.preserve_colour:
        target = compute_colour_statistics([content], [1.0])
        resized = [match_colours(style, target) for style in resized]
    else:
        content = match_colours(content, compute_colour_statistics(resized, weights), min(1.0, config.strength))
    inputs = {"content": content, **{f"style{i}": style for i, style in enumerate(resized)}}
    return inputs, blend_images(content, resized, weights)


def _run_stage(
    image: Tensor | None,
    inputs: Mapping[str, Tensor],
    loss: Loss,
    steps: int,
    config: StyleTransferConfig,
    report: Callable[[int, float], None],
) -> tuple[Tensor, list[float], bool]:
    """Optimize one stage from the image of the stage before; return as :func:`_minimize`."""
    content = inputs["content"]
    if image is None:
        image = content if config.init == "content" else make_initial_noise(content, config.seed)
    # LBFGS needs the same function at every step
    offsets = GRID_OFFSETS if config.optimizer == "adam" else GRID_OFFSETS[:1]
    objectives = [build_objective(loss, inputs, offset, config.tile) for offset in offsets]
    return _minimize(resize_like(image, content), objectives, steps, config.optimizer, report)


def _minimize(
    initial: Tensor,
    objectives: Sequence[Objective],
    steps: int,
    optimizer: Optimizer,
    report: Callable[[int, float], None],
) -> tuple[Tensor, list[float], bool]:
    """Minimize alternating objectives over an image.

    Returns:
        The final image, the loss of each step, and whether Ctrl-C stopped the optimization.

    Raises:
        ValueError: The loss is not finite.
    """
    image = initial.clone().requires_grad_()
    stepper: torch.optim.Optimizer
    if optimizer == "adam":
        stepper = torch.optim.Adam([image], lr=ADAM_LR, betas=(0.9, 0.99))
    else:  # one iteration per call, so that each can be reported
        stepper = torch.optim.LBFGS([image], max_iter=1, history_size=10, tolerance_grad=0, tolerance_change=0)
    best = initial.clone()
    values: list[float] = []

    def closure() -> Tensor:
        stepper.zero_grad()
        value = objectives[len(values) % len(objectives)](image)
        value.backward()  # type: ignore[no-untyped-call]
        number = float(value.detach())
        if not math.isfinite(number):
            raise ValueError(f"The loss is {number} at step {len(values) + 1} of a stage; run lossmith doctor.")
        if optimizer == "adam" or number <= min(values, default=number):
            best.copy_(image.detach())
        values.append(number)
        return value

    try:
        for step in range(steps):
            if optimizer == "adam":
                stepper.param_groups[0]["lr"] = ADAM_LR * (1 + math.cos(math.pi * step / steps)) / 2
            stepper.step(closure)  # type: ignore[arg-type, no-untyped-call]
            with torch.no_grad():
                image.clamp_(0, 1)
            report(step + 1, values[-1])
    except KeyboardInterrupt:
        return best, values, True
    return image.detach() if optimizer == "adam" else best, values, False


def build_objective(loss: Loss, inputs: Mapping[str, Tensor], offset: tuple[int, int], tile: int) -> Objective:
    """Return the loss as a function of the image alone, with the pooling grids at an offset.

    With tiles, the features of content and styles are computed again at each step.
    """
    fixed = pad_with_offset({name: value for name, value in inputs.items() if name in loss.input_names}, offset)
    if tile:
        tiled_loss = tiled(loss, tile)
        return lambda image: tiled_loss(**pad_with_offset({"pred": image}, offset), **fixed)
    pinned_loss = pinned(loss, limit=CACHE_BYTES, **fixed)
    return lambda image: pinned_loss(**pad_with_offset({"pred": image}, offset))


def pad_with_offset(images: Mapping[str, Tensor], offset: tuple[int, int]) -> dict[str, Tensor]:
    """Return images with reflection padding that shifts the networks' pooling grids by an offset (y, x)."""
    padding = (PADDING - offset[1], PADDING - 8 + offset[1], PADDING - offset[0], PADDING - 8 + offset[0])
    return {name: F.pad(image, padding, mode="reflect") for name, image in images.items()}


def make_initial_noise(content: Tensor, seed: int) -> Tensor:
    """Return uniform noise of amplitude 0.1 around the content's mean colour."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(content.shape, generator=generator).to(content)
    return (content.mean(dim=(2, 3), keepdim=True) + 0.2 * (noise - 0.5)).clamp(0, 1)
