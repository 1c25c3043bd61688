"""Made-up inputs of a loss, drawn as its distances describe them."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lossmith.formula.example_input import ExampleInput
from lossmith.formula.loss import Hybrid, Loss
from lossmith.formula.term import Term
from lossmith.lens import Chain, Features, Lens
from lossmith.pretrained.locate import MissingWeightsError

__all__ = [
    "Inputs",
    "find_image_inputs",
    "first_images",
    "make_inputs",
    "min_batch_size",
    "with_untrained_networks",
]

Inputs = dict[str, Tensor]
IMAGE = ExampleInput().shape


def min_batch_size(loss: Loss) -> int:
    """Return the smallest batch size for which the value of each image is not trivial."""
    return 3 if any(term.distance.is_batch_dependent for term in loss.terms) else 2


def make_inputs(
    loss: Loss,
    size: tuple[int, int],
    *,
    batch_size: int | None = None,
    channels: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Inputs:
    """Draw seeded inputs for a loss; "pred" is the mean of the target and noise, as in an early training.

    Args:
        loss: The loss.
        size: The height and width of the images.
        batch_size: The number of images; None for :func:`min_batch_size`.
        channels: The number of channels of images; None for RGB, or more where a lens needs them.
        seed: The random seed.
        device: The device of the loss and of the result; the values do not depend on it.

    Returns:
        The inputs by name: "pred" first, then inputs that receive a gradient, then the others.
    """
    generator = torch.Generator().manual_seed(seed)
    channels = channels or max(3, loss.min_channels)
    inputs: Inputs = {}
    references: set[str] = set()  # inputs without a gradient, which the prediction is compared with
    for term in loss.terms:
        for parameter, name in sorted(term.inputs.items(), key=lambda item: item[0] != "target"):
            example = term.distance.example_input(parameter)
            if name not in inputs:
                shape = (batch_size or min_batch_size(loss), *_resolve_shape(example, term, size, channels, device))
                inputs[name] = _draw(example, shape, generator)
                target = inputs.get(term.inputs.get("target", ""))
                if parameter == "pred" and target is not None and target.shape == inputs[name].shape:
                    inputs[name] = (inputs[name] + target) / 2
            if not example.requires_grad:
                references.add(name)
    return {
        name: inputs[name].to(device) for name in sorted(inputs, key=lambda name: (name != "pred", name in references))
    }


def _resolve_shape(
    example: ExampleInput, term: Term, size: tuple[int, int], channels: int, device: torch.device | str
) -> tuple[int, ...]:
    height, width = (max(1, side // example.downscale) for side in size)
    sides = {"height": height, "width": width}
    if "features" in example.shape:
        sides["features"] = _count_features(term, size, channels, device)
    shape = tuple(sides[side] if isinstance(side, str) else side for side in example.shape)
    return (channels, *shape[1:]) if example.shape == IMAGE else shape


def _count_features(term: Term, size: tuple[int, int], channels: int, device: torch.device | str) -> int:
    """Return the number of values that the lens of a term gives for an image."""
    maps = {"pixels": torch.zeros(1, channels, *size, device=device)}
    with torch.no_grad():
        for lens in term.lens.stages if term.lens else ():
            maps = lens(maps)
    return sum(features.numel() for features in maps.values())


def _draw(example: ExampleInput, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if example.kind in ("normal", "softmax"):
        normal = torch.randn(shape, generator=generator)
        return normal.softmax(dim=-1) if example.kind == "softmax" else normal
    uniform = torch.rand(shape, generator=generator)
    return uniform.round() if example.kind == "binary" else uniform


def first_images(loss: Loss, inputs: Mapping[str, Tensor], count: int) -> Inputs:
    """Return the inputs of the first `count` images; inputs that all images share stay whole."""
    shared = {
        name
        for term in loss.terms
        for parameter, name in term.inputs.items()
        if not term.distance.example_input(parameter).is_batched
    }
    return {name: tensor if name in shared else tensor[:count] for name, tensor in inputs.items()}


def find_image_inputs(loss: Loss, inputs: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the inputs that are images."""
    masks = {term.inputs.get("mask") for term in loss.terms}
    read = {
        name
        for term in loss.terms
        if term.distance.reads_images
        for parameter, name in term.inputs.items()
        if parameter not in term.distance.unlensed_inputs - {"mask"}
    }
    images = read - masks
    return [name for name, t in inputs.items() if name in images and t.dim() == 4 and t.is_floating_point()]


def with_untrained_networks(loss: Loss, *, replace_all: bool = False) -> tuple[Hybrid, list[str]]:
    """Return the loss with untrained networks in the place of those whose weight files are missing.

    Args:
        loss: The loss.
        replace_all: Whether to replace all networks without an explicit weight file.

    Returns:
        The loss, and the error messages of the missing weight files.
    """
    messages: list[str] = []

    def substitute(lens: Lens) -> Lens:
        if not isinstance(lens, Features) or lens.backbone.weights is not None:
            return lens
        try:
            if not replace_all and lens.backbone.sha256:
                return lens
        except MissingWeightsError as error:
            messages.append(str(error))
        return lens.with_weights("random")

    terms = []
    for term in loss.terms:
        stages = [substitute(lens) for lens in term.lens.stages] if term.lens else []
        terms.append(replace(term, lens=(Chain(stages) if len(stages) > 1 else stages[0]) if stages else None))
    return Hybrid(terms), list(dict.fromkeys(messages))
