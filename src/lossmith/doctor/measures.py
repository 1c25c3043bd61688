"""The size of a term: its range, batch, resolution, direction, and its weight beside the others."""

from collections.abc import Iterator, Mapping

import torch.nn.functional as F
from torch import Tensor

from lossmith.doctor.inputs import STRESS_INPUTS, make_inputs, image_inputs
from lossmith.doctor.probe import ProbeResult, TermProbe
from lossmith.doctor.report import Finding
from lossmith.formula.loss import Loss
from lossmith.image import check_images
from lossmith.lens import Features
from lossmith.losses.external import External

__all__ = ["check_batch_independence", "check_balance", "check_value_range", "check_scale", "check_direction", "check_input_range"]

MADE = ("pred", "other", "sketch")
"""Views that a network makes, which may still be anywhere near."""

HEAVY = 1000.0
"""By how much the gradient of a term may exceed another's before that one counts for nothing."""


def check_input_range(loss: Loss, views: Mapping[str, Tensor]) -> Iterator[Finding]:
    """Whether pictures that somebody gave are RGB in [0, 1]; of what a network made, it warns."""
    for name in image_inputs(loss, views):
        if views[name].shape[1] not in (3, 4) and views[name].shape[-1] not in (3, 4):
            continue  # features, or grey on purpose
        try:
            check_images(f"The view '{name}'", views[name])
        except ValueError as error:
            seen, _, cure = str(error).partition(". ")
            yield Finding("warning" if name in MADE else "error", "range", "", f"{seen}.", cure)


def check_value_range(patient: TermProbe, answer: ProbeResult) -> Iterator[Finding]:
    """Whether its values lie where its class says."""
    low, high = patient.term.distance.value_range
    outside = (answer.value < low - 1e-5) | ((answer.value > high + 1e-5) & (patient.term.lens is None))
    if bool(outside.any()):
        yield patient.finds(
            "warning",
            "bounds",
            f"Its value is {float(answer.value[outside][0]):.4g}; its class says {low:g} to {high:g}.",
            "Look for a hidden factor or a wrong range, or correct `bounds`.",
        )


def check_batch_independence(patient: TermProbe, answer: ProbeResult) -> Iterator[Finding]:
    """Whether the value of an image depends on the others of its batch."""
    if patient.term.distance.is_batch_dependent:
        return
    alone = patient.ask(patient.one, gradient=False).value
    off = float((alone[0] - answer.value[0]).abs() / answer.value[0].abs().clamp_min(1e-12))
    if off > 1e-3:
        yield patient.finds(
            "warning",
            "batch",
            f"An image alone has the value {float(alone[0]):.4g}, and {float(answer.value[0]):.4g} beside another.",
            "Average over the batch nowhere; or say `mixes = True` if it compares images on purpose.",
        )


def check_scale(patient: TermProbe, answer: ProbeResult) -> Iterator[Finding]:
    """Whether its value grows with the resolution; through a network that pads, small pictures do not tell."""
    if any(isinstance(lens, Features) for _, lens in patient.term.path):
        return
    sides = {tuple(patient.views[name].shape[2:]) for name in patient.pictures}
    if len(sides) != 1 or len(patient.pictures) != len(patient.views):
        return
    ((height, width),) = sides
    small = {n: v[..., : height // 2, : width // 2] for n, v in patient.views.items()}
    try:
        value = float(patient.ask(small, gradient=False).value.mean())
    except Exception:  # too small for it, and a foreign callable may say so in any way
        return
    ratio = float(answer.value.mean()) / value if value > 0 else 1.0
    if ratio > 3.5:
        yield patient.finds(
            "note",
            "scale",
            f"Its value grows {ratio:.1f} times from {height // 2}x{width // 2} to {height}x{width} px.",
            "A weight then holds for one size of pictures only; a mean over pixels would not.",
        )


def check_direction(patient: TermProbe, answer: ProbeResult) -> Iterator[Finding]:
    """Whether a foreign callable is a similarity and no distance."""
    if not isinstance(patient.term.distance, External):
        return
    equal = patient.ask(STRESS_INPUTS["equal"](patient.one), gradient=False).value
    if bool(equal[0] > answer.value[0]):
        yield patient.finds(
            "error",
            "direction",
            f"It is {float(equal[0]):.4g} for equal pictures and {float(answer.value[0]):.4g} for different ones: "
            "training would drive them apart.",
            "It is a similarity: take one minus it, or give it a negative weight.",
        )


def check_balance(
    loss: Loss, names: list[str], views: Mapping[str, Tensor] | None, side: tuple[int, int]
) -> Iterator[Finding]:
    """Whether a term's gradient at the prediction, times its weight, is a thousand times another's."""
    if views is None:
        views = _blurred(make_inputs(loss, side))
    if len(names) < 2 or "pred" not in views:
        return
    pulls, terms = {}, dict(zip(loss.names, loss.terms, strict=True))
    for name, gradient in loss.gradients(views).items():
        term = terms[name]
        weight = term.weight
        if name in names and not weight.knobs and term.distance.discriminator_step is None:  # a critic has yet to learn how to pull
            pulls[name] = abs(weight.scale) * float(gradient.double().norm())
    pulls = {name: pull for name, pull in pulls.items() if 0 < pull < float("inf")}
    if len(pulls) < 2:
        return
    strong, weak = max(pulls, key=lambda n: pulls[n]), min(pulls, key=lambda n: pulls[n])
    if pulls[strong] > HEAVY * pulls[weak]:
        yield Finding(
            "warning",
            "balance",
            strong,
            f"Its weight times its gradient is {pulls[strong] / pulls[weak]:,.0f} times that of '{weak}', which then "
            "counts for nothing.",
            f"Weigh '{strong}' less or '{weak}' more, if you want both.",
        )


def _blurred(views: dict[str, Tensor]) -> dict[str, Tensor]:
    """Pictures with large shapes and a little noise, since networks see little in noise alone."""
    pictures = {n: v for n, v in views.items() if v.dim() == 4 and v.shape[1] == 3 and min(v.shape[2:]) >= 16}
    soft = {
        n: F.interpolate(F.adaptive_avg_pool2d(v, 8) * 4 - 1.5, v.shape[2:], mode="bilinear", align_corners=False)
        for n, v in pictures.items()
    }
    return views | {n: (soft[n] * 0.95 + 0.05 * v).clamp(0, 1) for n, v in pictures.items()}
