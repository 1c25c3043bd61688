"""The examination of a loss: all checks of all terms."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from lossmith.device import fork_rng
from lossmith.doctor import balance_checks, call_checks, gradient_checks, module_checks, value_checks
from lossmith.doctor.example_inputs import (
    Inputs,
    find_image_inputs,
    first_images,
    make_inputs,
    min_batch_size,
    with_untrained_networks,
)
from lossmith.doctor.probe import TermProbe, copy_loss
from lossmith.doctor.report import DoctorReport, Finding, split_cure
from lossmith.formula.loss import Hybrid, Loss
from lossmith.formula.term import Term
from lossmith.formula.weight import Weight

__all__ = ["check"]

_SIDES = (64, 96, 192)
"""The sides of made-up images; the first that the loss accepts is used."""


def check(
    loss: Loss,
    inputs: Mapping[str, Tensor] | None = None,
    *,
    shape: Sequence[int] | None = None,
    channels: int | None = None,
    device: torch.device | str = "cpu",
) -> DoctorReport:
    """Examine a loss before a training, on a copy in training mode.

    Each term is evaluated on noise and on edge cases. With inputs, such as the first batch of a run, their value ranges
    and the balance of the terms are checked too; the noise then has the shapes of the inputs, or is a crop of 64 px if
    all inputs are images of one size. The global random state, the loss and the inputs are not changed.

    Args:
        loss: The loss.
        inputs: The inputs of the loss by name; None for made-up inputs.
        shape: The shape (N, C, H, W) of made-up images; by default two images of the first of 64, 96 and 192 px a side
            that every term accepts.
        channels: The number of channels of made-up images without a shape; None for RGB, or more where a lens needs
            them.
        device: The device of the examination with made-up inputs; that of given inputs otherwise.

    Returns:
        The findings, errors first; call `raise_if_broken()` to stop a training before its first step.

    Raises:
        ValueError: If the shape is not a batch of images, or an input of the loss is missing.

    Example:
        >>> from lossmith import L1, TV
        >>> print(check(0.5 * L1() + TV()))
        0.5 * L1() + TV(): no problems found.
        >>> check(L1(), {"pred": torch.rand(1, 3, 8, 8), "target": 255 * torch.rand(1, 3, 8, 8)}).errors[0].suggestion
        'Divide by 255.'
    """
    if shape is not None and (len(shape) != 4 or min(shape) < 1):
        raise ValueError(f"check needs the shape of a batch, (N, C, H, W); got {tuple(shape)}.")
    channels = shape[1] if shape else channels
    device = next(iter(inputs.values())).device if inputs else torch.device(device)
    with fork_rng(device), torch.inference_mode(False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        findings = list(_examine(loss, inputs, shape, channels, device))
    return DoctorReport.from_findings(repr(loss), findings)


def _examine(
    loss: Loss,
    inputs: Mapping[str, Tensor] | None,
    shape: Sequence[int] | None,
    channels: int | None,
    device: torch.device,
) -> Iterator[Finding]:
    hybrid, missing = with_untrained_networks(loss)
    hybrid = copy_loss(hybrid).train().to(device)
    for message in missing:
        yield Finding("warning", "weights", "", "The loss was examined with an untrained network.", message)
    if inputs is not None:
        inputs = {name: tensor.detach() for name, tensor in inputs.items()}
        hybrid.feature_cache(inputs)
        yield from value_checks.check_input_range(hybrid, inputs)
    correct: list[str] = []
    uncovered: list[Finding] = []
    for name, term in zip(hybrid.names, hybrid.terms, strict=True):
        findings = _examine_term(name, term, inputs, shape, channels, device)
        yield from (finding for finding in findings if finding.check != "coverage")
        uncovered += (finding for finding in findings if finding.check == "coverage")
        if not any(finding.severity == "error" for finding in findings):
            correct.append(name)
    covered_by_others = len(uncovered) < sum("pred" in term.inputs for term in hybrid.terms)
    for finding in uncovered:
        is_intended = covered_by_others and finding.severity == "note"
        severity = "warning" if covered_by_others or finding.severity == "note" else finding.severity
        yield from () if is_intended else (replace(finding, severity=severity),)
    if correct and not missing and (inputs is None or "pred" in inputs):  # an untrained network has other gradients
        size = (shape[2], shape[3]) if shape else _find_size(hybrid, channels, device)
        first = None if inputs is None else first_images(hybrid, inputs, min_batch_size(hybrid))
        yield from balance_checks.check_balance(hybrid, correct, first, size, channels, device)


def _examine_term(
    name: str,
    term: Term,
    inputs: Mapping[str, Tensor] | None,
    shape: Sequence[int] | None,
    channels: int | None,
    device: torch.device,
) -> list[Finding]:
    """Return the findings about one term, including those before an exception."""
    findings: list[Finding] = []
    loss = Hybrid([replace(term, weight=Weight())])
    try:
        noise = _make_noise(loss, inputs, shape, channels, device)
        for finding in _run_checks(TermProbe(name, term, noise, tuple(find_image_inputs(loss, noise)))):
            findings.append(finding)
    except Exception as error:  # an external callable may raise any exception
        reason, cure = split_cure(error)
        message = f"The term raises an exception for ordinary images: {reason}"
        suggestion = cure or "Call the term on such images; the remaining checks could not run."
        findings.append(Finding("error", "exception", name, message, suggestion))
    return findings


def _run_checks(probe: TermProbe) -> Iterator[Finding]:
    """Run all checks of one term, first those that explain failures of others."""
    if wrong_shape := list(call_checks.check_output_shape(probe)):
        yield from wrong_shape
        return
    before = probe.copy_state()
    yield from call_checks.check_mutation(probe)
    yield from module_checks.check_trainable(probe)
    randomness = list(call_checks.check_determinism(probe))
    yield from randomness
    yield from call_checks.check_precision(probe)
    yield from module_checks.check_inplace_layers(probe)
    result = probe.evaluate(probe.inputs)
    yield from call_checks.check_state(probe, before)
    yield from value_checks.check_value_range(probe, result)
    yield from value_checks.check_direction(probe, result)
    if not any(finding.severity == "error" for finding in randomness):
        yield from value_checks.check_batch_independence(probe, result)
        yield from value_checks.check_scale(probe, result)
        if result.gradient_norm:
            yield from gradient_checks.check_derivative(probe, result)
    yield from gradient_checks.check_coverage(probe, result)
    if result.gradient_norm:
        yield from gradient_checks.check_dead_zone(probe, result)
    yield from gradient_checks.check_finite(probe, result)
    yield from module_checks.check_dtype(probe)


def _make_noise(
    loss: Hybrid,
    inputs: Mapping[str, Tensor] | None,
    shape: Sequence[int] | None,
    channels: int | None,
    device: torch.device,
) -> Inputs:
    """Return noise of the given shapes for the images of one term, and its other inputs as given."""
    if inputs is None:
        if shape is None:
            return make_inputs(loss, _find_size(loss, channels, device), channels=channels, device=device)
        batch_size = max(shape[0], min_batch_size(loss))
        return make_inputs(loss, (shape[2], shape[3]), batch_size=batch_size, channels=channels, device=device)
    ordered = sorted(loss.input_names, key=lambda name: name != "pred")
    noise = first_images(loss, {name: inputs[name] for name in ordered}, min_batch_size(loss))
    images = find_image_inputs(loss, noise)
    generator = torch.Generator().manual_seed(0)
    for name in images:
        noise[name] = torch.rand(noise[name].shape, generator=generator).to(noise[name].device)
    target = noise.get("target")
    if "pred" in images and target is not None and target.shape == noise["pred"].shape:
        noise["pred"] = (noise["pred"] + target) / 2
    for name in {term.inputs["mask"] for term in loss.terms if "mask" in term.inputs}:
        noise[name] = torch.ones_like(noise[name])  # a given mask may be empty
    sizes = {tuple(tensor.shape[2:]) for tensor in noise.values() if tensor.dim() == 4}
    if len(sizes) == 1 and all(tensor.dim() == 4 for tensor in noise.values()):
        (size,) = sizes
        for side in _SIDES:
            crop = {name: tensor[..., :side, :side] for name, tensor in noise.items()}
            if min(size) > side and _accepts(loss, crop):
                return crop
    return noise


def _find_size(loss: Hybrid, channels: int | None, device: torch.device) -> tuple[int, int]:
    """Return the first size of images that the loss accepts."""
    for side in _SIDES:
        with suppress(ValueError):  # a lens takes no such images, which is reported by the checks of its term
            if _accepts(loss, make_inputs(loss, (side, side), channels=channels, device=device)):
                return side, side
    return _SIDES[0], _SIDES[0]


def _accepts(loss: Hybrid, inputs: Inputs) -> bool:
    try:
        with torch.no_grad():
            loss.evaluate(inputs)
    except ValueError:
        return False
    except RuntimeError:  # reported by the checks
        return True
    return True
