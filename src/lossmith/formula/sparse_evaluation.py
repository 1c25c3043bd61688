"""Evaluation of terms in a training step: sparse terms see a part of the batch only.

The parts are drawn on the host, so that a step on an accelerator does not wait. Terms that see the same part share the
passes of their networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossmith.engine.batch_subset import BatchSubset
from lossmith.engine.feature_cache import FeatureCache
from lossmith.engine.nonfinite import NonFiniteGuard
from lossmith.formula.sampling import Part, Window, find_factor
from lossmith.formula.snr_gate import find_gates, find_open_images
from lossmith.formula.term import Term, collect_term_layers
from lossmith.formula.term_evaluation import evaluate_term

__all__ = ["WHOLE", "SparseKind", "collect_whole_layers", "evaluate_terms", "group_terms"]


@dataclass(frozen=True)
class SparseKind:
    """The part of a batch that a term sees.

    Args:
        is_gated: Whether the term sees only the images for which some gate is open.
        part: The fraction of the images; None for all.
        window: The window of each image; None for the whole images.
    """

    is_gated: bool = False
    part: Part | None = None
    window: Window | None = None

    @property
    def fraction(self) -> float:
        """The fraction of the images."""
        return 1.0 if self.part is None else self.part.fraction


WHOLE = SparseKind()


def evaluate_terms(
    terms: Mapping[str, Term], cache: FeatureCache, guard: NonFiniteGuard | None = None, *, sampled: bool
) -> dict[str, Tensor]:
    """Compute terms, unweighted.

    Args:
        terms: The terms by name.
        cache: The cache of the whole batch.
        guard: Handles non-finite values and gradients.
        sampled: Whether terms with a part or a window see this part only, and gated terms the images of open gates.

    Returns:
        One value per image, (N,), by name; of a sparse term, unbiased estimates with 0 for images that are not seen.

    Raises:
        ValueError: The inputs of a term with a window differ in height or width.
    """
    if not (sampled and any(term.is_sparse for term in terms.values())):
        return {n: evaluate_term(t, cache.with_guard(guard.for_term(n)) if guard else cache) for n, t in terms.items()}
    open_images = find_open_images([term.weight for term in terms.values()], cache.inputs)
    groups = group_terms(terms, is_gated=open_images is not None)
    cache.restrict_layers(collect_whole_layers(groups))
    values: dict[str, Tensor] = {}
    for kind, among in groups.items():
        part, subset = cache, None
        if kind != WHOLE:
            subset = _draw_subset(kind, among, cache.inputs, open_images)
            names = frozenset(name for term in among.values() for name in term.input_names)
            part = cache.for_subset(subset, names, collect_term_layers(among.values()))
        for name, term in among.items():
            if subset is None:
                values[name] = evaluate_term(term, cache.with_guard(guard.for_term(name)) if guard else cache)
            elif subset.is_empty:
                values[name] = _connected_zeros(term, cache.inputs)
            else:
                value = evaluate_term(term, part.with_guard(guard.for_term(name)) if guard else part)
                values[name] = subset.spread(value * _window_scale(kind, term, subset, cache.inputs))
    return {name: values[name] for name in terms}


def group_terms(terms: Mapping[str, Term], *, is_gated: bool = False) -> dict[SparseKind, Mapping[str, Term]]:
    """Return the terms by the part of the batch that they see, larger parts first.

    Args:
        terms: The terms by name.
        is_gated: Whether the images with open gates are known.
    """
    groups: dict[SparseKind, dict[str, Term]] = {}
    for name, term in terms.items():
        gated = is_gated and bool(find_gates(term.weight)) and not term.distance.is_batch_dependent
        kind = SparseKind(gated, find_factor(term.weight, Part), find_factor(term.weight, Window))
        groups.setdefault(kind, {})[name] = term
    order = sorted(groups, key=lambda kind: (kind.window is not None, kind.is_gated, -kind.fraction))
    return {kind: groups[kind] for kind in order}


def collect_whole_layers(
    groups: Mapping[SparseKind, Mapping[str, Term]],
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the layers that the passes of the whole batch compute for each input at each network.

    These are the layers of the terms that see the whole batch, and those of terms that see some images as far as no
    pass has to be longer for them.
    """
    whole = list(groups.get(WHOLE, {}).values())
    own = collect_term_layers(whole)
    some = [term for kind, among in groups.items() if kind.window is None for term in among.values()]
    for term in some:
        union = collect_term_layers([*whole, term])
        own = {key: union[key] if union[key][-1] == layers[-1] else layers for key, layers in own.items()}
        whole += [term] if all(own[key] == union[key] for key in own) else []
    return own


