"""The gradient of a term: whether it is there, reaches all of the picture, is the derivative, and stays finite."""

import math
from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor

from lossmith.doctor.inputs import STRESS_INPUTS, map_first
from lossmith.doctor.probe import ProbeResult, TermProbe
from lossmith.doctor.report import Finding, describe_error
from lossmith.losses.frequency import FocalFrequency
from lossmith.losses.vae import VQCommitment

__all__ = ["check_derivative", "check_dead_zone", "check_coverage", "check_finite"]

ORDINARY = ("black", "black on noise", "white", "constant", "equal", "opposite")
"""Hostile pictures that are pictures all the same; the others are numbers that a diverging network gives."""
PLAUSIBLE = {
    "black": map_first(lambda view: view * 1e-3),  # not quite, so that no pool has to choose among equals
    "white": map_first(lambda view: 1 - view * 1e-3),
    "overshooting": map_first(lambda view: view * 1.6 - 0.3),
}
"""Predictions at which a term must still know where to go."""
HOLDING = {
    FocalFrequency: "holds its weights fixed, as published",
    VQCommitment: "stops one gradient in each summand, as published",
}
"""Losses whose gradient is not the derivative of their value on purpose."""


def check_coverage(patient: TermProbe, answer: ProbeResult) -> Iterator[Finding]:
    """Whether a gradient comes at all, and at every pixel and channel."""
    found = {name: gradient for name, gradient in answer.gradients.items() if gradient is not None}
    if not answer.norm:
        why = "no gradient comes" if not found else "its gradient is exactly zero"
        yield patient.finds(
            "error",
            "gradient",
            f"Its value is {float(answer.value.mean()):.4g}, and {why}: nothing can follow it.",
            "Look for no_grad, detach, .item(), rounding or argmax on the way from the prediction.",
        )
        return
    masked = "mask" in patient.term.inputs
    for name in patient.pictures:
        gradient = found.get(name)
        if gradient is None or masked or name != "pred":
            continue
        dead = (gradient == 0).all(dim=1).float().mean(dim=0)  # the share of images in which a pixel has none
        blind = float((dead == 1).float().mean())
        channels = [c for c in range(gradient.shape[1]) if not gradient[:, c].any()]
        if blind > 0.1:
            rows, columns = ((dead < 1).any(dim=d).nonzero().flatten().tolist() for d in (1, 0))
            box = f"rows {rows[0]} to {rows[-1]}, columns {columns[0]} to {columns[-1]}" if rows else "none"
            yield patient.finds(
                "error" if blind > 0.25 else "warning",
                "partial",
                f"Its gradient reaches only {1 - blind:.0%} of the pixels of {tuple(gradient.shape[2:])} ({box}).",
                "Look for crops, strides or masks that leave pixels out.",
            )
        elif channels:
            yield patient.finds(
                "warning",
                "partial",
                f"Its gradient never reaches the channel(s) {', '.join(map(str, channels))} of {gradient.shape[1]}.",
                "Weigh all channels, or say in its name that it does not look at them.",
            )


def check_derivative(patient: TermProbe, answer: ProbeResult) -> Iterator[Finding]:
    """Whether the gradient is the derivative of the value: along two random directions, in float64 where it can be."""
    if held := HOLDING.get(type(patient.term.distance)):
        yield patient.finds("note", "derivative", f"Its gradient is not its derivative: it {held}.")
        return
    moving = [name for name, gradient in answer.gradients.items() if gradient is not None and gradient.any()]
    off, said, true = math.inf, 0.0, 0.0
    for dtype, step in ((torch.float64, 1e-6), (torch.float64, 1e-4), (torch.float32, 1e-3)):
        if off <= 0.05:  # else a larger step: a callable may round inside
            break
        try:
            slopes, truth = _slopes(patient, moving, dtype, step)
        except (RuntimeError, TypeError):  # float32 weights, say
            continue
        error = float((slopes - truth).norm() / torch.maximum(slopes.norm(), truth.norm()).clamp_min(1e-300))
        if error < off:
            off, said, true = error, float(slopes[0]), float(truth[0])
    if off > 0.05:
        yield patient.finds(
            "error" if off > 0.5 else "warning",
            "derivative",
            f"Moving the prediction a little changes the value by {true:.3g} a unit where the gradient "
            f"says {said:.3g} ({off:.0%} off): a part of the value gives no gradient, or another one.",
            "Look for no_grad or detach around a part of it; if that part is held fixed on purpose, this is as meant.",
        )


