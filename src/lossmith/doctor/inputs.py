"""What a loss is tried on: ordinary views, and hostile ones made of them."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from lossmith.formula.loss import Hybrid, Loss
from lossmith.formula.term import Term
from lossmith.lens import Chain, Features, Lens
from lossmith.pretrained.locate import MissingWeightsError

__all__ = ["STRESS_INPUTS", "Transform", "Inputs", "first_images", "min_batch_size", "make_inputs", "image_inputs", "with_untrained_networks"]

Inputs = dict[str, Tensor]
Kind = Literal["normal", "unit", "mask", "attention", "ratio"]

UNLIKE: dict[str, tuple[Kind, tuple[int | None, ...]]] = {
    "mask": ("mask", (1, None, None)),
    "z": ("normal", (8,)),
    "z_other": ("normal", (8,)),
    "logsnr": ("normal", ()),
    "groups": ("unit", ()),
    "prediction": ("normal", (3, None, None)),
    "clean": ("normal", (3, None, None)),
    "noise": ("normal", (3, None, None)),
    "velocity": ("normal", (3, None, None)),
    "hidden": ("normal", (4, 6, 6)),
    "mu": ("normal", (4, 8, 8)),
    "logvar": ("normal", (4, 8, 8)),
    "latents": ("normal", (4, 8, 8)),
    "codes": ("normal", (4, 8, 8)),
    "attention": ("attention", (2, 6, 6)),
    "region": ("mask", (6, 6)),
}
"""What a view looks like for a parameter of this name, without the batch; None stands for a side of the pictures."""


COMMON = ("memory", "negatives")
"""Parameters whose views are no batch of images, but one thing for all of them."""


def min_batch_size(loss: Loss) -> int:
    """The smallest batch in which each image's value says something."""
    return 3 if any(term.distance.is_batch_dependent for term in loss.terms) else 2


def make_inputs(loss: Loss, side: tuple[int, int], *, n: int | None = None, seed: int = 0) -> Inputs:
    """Seeded views that the loss can read: pred half target and half noise, as a network's are at first.

    Args:
        loss: The loss.
        side: The pictures' height and width.
        n: How many images; by default :func:`images`.
        seed: Of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    views: Inputs = {}
    apart: set[str] = set()  # what a loss is compared with comes last
    for term in loss.terms:
        for parameter, view in sorted(term.inputs.items(), key=lambda item: item[0] != "target"):
            kind, shape = looks_like(term, parameter, side)
            if view not in views:
                views[view] = drawn(kind, (n or min_batch_size(loss), *shape), generator)
                like = views.get(term.inputs.get("target", ""))
                if parameter == "pred" and like is not None and like.shape == views[view].shape:
                    views[view] = (views[view] + like) / 2
            apart |= {view} if parameter in ("target", "mask", "clean", "noise", "logsnr") else set()
    return {name: views[name] for name in sorted(views, key=lambda name: (name != "pred", name in apart))}


def looks_like(term: Term, parameter: str, side: tuple[int, int]) -> tuple[Kind, tuple[int, ...]]:
    """What the view of a parameter looks like, and the shape of one image."""
    usual: tuple[Kind, tuple[int | None, ...]] = (
        ("unit", (3, None, None)) if term.distance.reads_images else ("normal", (16,))
    )
    if parameter == "other" and not term.distance.reads_images:
        parameter = "attention"
    kind, shape = UNLIKE.get(parameter, usual)
    if parameter == "attention" and "region" in term.parameters:
        kind, shape = "unit", (6, 6)
    if parameter == "input" and term.distance.reads_images:  # of a consistency with what was enlarged
        scale = getattr(term.distance, "scale", None) or 2
        side = (max(1, side[0] // scale), max(1, side[1] // scale))
    if parameter in term.distance.unlensed_inputs - UNLIKE.keys():  # vectors beside those that the lens shows
        return "normal", (width(term, side),)
    sides = iter(side)
    return kind, tuple(next(sides) if one is None else one for one in shape)


def width(term: Term, side: tuple[int, int]) -> int:
    """How many numbers the lens of a term shows of a picture."""
    maps = {"pixels": torch.zeros(1, 3, *side)}
    with torch.no_grad():
        for lens in term.lens.stages if term.lens else ():
            maps = lens(maps)
    return sum(map_inputs.numel() for map_inputs in maps.values())


def drawn(kind: Kind, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Seeded numbers of a kind."""
    if kind in ("normal", "attention"):
        normal = torch.randn(shape, generator=generator)
        return normal.softmax(dim=-1) if kind == "attention" else normal
    noise = torch.rand(shape, generator=generator)
    return noise.round() if kind == "mask" else noise


