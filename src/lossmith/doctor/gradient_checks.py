"""Checks of a term's gradient: presence, coverage of the image, agreement with the value, finiteness."""

import math
from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor

from lossmith.doctor.edge_cases import FINITE_CASES, map_first
from lossmith.doctor.example_inputs import Inputs
from lossmith.doctor.probe import ProbeResult, TermProbe
from lossmith.doctor.report import Finding, describe_error

__all__ = ["check_coverage", "check_dead_zone", "check_derivative", "check_finite"]

_ORDINARY_CASES = ("black", "black on noise", "white", "constant", "equal", "opposite")
"""Edge cases that are ordinary images; the others occur only if a network diverges."""
_MAX_NOISES = 3
"""The number of further images with which pixels without a gradient are confirmed."""
_PLAUSIBLE_PREDICTIONS = {
    "black": map_first(lambda tensor: tensor * 1e-3),  # not exactly, so that max pooling has no ties
    "white": map_first(lambda tensor: 1 - tensor * 1e-3),
    "overshooting": map_first(lambda tensor: tensor * 1.6 - 0.3),
}
"""Predictions for which a term must have a gradient."""


def check_coverage(probe: TermProbe, result: ProbeResult) -> Iterator[Finding]:
    """Check that the gradient exists and reaches every pixel and channel."""
    gradients = {name: gradient for name, gradient in result.gradients.items() if gradient is not None}
    if not result.gradient_norm:
        reason = "there is no gradient" if not gradients else "the gradient is exactly 0"
        yield probe.finding(
            "error",
            "gradient",
            f"The value is {float(result.value.mean()):.4g}, but {reason}: the term cannot train a network.",
            "Look for no_grad, detach, .item(), rounding or argmax between the prediction and the value.",
        )
        return
    gradient = gradients.get("pred")
    if gradient is not None and "pred" in probe.images and "mask" not in probe.term.inputs:
        yield from _find_uncovered_pixels(probe, gradient)


def _find_uncovered_pixels(probe: TermProbe, gradient: Tensor) -> Iterator[Finding]:
    is_zero = (gradient == 0).all(dim=1).all(dim=0)  # at each pixel, over the images
    for seed in range(_MAX_NOISES):  # the signs of a few errors may cancel at a pixel by chance
        if float(is_zero.float().mean()) > 0.1:
            again = probe.evaluate(_draw_noise(probe, seed)).gradients["pred"]
            is_zero &= (again == 0).all(dim=1).all(dim=0) if again is not None else True
    uncovered = float(is_zero.float().mean())
    channels = [c for c in range(gradient.shape[1]) if not gradient[:, c].any()]
    if uncovered > 0.1:
        rows, columns = ((~is_zero).any(dim=d).nonzero().flatten().tolist() for d in (1, 0))
        box = f"rows {rows[0]} to {rows[-1]}, columns {columns[0]} to {columns[-1]}" if rows else "none"
        yield probe.finding(
            "error" if uncovered > 0.25 else "warning",
            "coverage",
            f"The gradient reaches only {1 - uncovered:.0%} of the pixels of {tuple(gradient.shape[2:])} ({box}).",
            "Look for crops, strides or masks that leave out pixels.",
        )
    elif channels:
        selects = any(stage.min_channels > 1 for _, stage in probe.term.path)
        yield probe.finding(
            "note" if selects else "warning",
            "coverage",
            f"The gradient never reaches channel(s) {', '.join(map(str, channels))} of {gradient.shape[1]}, from 0.",
            "Add a term on all bands, such as L1." if selects else "Use all channels, or state in the name which ones.",
        )


def _draw_noise(probe: TermProbe, seed: int) -> Inputs:
    """Return the inputs of a term with other noise for the images."""
    generator = torch.Generator().manual_seed(seed)
    noise = {name: torch.rand(probe.inputs[name].shape, generator=generator) for name in probe.images}
    return probe.inputs | {name: each.to(probe.inputs[name]) for name, each in noise.items()}


def check_derivative(probe: TermProbe, result: ProbeResult) -> Iterator[Finding]:
    """Check the gradient against finite differences along two random directions, in float64 where possible."""
    if note := probe.term.distance.gradient_note:
        yield probe.finding("note", "derivative", f"The gradient is not the derivative of the value: {note}.")
        return
    names = [name for name, gradient in result.gradients.items() if gradient is not None and gradient.any()]
    error, from_gradient, from_value = math.inf, 0.0, 0.0
    for dtype, step in ((torch.float64, 1e-6), (torch.float64, 1e-4), (torch.float32, 1e-3)):
        if error <= 0.05:  # otherwise try a larger step, since a callable may round
            break
        try:
            slopes, differences = _directional_derivatives(probe, names, dtype, step)
        except (RuntimeError, TypeError):  # such as float32 weights
            continue
        norm = torch.maximum(slopes.norm(), differences.norm()).clamp_min(1e-300)
        step_error = float((slopes - differences).norm() / norm)
        if step_error < error:
            error, from_gradient, from_value = step_error, float(slopes[0]), float(differences[0])
    if error > 0.05:
        yield probe.finding(
            "error" if error > 0.5 else "warning",
            "derivative",
            f"A small change of the prediction changes the value by {from_value:.3g} per unit, but the gradient gives "
            f"{from_gradient:.3g} ({error:.0%} off): a part of the value has no gradient, or a wrong one.",
            "Look for no_grad or detach around a part of the value. If it is held constant on purpose, set "
            "`gradient_note`.",
        )


