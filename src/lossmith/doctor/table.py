"""The hostile table: every loss on every bad input gives numbers, or one clear line."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor

from lossmith import losses
from lossmith.doctor.inputs import STRESS_INPUTS, Transform, Inputs, map_first, make_inputs, with_untrained_networks
from lossmith.formula.loss import Hybrid, Loss
from lossmith.lenses.dists import DISTS_LAYERS
from lossmith.parser import parse

__all__ = ["EDGE_CASES", "TableCell", "Outcome", "EdgeCaseTable", "public_losses"]

Outcome = Literal["finite", "refused", "marked", "untouched", "bad"]
SIDES = (24, 32, 64, 192)
"""The side of the pictures: the first that a loss takes."""
ARGUMENTS = {
    "Lp": "Lp(1.5)",
    "TextAlignment": "TextAlignment @ CLIP('tiny', weights='random')",
    "TextContrast": "TextContrast @ CLIP('tiny', weights='random')",
    "TextureStructure": f"TextureStructure @ Sensitivity @ PooledVGG({list(DISTS_LAYERS)})",
}
"""Losses that want an argument, or a lens before them."""


def channels(count: int) -> Transform:
    """Pictures with other channels than three."""
    return pictures(lambda view: view.mean(dim=1, keepdim=True).expand(-1, count, -1, -1).clone())


def corner(height: int, width: int) -> Transform:
    """Pictures of a few pixels."""
    return pictures(lambda view: view[..., :height, :width])


def pictures(change: Any) -> Transform:
    """The same for every view with the shape of a picture."""
    return lambda views: {n: change(v) if v.dim() == 4 and v.shape[1] == 3 else v for n, v in views.items()}


def nan(view: Tensor) -> Tensor:
    """One number in the middle of the first image as none."""
    marked = view.clone()
    marked[(0, *(side // 2 for side in view.shape[1:]))] = float("nan")
    return marked


def cut(share: float) -> Transform:
    """The last of several views smaller than the others: a picture by columns, a vector by numbers, or by images."""

    def smaller(views: Inputs) -> Inputs:
        name = list(views)[-1]
        view = views[name]
        left = max(1, int(share * view.shape[-1]))
        return views | {name: view[..., :left]} if len(views) > 1 else views

    return smaller


EDGE_CASES: dict[str, Transform] = {
    "noise": lambda views: dict(views),
    **STRESS_INPUTS,
    "[0, 255]": pictures(lambda view: 255 * view),
    "[-1, 1]": pictures(lambda view: 2 * view - 1),
    "a NaN": map_first(nan),
    "1x1 px": corner(1, 1),
    "1x9 px": corner(1, 9),
    "2x2 px": corner(2, 2),
    "grey": channels(1),
    "RGBA": channels(4),
    "channels last": pictures(lambda view: view.permute(0, 2, 3, 1).contiguous()),
    "one picture": pictures(lambda view: view[0]),
    "whole numbers": lambda views: {name: (255 * view).long() for name, view in views.items()},
    "half as wide": cut(0.5),
    "a column less": cut(0.98),
    "grey target": lambda views: {n: v.mean(dim=1, keepdim=True) if n == "target" else v for n, v in views.items()},
    "no image": lambda views: {name: view[:0] for name, view in views.items()},
}
"""What a loss is tried on, by name."""


@final
@dataclass(frozen=True)
class TableCell:
    """What became of one loss on one input.

    Args:
        loss: The loss's public name.
        given: The input's name.
        outcome: "finite" (value and gradient are numbers), "refused" (one clear line), "marked" (a NaN in a picture
            shows in the value of this image, and of no other), "untouched" (the input is as the loss's views were, a
            vector for one has no channels) or "bad" (anything else).
        said: The message, or what was bad.
    """

    loss: str
    given: str
    outcome: Outcome
    said: str = ""


@final
@dataclass(frozen=True)
class EdgeCaseTable:
    """The hostile table.

    Args:
        cells: Row by row.
        skipped: Losses that could not be made, with the reason.
    """

    cells: tuple[TableCell, ...]
    skipped: Mapping[str, str]

    @classmethod
    def of(cls, made: Mapping[str, Loss], skipped: Mapping[str, str] | None = None) -> "EdgeCaseTable":
        """The table of some losses by their names."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = (fill_row(name, Hybrid(loss.terms)) for name, loss in made.items())
            return cls(tuple(cell for cells in rows for cell in cells), skipped or {})

    @property
    def bad(self) -> tuple[TableCell, ...]:
        """The cells that are neither numbers nor a clear line."""
        return tuple(cell for cell in self.cells if cell.outcome == "bad")

    def as_dict(self) -> dict[str, Any]:
        """The table's figures: cells are those that some input touches; and every bad one."""
        count = Counter(cell.outcome for cell in self.cells)
        return {
            "losses": len({cell.loss for cell in self.cells}),
            "inputs": len({cell.given for cell in self.cells}),
            "cells": len(self.cells) - count["untouched"],
            **{outcome: count[outcome] for outcome in ("finite", "refused", "marked", "untouched", "bad")},
            "bad_cells": [{"loss": c.loss, "input": c.given, "said": c.said} for c in self.bad],
            "skipped": dict(self.skipped),
        }


