"""How hard each term of a loss pulls at a diffusion network, and where to, at each level of noise."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from lossmith.formula.loss import Loss
from lossmith.tasks import TrainingSet
from lossmith.text_to_image.models.denoiser import Denoiser
from lossmith.text_to_image.prepare_loss import prepare_diffusion_loss
from lossmith.text_to_image.sample_callback import LOGSNR_BINS, time_at_logsnr
from lossmith.text_to_image.task import TextToImage

__all__ = ["gradients_by_noise_level"]


def gradients_by_noise_level(
    loss: Loss, task: TextToImage, model: Denoiser, items: TrainingSet, *, batch: int = 16, batches: int = 4, seed: int = 0
) -> dict[str, Any]:
    """The norm of each term's gradient at all weights of the network, and its cosine with the denoising's, by level.

    The same pictures and the same noise stand at every level; gradients are averaged over the batches, and terms are
    looked at with their gates and weights at 1. A term that helps has a cosine above 0 where it acts; where it is large
    and its cosine about 0, it pulls the network elsewhere.

    Args:
        loss: The loss; the first of its terms that is DenoisingMSE is the one that others are compared with.
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
    loss, _ = prepare_diffusion_loss(loss, model)
    task = task.with_inputs(loss.input_names)
    main = next((name for name in loss.names if name.startswith("DenoisingMSE")), loss.names[0])
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found: dict[str, dict[str, list[float | None]]] = {n: {"norm": [], "cosine": [], "value": []} for n in loss.names}
    for low, high in LOGSNR_BINS:
        time = float(time_at_logsnr(model.levels, (low + high) / 2))
        sums = {name: [torch.zeros_like(weight) for weight in weights] for name in loss.names}
        values = dict.fromkeys(loss.names, 0.0)
        for number, pictures in enumerate(batches_at_time(model, items, time, batch, batches)):
            torch.manual_seed(seed + number)
            terms = loss.evaluate(task.compute_inputs(model, pictures))
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
    return {"logsnr": LOGSNR_BINS, "beside": main, "terms": found}


def batches_at_time(model: Denoiser, items: TrainingSet, time: float, batch: int, batches: int) -> Iterator[dict[str, Tensor]]:
    """Some batches whose pictures all stand at one time."""
    device = next(model.parameters()).device
    for number in range(batches):
        together = default_collate([items[number * batch + k] for k in range(batch)])
        there = {name: view.to(device) for name, view in together.items()}
        yield {**there, "time": torch.full((batch,), time, device=device)}


def format_rows(found: Mapping[str, Any], what: str) -> list[Sequence[str]]:
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