def _draw_subset(
    kind: SparseKind, terms: Mapping[str, Term], inputs: Mapping[str, Tensor], open_images: Sequence[int] | None
) -> BatchSubset:
    """Draw the images and the window that the terms of one kind see."""
    first = inputs[next(iter(next(iter(terms.values())).inputs.values()))]
    n = len(first)
    images, scale = _draw_images(kind, n, open_images, first.device)
    window = None if kind.window is None else _draw_window(kind.window, *_image_size(terms, inputs), first.device)
    return BatchSubset(n, images, window, scale)


def _draw_images(
    kind: SparseKind, n: int, open_images: Sequence[int] | None, device: torch.device
) -> tuple[slice | Tensor | None, float]:
    """Return the drawn images, and the number of candidates over the number of drawn images."""
    candidates = open_images if kind.is_gated and open_images is not None else range(n)
    if kind.part is None or not candidates:
        return (None, 1.0) if len(candidates) == n else (_index(list(candidates), device), 1.0)
    count = kind.part.count_images(len(candidates))
    scale = len(candidates) / count
    if torch.compiler.is_compiling():  # a number on the host would be a constant of the graph
        return (torch.randint(n, (1,), device=device) + torch.arange(count, device=device)) % n, scale
    start = int(torch.randint(len(candidates), ()))
    chosen = sorted(candidates[(start + i) % len(candidates)] for i in range(count))
    return _index(chosen, device), scale


def _index(images: list[int], device: torch.device) -> slice | Tensor:
    """Return ascending images as a slice if they are neighbours, else as indices on the device."""
    start = images[0] if images else 0
    if images == list(range(start, start + len(images))):
        return slice(start, start + len(images))
    return torch.tensor(images).to(device, non_blocking=True)


def _image_size(terms: Mapping[str, Term], inputs: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the height and width that all images of the terms have."""
    for name, term in terms.items():
        tensors = [inputs[input_name] for input_name in term.inputs.values()]
        sizes = {(int(each.shape[2]), int(each.shape[3])) for each in tensors if each.dim() == 4}
        if len(sizes) > 1:
            found = ", ".join(f"{height}x{width}" for height, width in sorted(sizes))
            raise ValueError(f"Window needs inputs of equal height and width; those of '{name}' are {found}.")
    return sizes.pop()


def _draw_window(window: Window, height: int, width: int, device: torch.device) -> tuple[slice | Tensor, ...] | None:
    """Return the rows and columns of a random tile."""
    borders = [window.split(side) for side in (height, width)]
    if not torch.compiler.is_compiling():
        starts = [int(torch.randint(len(each) - 1, ())) for each in borders]
        return tuple(slice(each[i], each[i + 1]) for each, i in zip(borders, starts, strict=True))
    sides = [each[1] for each in borders]
    if any(side % tile for side, tile in zip((height, width), sides, strict=True)):
        return None  # tiles of several sizes are several graphs
    return tuple(
        torch.randint(len(each) - 1, (1,), device=device) * tile + torch.arange(tile, device=device)
        for each, tile in zip(borders, sides, strict=True)
    )


def _window_scale(kind: SparseKind, term: Term, subset: BatchSubset, inputs: Mapping[str, Tensor]) -> float:
    """Return the factor that makes the value of a window an estimate of the value of the whole image."""
    if kind.window is None or subset.window is None or not term.is_pointwise:
        return 1.0
    height, width = _image_size({"": term}, inputs)
    tiles = (len(kind.window.split(height)) - 1) * (len(kind.window.split(width)) - 1)
    if term.distance.tiling == "sum":
        return float(tiles)
    rows, columns = (e.stop - e.start if isinstance(e, slice) else len(e) for e in subset.window)
    return tiles * rows * columns / (height * width)


def _connected_zeros(term: Term, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return zeros (N,) that depend on the inputs, for a step in which no image of the batch has an open gate."""
    rows = [inputs[name].flatten(1)[:, 0] for parameter, name in term.inputs.items() if parameter != "target"]
    return torch.stack([0.0 * row.float() for row in rows]).sum(dim=0)
