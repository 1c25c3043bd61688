"""Measuring a loss on some pictures: how large its terms are, and how hard each pulls at the output."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from lossmith.balance.calibration_report import Card, Row, resolved
from lossmith.balance.gramian import gramian, pulls
from lossmith.formula.loss import Loss
from lossmith.formula.weight import Weight

__all__ = ["calibrate"]


def calibrate(loss: Loss, batches: Iterable[Mapping[str, Tensor]] | Mapping[str, Tensor], *, source: str = "") -> Card:
    """What a loss's weights come to on some pictures; norms are the root of the mean square over the batches.

    Args:
        loss: The loss; weights, knobs and schedules do not matter for what is measured.
        batches: Views, or batches of views. Where "pred" carries a gradient, views that are made of it count, too;
            else it is taken by itself.
        source: What the pictures are and where the prediction came from, for the card.

    Raises:
        ValueError: There is no batch or no view "pred"; a term is not finite; or the shares do not add up.
    """
    names, pictures = loss.names, 0
    means: list[Tensor] = []
    gramians: list[Tensor] = []
    paths: set[str] = set()
    for views in [batches] if isinstance(batches, Mapping) else batches:
        if "pred" not in views:
            raise ValueError(f"Calibrating looks at the view 'pred'; the views are {', '.join(views)}.")
        pictures += len(views["pred"])
        with torch.enable_grad():
            begun = views if views["pred"].requires_grad else {**views, "pred": views["pred"].detach().requires_grad_()}
            values = loss.evaluate(begun)
            found = pulls(values, begun["pred"])
        paths |= found.keys()
        means.append(torch.stack([values[name].detach().double().mean().cpu() for name in names]))
        gramians.append(gramian(found, names).double().cpu() if found else torch.zeros(len(names), len(names)).double())
    if not means:
        raise ValueError("Calibrating wants at least one batch of views; got none.")
    value, product = torch.stack(means).mean(dim=0), torch.stack(gramians).mean(dim=0)
    for i, name in enumerate(names):
        if not (bool(value[i].isfinite()) and bool(product[i, i].isfinite())):
            raise ValueError(f"The term '{name}' is not a finite number on these pictures; lossmith doctor says why.")

    each = torch.stack(gramians).diagonal(dim1=1, dim2=2).sqrt()  # (batches, terms)
    norms = [math.sqrt(product[i, i]) if name in paths else None for i, name in enumerate(names)]
    reference = next((norm for norm in norms if norm), None)
    weights = resolved(loss.weights, names, norms)
    pull = [abs(weight.final) * (norm or 0.0) for weight, norm in zip(weights, norms, strict=True)]
    total = sum(pull)
    rows = tuple(
        Row(
            name=name,
            weight=text(loss.weights[i]),
            value=float(value[i]),
            norm=norm,
            spread=float(each[:, i].std(correction=0) / norm) if norm else 0.0,
            share=None if norm is None else pull[i] / total if total else 0.0,
            equal=reference / norm if norm and reference else None,
        )
        for i, (name, norm) in enumerate(zip(names, norms, strict=True))
    )

    def cosine(i: int, j: int) -> float | None:
        one, other = norms[i], norms[j]
        return float(product[i, j]) / (one * other) if one and other else None

    cosines = tuple(tuple(cosine(i, j) for j in range(len(names))) for i in range(len(names)))
    return Card(loss, rows, cosines, pictures, source)


def text(weight: Weight) -> str:
    """A weight as somebody would type it."""
    if weight.share is not None and not weight.plain:
        return f"{weight.share:g}%"
    return f"{weight.scale:g}" if weight.constant else repr(weight)
