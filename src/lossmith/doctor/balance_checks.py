"""Checks of the balance of a loss: the shares of the terms in the gradient at the prediction, as of `calibrate`."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._format import format_percent
from lossmith.balance import CalibrationReport, calibrate
from lossmith.doctor.example_inputs import find_image_inputs, make_inputs
from lossmith.doctor.report import Finding
from lossmith.formula.loss import Hybrid, Loss
from lossmith.formula.snr_gate import Gate
from lossmith.formula.weight import Knob, Weight
from lossmith.losses import presets_restoration, presets_synthesis, presets_text_to_image

__all__ = ["bind_knobs", "check_balance", "find_imbalances", "find_preset", "measure_gradient_shares"]


def check_balance(
    loss: Loss,
    names: Collection[str],
    inputs: Mapping[str, Tensor] | None,
    size: tuple[int, int],
    channels: int | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Finding]:
    """Check that no term has less than 1 % of the gradient at the prediction, or another one more than 99 %.

    Terms whose weights depend on a knob or on the noise level are left out.

    Args:
        loss: The loss.
        names: The terms to compare.
        inputs: The inputs; None for made-up images.
        size: The size of made-up images.
        channels: The number of channels of made-up images; None for RGB, or more where a lens needs them.
        device: The device of the loss.
    """
    compared = [
        term
        for name, term in zip(loss.names, loss.terms, strict=True)
        if name in names and not term.weight.knobs and not any(isinstance(f, Gate) for f in term.weight.factors)
    ]
    if len(compared) < 2:
        return
    report = measure_gradient_shares(Hybrid(compared), inputs, size, channels, device)
    if report is not None:
        yield from find_imbalances(report, find_preset(loss))


def measure_gradient_shares(
    loss: Loss,
    inputs: Mapping[str, Tensor] | None = None,
    size: tuple[int, int] = (64, 64),
    channels: int | None = None,
    device: torch.device | str = "cpu",
) -> CalibrationReport | None:
    """Measure the gradient shares of the terms; None if there is no prediction, or a term cannot be measured.

    Args:
        loss: The loss.
        inputs: The inputs; None for made-up images with large shapes and little noise.
        size: The size of made-up images.
        channels: The number of channels of made-up images; None for RGB, or more where a lens needs them.
        device: The device of the loss.
    """
    if inputs is None:
        inputs = make_inputs(loss, size, channels=channels, device=device)
        inputs = _blur_images(inputs, find_image_inputs(loss, inputs))
    if "pred" not in inputs:
        return None
    try:
        return calibrate(loss, {name: tensor.detach() for name, tensor in inputs.items()}, source="made-up images")
    except ValueError:  # a term is not finite, or the shares do not add up
        return None


def find_imbalances(report: CalibrationReport, preset: str = "") -> Iterator[Finding]:
    """Yield a warning for each term with hardly any effect; a note if the weights are published ones.

    Args:
        report: The measured shares.
        preset: The name of the function that returns these weights.
    """
    shares = report.comparable_shares
    for name in report.negligible_terms:
        strongest = max(shares, key=lambda n: shares[n])
        message = (
            f"It has {format_percent(shares[name])}% of the gradient at the prediction beside "
            f"{format_percent(shares[strongest])}% of '{strongest}', and thus hardly any effect"
        )
        if preset:
            suggestion = "Keep them to reproduce the paper, or write shares."
            yield Finding("note", "balance", name, f"{message}; the weights are those of {preset}().", suggestion)
        else:
            factor = float(f"{shares[strongest] / shares[name]:.2g}")
            suggestion = (
                f"Multiply its weight by {factor:g} for the gradient norm of '{strongest}', or write shares, such as "
                f"30%*{name}; `lossmith calibrate` measures them on images."
            )
            yield Finding("warning", "balance", name, f"{message}.", suggestion)


def bind_knobs(loss: Loss, knobs: Mapping[str, float]) -> Hybrid:
    """Return a loss with numbers in the place of its knobs."""
    return loss.reweighted([_bind_weight(weight, knobs) for weight in loss.weights])


def _bind_weight(weight: Weight, knobs: Mapping[str, float]) -> Weight:
    values = [knobs[factor.name] for factor in weight.factors if isinstance(factor, Knob)]
    return Weight(weight.scale * math.prod(values), tuple(f for f in weight.factors if not isinstance(f, Knob)))


def find_preset(loss: Loss) -> str:
    """Return the name of the published loss with the same terms and weights; "" if there is none.

    Discriminators and schedules may differ, since they are arguments of the functions.
    """
    for module in (presets_restoration, presets_synthesis, presets_text_to_image):
        for name in module.__all__:
            if _published_weights(getattr(module, name)()) == _published_weights(loss):
                return str(name)
    return ""


def _published_weights(loss: Loss) -> list[tuple[str, float]]:
    """Return the text and the number of each term, whatever the weight files of its networks."""
    terms = loss.with_network_weights("random").terms
    compared = [term for term in terms if term.distance.discriminator_step is None]
    return [(repr(replace(term, weight=Weight())), term.weight.scale) for term in compared]


def _blur_images(inputs: dict[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Replace noise by large shapes with little noise, since networks respond weakly to pure noise."""
    images = {n: t for n, t in inputs.items() if n in names and min(t.shape[2:]) >= 16}
    blurred = {
        n: F.interpolate(F.adaptive_avg_pool2d(t, 8) * 4 - 1.5, t.shape[2:], mode="bilinear", align_corners=False)
        for n, t in images.items()
    }
    return inputs | {n: (blurred[n] * 0.95 + 0.05 * t).clamp(0, 1) for n, t in images.items()}
