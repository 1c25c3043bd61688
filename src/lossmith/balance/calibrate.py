"""Measurement of a loss on images: the values of its terms and their gradient norms at the network's output."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lossmith.balance.calibration_report import CalibrationReport, TermCalibration, resolve_shares
from lossmith.balance.gramian import gradient_gramian, output_gradients
from lossmith.formula.loss import Loss
from lossmith.formula.weight import Weight

__all__ = ["calibrate"]


def calibrate(
    loss: Loss, batches: Iterable[Mapping[str, Tensor]] | Mapping[str, Tensor], *, source: str = ""
) -> CalibrationReport:
    """Measure the terms of a loss on images; gradient norms are root mean squares over the batches.

    Args:
        loss: The loss; its weights, knobs and schedules do not affect the measurement.
        batches: A batch of inputs by name, or several. If "pred" requires a gradient, inputs that are computed from it
            count too; otherwise it is measured by itself.
        source: What the images are and where the prediction comes from, for the report.

    Raises:
        ValueError: If there is no batch or no input "pred", a term is not finite, or the shares do not add up.
    """
    names, num_images = loss.names, 0
    means: list[Tensor] = []
    gramians: list[Tensor] = []
    connected: set[str] = set()
    for inputs in [batches] if isinstance(batches, Mapping) else batches:
        if "pred" not in inputs:
            raise ValueError(f"Calibration needs the input 'pred'; the inputs are {', '.join(inputs)}.")
        num_images += len(inputs["pred"])
        mean, gradients = _measure(loss, inputs)
        connected |= gradients.keys()
        means.append(mean)
        gramian = gradient_gramian(gradients, names) if gradients else torch.zeros(len(names), len(names))
        gramians.append(gramian.double().cpu())
    if not means:
        raise ValueError("Calibration needs at least one batch of inputs; got none.")
    mean, gramian = torch.stack(means).mean(dim=0), torch.stack(gramians).mean(dim=0)
    for i, name in enumerate(names):
        if not (bool(mean[i].isfinite()) and bool(gramian[i, i].isfinite())):
            raise ValueError(f"The term '{name}' is not finite on these images; `lossmith doctor` finds the cause.")
    norms = [math.sqrt(gramian[i, i]) if name in connected else None for i, name in enumerate(names)]
    batch_norms = torch.stack(gramians).diagonal(dim1=1, dim2=2).sqrt()  # (batches, terms)
    terms = _summarize(loss, mean, norms, batch_norms)
    return CalibrationReport(loss, terms, _cosines(gramian, norms), num_images, source)


def _measure(loss: Loss, inputs: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the batch means of the terms, (m,), and their gradients at "pred" by name."""
    with torch.enable_grad():
        if not inputs["pred"].requires_grad:
            inputs = {**inputs, "pred": inputs["pred"].detach().requires_grad_()}
        values = loss.evaluate(inputs)
        gradients = output_gradients(values, inputs["pred"])
    return torch.stack([values[name].detach().double().mean().cpu() for name in loss.names]), gradients


def _summarize(loss: Loss, mean: Tensor, norms: list[float | None], batch_norms: Tensor) -> tuple[TermCalibration, ...]:
    reference = next((norm for norm in norms if norm), None)
    weights = resolve_shares(loss.weights, loss.names, norms)
    weighted_norms = [abs(weight.final_value) * (norm or 0.0) for weight, norm in zip(weights, norms, strict=True)]
    total = sum(weighted_norms)
    return tuple(
        TermCalibration(
            name=name,
            weight=_format_weight(loss.weights[i]),
            value=float(mean[i]),
            norm=norm,
            relative_std=float(batch_norms[:, i].std(correction=0) / norm) if norm else 0.0,
            share=None if norm is None else weighted_norms[i] / total if total else 0.0,
            equal_weight=reference / norm if norm and reference else None,
        )
        for i, (name, norm) in enumerate(zip(loss.names, norms, strict=True))
    )


def _cosines(gramian: Tensor, norms: list[float | None]) -> tuple[tuple[float | None, ...], ...]:
    def cosine(i: int, j: int) -> float | None:
        one, other = norms[i], norms[j]
        return float(gramian[i, j]) / (one * other) if one and other else None

    return tuple(tuple(cosine(i, j) for j in range(len(norms))) for i in range(len(norms)))


def _format_weight(weight: Weight) -> str:
    if weight.share is not None and not weight.factors_without_share:
        return f"{weight.share:g}%"
    return f"{weight.scale:g}" if weight.is_constant else repr(weight)