def public_losses(*, trained: bool = False) -> tuple[dict[str, Loss], dict[str, str]]:
    """Every public loss and recipe with its defaults, by name, that a formula can name; and those that cannot be made.

    Args:
        trained: Whether networks have their weights; untrained ones need no file and are the same everywhere.
    """
    made: dict[str, Loss] = {}
    skipped: dict[str, str] = {}
    for name in losses.__all__:
        if name == "External":
            skipped[name] = "it is made in Python, of somebody's callable"
            continue
        try:
            loss = parse(ARGUMENTS.get(name, name))
            if not trained:
                loss, _ = with_untrained_networks(loss, every=True)
            assert loss.weight_hashes is not None  # which looks for the files of heads, and of networks
            made[name] = loss
        except ValueError as error:
            skipped[name] = str(error).splitlines()[0]
    return made, skipped


def fill_row(name: str, loss: Hybrid) -> Iterator[TableCell]:
    """One loss on every input."""
    for given, change in EDGE_CASES.items():
        ordinary = fitting_inputs(loss)
        views = change(ordinary)
        if given != "noise" and all(views[view] is ordinary[view] for view in views):
            yield TableCell(name, given, "untouched")
            continue
        outcome, said = run_case(loss, views, torch.float16 in {view.dtype for view in views.values()})
        alike = len({view.shape[-1] for view in ordinary.values()}) == 1  # a hidden map never was
        if outcome == "finite" and given in ("half as wide", "a column less") and alike:
            readers = [term for term in loss.terms if list(views)[-1] in term.inputs.values()]
            if not all(term.sums_over_positions for term in readers):  # as a Gram matrix does, which then has no places to compare
                outcome, said = "bad", "it compares pictures of two sizes"
        if outcome == "refused" and given == "noise":
            outcome, said = "bad", f"the table made up no views that it takes: {said}"
        yield TableCell(name, given, outcome, said)


def fitting_inputs(loss: Hybrid) -> Inputs:
    """Views that it takes: of the first size that none of its terms refuses."""
    for side in SIDES:
        views = make_inputs(loss, (side, side))
        try:
            with torch.no_grad():
                loss.evaluate(views)
        except ValueError:
            continue
        return views
    return views


def run_case(loss: Hybrid, views: Inputs, scaled: bool) -> tuple[Outcome, str]:
    """What becomes of a loss on some views; if `scaled`, with a gradient in half precision's range, as AMP takes it."""
    learns = {v for t in loss.terms for p, v in t.inputs.items() if p != "target" and views[v].is_floating_point()}
    leaves = {name: views[name].detach().clone().requires_grad_() for name in learns}
    try:
        values = loss.evaluate({**views, **leaves})
        total = loss.weighted_sum(values)
        found: tuple[Tensor | None, ...] = ()
        if leaves and total.requires_grad:
            aim = total / total.detach().abs().clamp_min(1) if scaled else total
            found = torch.autograd.grad(aim, list(leaves.values()), allow_unused=True)
    except ValueError as error:
        said = str(error)
        clear = said and "\n" not in said
        return ("refused", said) if clear else ("bad", f"ValueError of {len(said.splitlines())} lines: {said[:80]}")
    except Exception as error:
        return "bad", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    each = torch.stack([value.detach() for value in values.values()])
    if not all(bool(view.isfinite().all()) for view in views.values()):
        return classify_nonfinite(loss, each)
    if not (bool(each.isfinite().all()) and bool(total.isfinite())):
        return "bad", f"the value is {float(total):.3g}"
    if not all(bool(gradient.isfinite().all()) for gradient in found if gradient is not None):
        return "bad", "the gradient is NaN or infinite"
    return "finite", ""


def classify_nonfinite(loss: Hybrid, values: Tensor) -> tuple[Outcome, str]:
    """Whether a NaN shows in the value of its own image, and in no other's."""
    marked = ~values.isfinite().all(dim=0)
    if not bool(marked[0]):
        return "bad", "the value hides that its picture is no number"
    if bool(marked[1:].any()) and not any(term.distance.is_batch_dependent for term in loss.terms):
        return "bad", "one image that is no number spoils the values of the others"
    return "marked", ""
