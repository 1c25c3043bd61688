"""The network passes of one step of a loss, and their operations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lossmith.backbone import check_rgb
from lossmith.engine.feature_cache import apply_lens
from lossmith.formula.sparse_evaluation import WHOLE, collect_whole_layers, group_terms
from lossmith.formula.term import Term, collect_term_layers
from lossmith.lens import Features, Lens, get_single_map

__all__ = ["NetworkPass", "plan_passes"]


@dataclass(frozen=True)
class NetworkPass:
    """One pass of one input through one network, shared by all terms.

    Args:
        network: The network's name.
        preceding_lenses: The lenses before the network, as text; empty if the network sees the image itself.
        input_name: The input that passes through the network.
        layers: The layers that any term needs.
        terms: The names of these terms.
        shape: The shape of the pass's images, (N, C, H, W); of a sparse term, that of its part of the batch.
        has_gradient: Whether the pass is differentiated.
        forward_flops: Floating-point operations of the forward pass, for the batch.
        backward_flops: Floating-point operations of the backward pass to the input; the network's weights are frozen.
    """

    network: str
    preceding_lenses: str
    input_name: str
    layers: tuple[str, ...]
    terms: tuple[str, ...]
    shape: tuple[int, ...]
    has_gradient: bool
    forward_flops: float
    backward_flops: float


def plan_passes(terms: Mapping[str, Term], shape: Sequence[int]) -> tuple[NetworkPass, ...]:
    """Return the passes of the terms of one step; a sparse term uses a pass of the whole batch that has its layers."""
    passes: list[NetworkPass] = []
    groups = group_terms(terms)
    whole_layers = collect_whole_layers(groups)
    users = _find_users(groups.get(WHOLE, {}))
    for kind, among in groups.items():
        layers = whole_layers if kind == WHOLE else collect_term_layers(among.values())
        part = list(shape)
        part[0] = kind.part.count_images(shape[0]) if kind.part else shape[0]
        for i in (2, 3) if kind.window else ():
            part[i] = kind.window.split(shape[i])[1]  # type: ignore[union-attr]
        for key, (lens, preceding, term_names) in _find_users(among).items():
            text, name, has_gradient = key
            required = layers[name, text]
            is_part = kind != WHOLE and kind.window is None
            if not (is_part and key in users and set(required) <= set(whole_layers[name, text])):
                passes.append(_plan_pass(lens, preceding, name, required, term_names, has_gradient, part))
    return tuple(passes)


def _find_users(terms: Mapping[str, Term]) -> dict[tuple[str, str, bool], tuple[Features, Sequence[Lens], list[str]]]:
    """Return the network, the lenses before it and the terms of each pass.

    The key is the network's key, the input and whether it has a gradient.
    """
    users: dict[tuple[str, str, bool], tuple[Features, Sequence[Lens], list[str]]] = {}
    for name, term in terms.items():
        for parameter, input_name in term.inputs.items():
            for i, (text, lens) in enumerate(term.path if parameter not in term.distance.unlensed_inputs else ()):
                if isinstance(lens, Features):
                    preceding = [stage for _, stage in term.path[:i]]
                    among = users.setdefault((text, input_name, parameter != "target"), (lens, preceding, []))[2]
                    among += [] if name in among else [name]
    return users


def _plan_pass(
    lens: Features,
    preceding: Sequence[Lens],
    input_name: str,
    layers: tuple[str, ...],
    term_names: Sequence[str],
    has_gradient: bool,
    shape: Sequence[int],
) -> NetworkPass:
    maps = {"pixels": torch.empty(tuple(shape), device="meta")}
    for each in preceding:
        maps = apply_lens(each, maps)
    images = get_single_map(lens, maps)
    check_rgb(lens.backbone.name, images, grey=True)
    count, channels, height, width = images.shape
    least = lens.backbone.min_size(layers)
    if min(height, width) < least:
        raise ValueError(
            f"{lens.backbone.name} needs images of at least {least} px a side for {layers[-1]}; got {height}x{width}."
        )
    options: Mapping[str, Any] = {"channels": 1} if channels == 1 else {}
    forward = count * lens.backbone.flops(height, width, layers, **options)
    backward = forward if has_gradient else 0.0
    return NetworkPass(
        lens.backbone.name,
        " @ ".join(map(repr, reversed(preceding))),
        input_name,
        layers,
        tuple(term_names),
        tuple(shape),
        has_gradient,
        forward,
        backward,
    )