def _directional_derivatives(probe: TermProbe, names: list[str], dtype: torch.dtype, step: float) -> Tensor:
    """Return the derivatives along two random directions, by the gradient and by differences of the value, (2, 2)."""
    inputs = {name: t.to(dtype) if t.is_floating_point() else t for name, t in probe.single_inputs.items()}
    result = probe.evaluate(inputs)
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(2):
        signs = {n: (torch.rand(inputs[n].shape, generator=generator) < 0.5).to(inputs[n]) * 2 - 1 for n in names}
        slope = sum(float((signs[n] * g).sum()) for n in names if (g := result.gradients[n]) is not None)
        forward, backward = (
            probe.evaluate({n: t + s * step * signs[n] if n in signs else t for n, t in inputs.items()}, gradient=False)
            for s in (1, -1)
        )
        rows.append((slope, float((forward.value - backward.value).mean()) / (2 * step)))
    return torch.tensor(rows, dtype=torch.float64).T


def check_finite(probe: TermProbe, result: ProbeResult) -> Iterator[Finding]:
    """Check that value and gradient are finite, and the gradient norm bounded, on edge cases."""
    nonfinite: dict[tuple[str, bool], list[str]] = {}
    ratios: dict[str, float] = {}
    for case, transform in FINITE_CASES.items():
        is_ordinary = case in _ORDINARY_CASES
        inputs = transform(probe.single_inputs)
        try:
            found = probe.evaluate(inputs)
        except Exception as error:  # an external callable may raise any exception
            if is_ordinary:
                yield probe.finding(
                    "error",
                    "exception",
                    f"The term raises an exception for inputs that are {case}: {describe_error(error)}",
                    "Every training meets such images; return a number for them.",
                )
            continue
        if not (found.has_finite_value and found.has_finite_gradients):
            part = "gradient" if found.has_finite_value else "value"
            nonfinite.setdefault((part, is_ordinary), []).append(case)
        elif is_ordinary and result.gradient_norm and found.gradient_norm > 1e4 * result.gradient_norm:
            ratios[case] = found.gradient_norm / result.gradient_norm
    for (part, is_ordinary), cases in nonfinite.items():
        yield probe.finding(
            "error" if is_ordinary else "warning",
            "finite",
            f"The {part} is NaN or infinite for inputs that are {', '.join(cases)}.",
            "Look for a division, root, logarithm or power at zero, and for an epsilon outside of the root.",
        )
    if ratios:
        case = max(ratios, key=lambda name: ratios[name])
        yield probe.finding(
            "warning",
            "gradient norm",
            f"The gradient norm is {ratios[case]:.2g} times as large for an image that is {case} as for noise.",
            "Look for a root or a ratio near zero, and use a larger epsilon.",
        )


def check_dead_zone(probe: TermProbe, result: ProbeResult) -> Iterator[Finding]:
    """Check that the gradient is not 0 for plausible predictions far from the minimum."""
    if probe.images[:1] != ("pred",):
        return
    results: dict[str, ProbeResult] = {}
    for case, transform in _PLAUSIBLE_PREDICTIONS.items():
        try:
            results[case] = probe.evaluate(transform(probe.single_inputs))
        except Exception as error:  # an external callable may raise any exception
            if case == "overshooting":
                yield probe.finding(
                    "warning",
                    "overshoot",
                    f"The term raises an exception if a prediction leaves [0, 1]: {describe_error(error)}",
                    "Networks overshoot, most at the start: end the network in a sigmoid, or clamp its output and keep "
                    "another term on the unclamped output.",
                )
    minimum = _lowest_value(probe, [result, *results.values()])
    if "mask" in probe.term.inputs:
        return
    worst = max(
        (dead for case, found in results.items() if (dead := _dead_fraction(case, found, result, minimum)) is not None),
        key=lambda dead: dead[0],
        default=None,
    )
    if worst and worst[0] > 0.2:
        fraction, case, value = worst
        percentage = "100%" if fraction == 1 else f"{min(fraction, 0.99):.0%}"
        yield probe.finding(
            "error" if fraction == 1 else "warning",
            "dead zone",
            f"For a prediction that is {case}, {percentage} of the values have no gradient, though the loss is "
            f"{value:.3g} and could be {minimum:.3g}.",
            "Look for clamp, ReLU, rounding or a maximum between the prediction and the value.",
        )


def _dead_fraction(
    case: str, found: ProbeResult, usual: ProbeResult, minimum: float
) -> tuple[float, str, float] | None:
    """Return the largest fraction of values without a gradient in an image whose loss could be lower.

    Returns:
        The fraction, the case, and the loss of the image; None if there is no such image or no gradient.
    """
    gradient, usual_gradient = found.gradients.get("pred"), usual.gradients["pred"]
    if gradient is None:
        return None
    is_reducible = found.value - minimum > 1e-3 * (found.value.abs() + abs(minimum))
    fractions = (gradient == 0).float().flatten(1).mean(dim=1)[is_reducible]
    if usual_gradient is not None and bool((fractions < 1).all()):  # values that are never read are another finding
        fractions = fractions - (usual_gradient == 0).float().mean()
    if not len(fractions):
        return None
    return float(fractions.max()), case, float(found.value[is_reducible][fractions.argmax()])


def _lowest_value(probe: TermProbe, results: list[ProbeResult]) -> float:
    """Return the lowest known value of the term."""
    values = [value for result in results for value in result.value.tolist()]
    for case in ("equal", "constant"):
        with suppress(Exception):  # reported by another check
            values += probe.evaluate(FINITE_CASES[case](probe.single_inputs), gradient=False).value.tolist()
    return min((value for value in values if math.isfinite(value)), default=math.inf)