def _slopes(patient: TermProbe, moving: list[str], dtype: torch.dtype, step: float) -> Tensor:
    """What the gradient says of two directions, and what the value says, (2, 2)."""
    views = {name: view.to(dtype) if view.is_floating_point() else view for name, view in patient.one.items()}
    answer = patient.ask(views)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(2):
        way = {n: (torch.rand(views[n].shape, generator=generator) < 0.5).to(views[n]) * 2 - 1 for n in moving}
        said = sum(float((way[n] * g).sum()) for n in moving if (g := answer.gradients[n]) is not None)
        ends = [
            patient.ask({n: v + sign * step * way[n] if n in way else v for n, v in views.items()}, gradient=False)
            for sign in (1, -1)
        ]
        rows.append((said, float((ends[0].value - ends[1].value).mean()) / (2 * step)))
    return torch.tensor(rows, dtype=torch.float64).T


def check_finite(patient: TermProbe, answer: ProbeResult) -> Iterator[Finding]:
    """Whether value and gradient stay finite, and the gradient of one size, on hostile views."""
    broken: dict[str, list[str]] = {}
    steep: dict[str, float] = {}
    for kind, change in STRESS_INPUTS.items():
        views = change(patient.one)
        try:
            found = patient.ask(views)
        except Exception as error:  # whatever a foreign callable raises
            if kind in ORDINARY:
                yield patient.finds(
                    "error",
                    "refuses",
                    f"It stops on views that are {kind}: {describe_error(error)}",
                    "Every training meets such pictures; let it give a number there.",
                )
            continue
        value, gradient = found.finite
        if not (value and gradient):
            what = "value" if not value else "gradient"
            broken.setdefault(f"{what}, {'ordinary' if kind in ORDINARY else 'extreme'}", []).append(kind)
        elif kind in ORDINARY and answer.norm and found.norm > 1e4 * answer.norm:
            steep[kind] = found.norm / answer.norm
    for what, kinds in broken.items():
        name, _, sort = what.partition(", ")
        yield patient.finds(
            "error" if sort == "ordinary" else "warning",
            "finite",
            f"Its {name} is NaN or infinite on views that are {', '.join(kinds)}.",
            "Look for a division, root, logarithm or power at zero, and for an epsilon outside the root.",
        )
    if steep:
        kind = max(steep, key=lambda each: steep[each])
        yield patient.finds(
            "warning",
            "steep",
            f"Its gradient is {steep[kind]:.2g} times as large on a picture that is {kind} as on noise.",
            "Look for a root or a ratio near zero, and give it a larger epsilon.",
        )


def check_dead_zone(patient: TermProbe, answer: ProbeResult) -> Iterator[Finding]:
    """Whether there are predictions far from the best at which nothing pulls."""
    if patient.pictures[:1] != ("pred",):
        return
    answers: dict[str, ProbeResult] = {}
    for kind, change in PLAUSIBLE.items():
        try:
            answers[kind] = patient.ask(change(patient.one))
        except Exception as error:  # whatever a foreign callable raises
            if kind == "overshooting":
                yield patient.finds(
                    "warning",
                    "overshoot",
                    f"It stops where a prediction leaves [0, 1]: {describe_error(error)}",
                    "Networks overshoot, at first by much: end yours in a sigmoid, or clamp before it and keep another "
                    "term, which pulls back what is clamped.",
                )
    best = _least(patient, [answer, *answers.values()])
    worst: tuple[float, str, float] | None = None
    for kind, found in answers.items():
        gradient = found.gradients.get("pred")
        if gradient is None or "mask" in patient.term.inputs:
            continue
        usual = answer.gradients["pred"]
        lacking = found.value - best > 1e-3 * (found.value.abs() + abs(best))
        still = (gradient == 0).float().flatten(1).mean(dim=1)[lacking]
        if usual is not None and bool((still < 1).all()):  # what is never looked at is not what died here
            still = still - (usual == 0).float().mean()
        if len(still) and (worst is None or float(still.max()) > worst[0]):
            worst = float(still.max()), kind, float(found.value[lacking][still.argmax()])
    if worst and worst[0] > 0.2:
        share, kind, value = worst
        much = "100%" if share == 1 else f"{min(share, 0.99):.0%}"
        yield patient.finds(
            "error" if share == 1 else "warning",
            "dead zone",
            f"Where the prediction is {kind}, {much} of its numbers have no gradient, though its value is "
            f"{value:.3g} and could be {best:.3g}.",
            "Look for clamp, ReLU, rounding or a maximum between the prediction and the value.",
        )


def _least(patient: TermProbe, answers: list[ProbeResult]) -> float:
    """The least value that it has anywhere, as far as we know."""
    values = [value for answer in answers for value in answer.value.tolist()]
    for kind in ("equal", "constant"):
        with suppress(Exception):  # which is found elsewhere
            values += patient.ask(STRESS_INPUTS[kind](patient.one), gradient=False).value.tolist()
    return min((value for value in values if math.isfinite(value)), default=math.inf)
