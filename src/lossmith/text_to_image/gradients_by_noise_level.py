"""How hard each term of a loss pulls at a diffusion network, and where to, at each level of noise."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from lossmith.formula.loss import Loss
from lossmith.tasks import Items
from lossmith.text_to_image.models.denoiser import Denoiser
from lossmith.text_to_image.prepare_loss import by_level
from lossmith.text_to_image.sample_callback import BINS, time_of
from lossmith.text_to_image.task import TextToImage

__all__ = ["pulls_by_level"]


def pulls_by_level(
    loss: Loss, task: TextToImage, model: Denoiser, items: Items, *, batch: int = 16, batches: int = 4, seed: int = 0
) -> dict[str, Any]:
    """The norm of each term's gradient at all weights of the network, and its cosine with the denoising's, by level.

    The same pictures and the same noise stand at every level; gradients are averaged over the batches, and terms are
    looked at with their gates and weights at 1. A term that helps has a cosine above 0 where it acts; where it is large
    and its cosine about 0, it pulls the network elsewhere.

    Args:
        loss: The loss; the first of its terms that is Denoising is the one that others are compared with.
        task: The task.
        model: The network.
        items: What it trains on.
        batch: Pictures together.
        batches: How many such.
        seed: Of the noise.

    Returns:
        "logsnr", the levels; and for each term "norm", "cosine" (None where one of the two is 0) and "value", a row of
        one number a level.
    """
    loss, _ = by_level(loss, model)
    task = task.giving(loss.reads)
    main = next((name for name in loss.names if name.startswith("Denoising")), loss.names[0])
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found: dict[str, dict[str, list[float | None]]] = {n: {"norm": [], "cosine": [], "value": []} for n in loss.names}
    for low, high in BINS:
        time = float(time_of(model.levels, (low + high) / 2))
        sums = {name: [torch.zeros_like(weight) for weight in weights] for name in loss.names}
        values = dict.fromkeys(loss.names, 0.0)
        for number, pictures in enumerate(at_level(model, items, time, batch, batches)):
            torch.manual_seed(seed + number)
            terms = loss.evaluate(task.views(model, pictures))
            for name, value in terms.items():
                values[name] += float(value.detach().mean()) / batches
                if value.requires_grad:
                    parts = torch.autograd.grad(value.mean() / batches, weights, retain_graph=True, allow_unused=True)
                    for total, part in zip(sums[name], parts, strict=True):
                        if part is not None:
                            total += part
        flat = {name: torch.cat([total.flatten() for total in totals]) for name, totals in sums.items()}
        for name, gradient in flat.items():
            norm, other = float(gradient.norm()), float(flat[main].norm())
            cosine = float(gradient @ flat[main]) / (norm * other) if norm and other else None
            for what, figure in (("norm", norm), ("cosine", cosine), ("value", values[name])):
                found[name][what].append(figure)
    return {"logsnr": BINS, "beside": main, "terms": found}


def at_level(model: Denoiser, items: Items, time: float, batch: int, batches: int) -> Iterator[dict[str, Tensor]]:
    """Some batches whose pictures all stand at one time."""
    device = next(model.parameters()).device
    for number in range(batches):
        together = default_collate([items[number * batch + k] for k in range(batch)])
        there = {name: view.to(device) for name, view in together.items()}
        yield {**there, "time": torch.full((batch,), time, device=device)}


def rows(found: Mapping[str, Any], what: str) -> list[Sequence[str]]:
    """A table of one figure: a row a term, a column a level."""
    return [
        [
            name,
            *(
                "-" if figure is None else f"{figure:+.2f}" if what == "cosine" else f"{figure:.3g}"
                for figure in row[what]
            ),
        ]
        for name, row in found["terms"].items()
    ]
