"""The edge-case table: every loss on every edge case returns finite numbers or raises one clear line."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, final

import torch
from torch import Tensor

from lossmith import losses
from lossmith.device import fork_rng
from lossmith.doctor.edge_cases import EDGE_CASES
from lossmith.doctor.example_inputs import Inputs, make_inputs, with_untrained_networks
from lossmith.formula.loss import Hybrid, Loss
from lossmith.lens import Lens
from lossmith.parser import parse
from lossmith.parser.vocabulary import FORMULA_PLUGINS

__all__ = ["EdgeCaseTable", "Outcome", "TableCell", "public_losses"]

Outcome = Literal["finite", "rejected", "nan", "unaffected", "failed"]
_SIDES = (24, 32, 64, 192)
"""The sides of the images; the first that a loss accepts is used."""


@final
@dataclass(frozen=True)
class TableCell:
    """The outcome of one loss on one edge case.

    Args:
        loss: The name of the loss.
        case: The name of the edge case.
        outcome: "finite" (value and gradient are finite), "rejected" (a ValueError of one line), "nan" (a NaN in an
            image makes the value of this image, and of no other, NaN), "unaffected" (the edge case does not change the
            inputs of the loss) or "failed" (anything else).
        message: The error message or the reason of the failure.
    """

    loss: str
    case: str
    outcome: Outcome
    message: str = ""


@final
@dataclass(frozen=True)
class EdgeCaseTable:
    """The outcomes of losses on all edge cases.

    Args:
        cells: The cells, row by row.
        skipped: The losses that could not be built, with the reason.
    """

    cells: tuple[TableCell, ...]
    skipped: Mapping[str, str]

    @classmethod
    def of(
        cls,
        by_name: Mapping[str, Loss],
        skipped: Mapping[str, str] | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Evaluate losses by their names on all edge cases, on a device."""
        with fork_rng(torch.device(device)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = (_evaluate_row(name, Hybrid(loss.terms), device) for name, loss in by_name.items())
            return cls(tuple(cell for row in rows for cell in row), skipped or {})

    @property
    def failed(self) -> tuple[TableCell, ...]:
        """The cells with outcome "failed"."""
        return tuple(cell for cell in self.cells if cell.outcome == "failed")

    def as_dict(self) -> dict[str, Any]:
        """Return the counts of all outcomes and the failed cells, for JSON; unaffected cells are not counted."""
        count = Counter(cell.outcome for cell in self.cells)
        return {
            "losses": len({cell.loss for cell in self.cells}),
            "cases": len({cell.case for cell in self.cells}),
            "cells": len(self.cells) - count["unaffected"],
            **{outcome: count[outcome] for outcome in ("finite", "rejected", "nan", "unaffected", "failed")},
            "failed_cells": [{"loss": c.loss, "case": c.case, "message": c.message} for c in self.failed],
            "skipped": dict(self.skipped),
        }


def public_losses(*, trained: bool = False) -> tuple[dict[str, Loss], dict[str, str]]:
    """Build an example of every loss and recipe that a formula can name, and of the lenses of other packages behind L1.

    Names of installed packages and registered ones are included.

    Args:
        trained: Whether networks have their weights; untrained ones need no file and are the same everywhere.

    Returns:
        The losses by name, and the reasons why others could not be built.
    """
    built: dict[str, Loss] = {}
    plugins, skipped = FORMULA_PLUGINS.load_all()
    known: dict[str, Any] = {name: getattr(losses, name) for name in losses.__all__} | plugins
    for name, factory in known.items():
        is_lens = isinstance(factory, type) and issubclass(factory, Lens)
        try:
            loss = parse(getattr(factory, "example_formula", None) or (f"L1 @ {name}" if is_lens else name))
            if not trained:
                loss, _ = with_untrained_networks(loss, replace_all=True)
            assert loss.weight_hashes is not None  # raises if a weight file of a head or network is missing
            built[name] = loss
        except ValueError as error:
            skipped[name] = str(error).splitlines()[0]
    return built, skipped


def _evaluate_row(name: str, loss: Hybrid, device: torch.device | str) -> Iterator[TableCell]:
    """Evaluate one loss on all edge cases."""
    ordinary = _make_accepted_inputs(loss.to(device), device)
    has_one_width = len({tensor.shape[-1] for tensor in ordinary.values()}) == 1
    last = list(ordinary)[-1]
    # a Gram matrix has no positions and may compare two sizes
    needs_one_size = not all(term.sums_over_positions for term in loss.terms if last in term.inputs.values())
    for case, transform in EDGE_CASES.items():
        inputs = transform(ordinary)
        if case != "noise" and all(inputs[key] is ordinary[key] for key in inputs):
            yield TableCell(name, case, "unaffected")
            continue
        outcome, message = _run_case(loss, inputs, torch.float16 in {tensor.dtype for tensor in inputs.values()})
        is_shrunk = case in ("half width", "one column less") and has_one_width
        if outcome == "finite" and is_shrunk and needs_one_size:
            outcome, message = "failed", "the loss compares images of two sizes"
        if outcome == "rejected" and case == "noise":
            outcome, message = "failed", f"the made-up inputs do not fit the loss: {message}"
        yield TableCell(name, case, outcome, message)


def _make_accepted_inputs(loss: Hybrid, device: torch.device | str) -> Inputs:
    """Return inputs of the first size that no term rejects, or of the largest size."""
    for side in _SIDES:
        inputs = make_inputs(loss, (side, side), device=device)
        try:
            with torch.no_grad():
                loss.evaluate(inputs)
        except ValueError:
            continue
        return inputs
    return inputs


def _run_case(loss: Hybrid, inputs: Inputs, scaled: bool) -> tuple[Outcome, str]:
    """Evaluate a loss and its gradient.

    Args:
        loss: The loss.
        inputs: The inputs by name.
        scaled: Whether to scale the value into the range of float16, as a gradient scaler does.

    Returns:
        The outcome and the message.
    """
    names = {
        name
        for term in loss.terms
        for parameter, name in term.inputs.items()
        if parameter != "target" and inputs[name].is_floating_point()
    }
    leaves = {name: inputs[name].detach().clone().requires_grad_() for name in names}
    try:
        values = loss.evaluate({**inputs, **leaves})
        total = loss.weighted_sum(values)
        gradients: tuple[Tensor | None, ...] = ()
        if leaves and total.requires_grad:
            scalar = total / total.detach().abs().clamp_min(1) if scaled else total
            gradients = torch.autograd.grad(scalar, list(leaves.values()), allow_unused=True)
    except ValueError as error:
        message = str(error)
        if message and "\n" not in message:
            return "rejected", message
        return "failed", f"a ValueError of {len(message.splitlines())} lines: {message[:80]}"
    except Exception as error:
        return "failed", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    per_image = torch.stack([value.detach() for value in values.values()])
    if not all(bool(tensor.isfinite().all()) for tensor in inputs.values()):
        return _classify_nonfinite(loss, per_image)
    if not (bool(per_image.isfinite().all()) and bool(total.isfinite())):
        return "failed", f"the value is {float(total):.3g}"
    if not all(bool(gradient.isfinite().all()) for gradient in gradients if gradient is not None):
        return "failed", "the gradient is NaN or infinite"
    return "finite", ""


def _classify_nonfinite(loss: Hybrid, values: Tensor) -> tuple[Outcome, str]:
    """Check that a NaN in the first image affects its value and, unless images are compared, no other value."""
    is_nonfinite = ~values.isfinite().all(dim=0)
    if not bool(is_nonfinite[0]):
        return "failed", "the value hides a NaN of its image"
    if bool(is_nonfinite[1:].any()) and not any(term.distance.is_batch_dependent for term in loss.terms):
        return "failed", "a NaN in one image makes the values of other images NaN"
    return "nan", ""