def first_images(loss: Loss, views: Mapping[str, Tensor], count: int) -> Inputs:
    """The first images of some views."""
    common = {term.inputs.get(parameter) for term in loss.terms for parameter in COMMON}
    return {name: view if name in common else view[:count] for name, view in views.items()}


def image_inputs(loss: Loss, views: Mapping[str, Tensor]) -> list[str]:
    """The views that are pictures."""
    masks = {term.inputs.get("mask") for term in loss.terms}
    pictured = [term for term in loss.terms if term.distance.reads_images]
    read = {v for term in pictured for p, v in term.inputs.items() if p not in term.distance.unlensed_inputs - {"mask"}} - masks
    return [name for name, view in views.items() if name in read and view.dim() == 4 and view.is_floating_point()]


def with_untrained_networks(loss: Loss, *, every: bool = False) -> tuple[Hybrid, list[str]]:
    """The same loss with untrained networks where the weights are missing, or everywhere; and what is said of these."""
    said: list[str] = []

    def stand_in(lens: Lens) -> Lens:
        if not isinstance(lens, Features) or lens.backbone.weights is not None:
            return lens
        try:
            if not every and lens.backbone.sha256:
                return lens
        except MissingWeightsError as error:
            said.append(str(error))
        return lens.with_weights("random")

    terms = []
    for term in loss.terms:
        stages = [stand_in(lens) for lens in term.lens.stages] if term.lens else []
        lens = (Chain(stages) if len(stages) > 1 else stages[0]) if stages else None
        terms.append(Term(term.distance, term.weight, lens, term.input_renames))
    return Hybrid(terms), list(dict.fromkeys(said))


Transform = Callable[[Inputs], Inputs]


def map_inputs(change: Callable[[Tensor, int], Tensor]) -> Transform:
    """The same for every view of floating-point numbers, with its place among them."""
    return lambda views: {
        name: change(view, i) if view.is_floating_point() else view for i, (name, view) in enumerate(views.items())
    }


def map_first(change: Callable[[Tensor], Tensor]) -> Transform:
    """For the first view of floating-point numbers alone, which is pred wherever there is one."""

    def changed(views: Inputs) -> Inputs:
        lead = first_input(views)
        return {name: change(view) if name == lead else view for name, view in views.items()}

    return changed


def map_others(change: Callable[[Tensor], Tensor]) -> Transform:
    """Every other view of that one's shape as something made of it."""

    def changed(views: Inputs) -> Inputs:
        lead = first_input(views)
        like = views[lead]
        alike = {n for n, v in views.items() if n != lead and v.is_floating_point() and v.shape == like.shape}
        return {name: change(like) if name in alike else view for name, view in views.items()}

    return changed


def first_input(views: Inputs) -> str:
    """The first view of floating-point numbers, of which every loss has one."""
    return next((name for name, view in views.items() if view.is_floating_point()), next(iter(views)))


STRESS_INPUTS: dict[str, Transform] = {
    "black": map_inputs(lambda view, i: torch.zeros_like(view)),
    "black on noise": map_first(torch.zeros_like),
    "white": map_inputs(lambda view, i: torch.ones_like(view)),
    "constant": map_inputs(lambda view, i: torch.full_like(view, 0.3 + 0.1 * (i % 7))),
    "equal": map_others(lambda like: like.clone()),
    "opposite": map_others(lambda like: 1 - like),
    "tiny values": map_inputs(lambda view, i: view * 1e-12),
    "float16": map_inputs(lambda view, i: view.half()),
    "bfloat16": map_inputs(lambda view, i: view.bfloat16()),
    "black float16": map_inputs(lambda view, i: torch.zeros_like(view).half()),
    "extreme": map_inputs(lambda view, i: (view - 0.5) * 2e4),
    "flat extreme": map_inputs(lambda view, i: torch.full_like(view, 1e4 + 10 * i)),
}
"""Views that a training meets sooner or later, and whose values are finite all the same."""
