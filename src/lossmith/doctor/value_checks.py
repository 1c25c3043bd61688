"""Checks of a term's value: range, batch dependence, resolution and direction."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from lossmith.doctor.edge_cases import FINITE_CASES
from lossmith.doctor.example_inputs import find_image_inputs
from lossmith.doctor.probe import ProbeResult, TermProbe
from lossmith.doctor.report import Finding
from lossmith.formula.loss import Loss
from lossmith.image import check_images
from lossmith.lens import Features
from lossmith.losses.external import External

__all__ = [
    "check_batch_independence",
    "check_direction",
    "check_input_range",
    "check_scale",
    "check_value_range",
]

_NETWORK_OUTPUTS = ("pred", "other", "prior")
"""Inputs that an untrained network makes, whose range is only a warning."""


def check_input_range(loss: Loss, inputs: Mapping[str, Tensor]) -> Iterator[Finding]:
    """Check that given images are in [0, 1]; for outputs of a network, this is a warning.

    Inputs with another number of channels than photographs may be features or depths: of their values, only those of
    integers are reported, and NaN.
    """
    for name in find_image_inputs(loss, inputs):
        image = inputs[name]
        may_be_features = image.shape[1] not in (3, 4) and image.shape[-1] not in (3, 4)
        if may_be_features and bool(image.isfinite().all()) and not bool((image == image.round()).all()):
            continue
        try:
            check_images(f"The input '{name}'", image, channels=None)
        except ValueError as error:
            message, _, suggestion = str(error).partition(". ")
            severity = "warning" if name in _NETWORK_OUTPUTS else "error"
            yield Finding(severity, "range", "", f"{message}.", suggestion)  # type: ignore[arg-type]


def check_value_range(probe: TermProbe, result: ProbeResult) -> Iterator[Finding]:
    """Check that the values lie in the distance's declared range."""
    low, high = probe.term.distance.value_range
    outside = (result.value < low - 1e-5) | ((result.value > high + 1e-5) & (probe.term.lens is None))
    if bool(outside.any()):
        yield probe.finding(
            "warning",
            "value range",
            f"The value is {float(result.value[outside][0]):.4g}; the class declares {low:g} to {high:g}.",
            "Look for an unexpected factor or range, or correct `value_range`.",
        )


def check_batch_independence(probe: TermProbe, result: ProbeResult) -> Iterator[Finding]:
    """Check that the value of an image does not depend on the other images, unless the distance declares it."""
    if probe.term.distance.is_batch_dependent:
        return
    alone = probe.evaluate(probe.single_inputs, gradient=False).value
    difference = float((alone[0] - result.value[0]).abs() / result.value[0].abs().clamp_min(1e-12))
    if difference > 1e-3:
        yield probe.finding(
            "warning",
            "batch dependence",
            f"The value of an image is {float(alone[0]):.4g} alone and {float(result.value[0]):.4g} beside another.",
            "Do not average over the batch; or declare `is_batch_dependent = True` if images are compared on purpose.",
        )


def check_scale(probe: TermProbe, result: ProbeResult) -> Iterator[Finding]:
    """Report a value that grows with the resolution; not for networks, whose padding dominates small images."""
    if any(isinstance(lens, Features) for _, lens in probe.term.path):
        return
    sizes = {tuple(probe.inputs[name].shape[2:]) for name in probe.images}
    if len(sizes) != 1 or len(probe.images) != len(probe.inputs):
        return
    ((height, width),) = sizes
    small = {name: tensor[..., : height // 2, : width // 2] for name, tensor in probe.inputs.items()}
    try:
        value = float(probe.evaluate(small, gradient=False).value.mean())
    except Exception:  # the images are too small, which an external callable may report by any exception
        return
    ratio = float(result.value.mean()) / value if value > 0 else 1.0
    if ratio > 3.5:
        yield probe.finding(
            "note",
            "scale",
            f"The value grows by a factor of {ratio:.1f} from {height // 2}x{width // 2} to {height}x{width} px.",
            "A weight then applies to one image size; a mean over pixels would not depend on the size.",
        )


def check_direction(probe: TermProbe, result: ProbeResult) -> Iterator[Finding]:
    """Check that an external callable is a distance and not a similarity."""
    if not isinstance(probe.term.distance, External):
        return
    equal = probe.evaluate(FINITE_CASES["equal"](probe.single_inputs), gradient=False).value
    if bool(equal[0] > result.value[0]):
        yield probe.finding(
            "error",
            "direction",
            f"The value is {float(equal[0]):.4g} for equal images and {float(result.value[0]):.4g} for different ones: "
            "training would increase the difference.",
            "The callable is a similarity: use one minus it, or give it a negative weight.",
        )
