"""The gradients of each term of a loss at the weights of a diffusion network, by noise level."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from lossmith.formula.loss import Loss
from lossmith.losses import DenoisingMSE
from lossmith.tasks import TrainingSet
from lossmith.text_to_image.denoising_error import LOGSNR_BINS, find_time
from lossmith.text_to_image.models.denoiser import Denoiser
from lossmith.text_to_image.pipeline import TextToImagePipeline
from lossmith.text_to_image.prepare_loss import prepare_text_to_image_loss
from lossmith.text_to_image.task import TextToImage

__all__ = ["format_gradient_rows", "load_denoiser", "measure_gradients_by_logsnr"]

DEFAULT_SIDE = 32
"""Side in pixels of the images of an untrained network."""


def load_denoiser(
    pipeline: TextToImagePipeline | None, captions: str, seed: int
) -> tuple[TextToImage, Denoiser, TrainingSet]:
    """Return the task, the network and the training set for :func:`measure_gradients_by_logsnr`.

    Args:
        pipeline: A trained network; None for an untrained denoiser.
        captions: The source of captions, see :func:`lossmith.text_to_image.open_caption_source`.
        seed: Random seed of the samples, and of an untrained network.

    Raises:
        ValueError: The network is not a denoiser.
    """
    if pipeline is None:
        task = TextToImage()
        data = task.load_data(captions, None, val_count=1, crop=DEFAULT_SIDE, seed=seed)
        torch.manual_seed(seed)
        return task, Denoiser(**data.model_kwargs), data.training_set
    if not isinstance(pipeline.model, Denoiser):
        raise ValueError(
            f"Gradients by noise level need a diffusion model; the network {pipeline.model.spec['name']} is not a "
            "diffusion model. Give a run of lossmith train text-to-image."
        )
    options = TextToImage.current_options(pipeline.header.get("options", {}))
    task = TextToImage(pipeline.model.scale, **options)
    data = task.load_data(captions, None, val_count=1, crop=pipeline.side, seed=seed)
    return task, pipeline.model, data.training_set


def measure_gradients_by_logsnr(
    loss: Loss,
    task: TextToImage,
    model: Denoiser,
    samples: TrainingSet,
    *,
    batch: int = 16,
    batches: int = 4,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure norm and direction of each term's gradient with respect to all weights of the network.

    All noise levels use the same images and the same noise; gradients are averaged over the batches. Terms are measured
    with their gates and with weight 1. A term that supports the denoising has a cosine above 0 where its gradient is
    large; a large gradient with a cosine near 0 pulls the network elsewhere.

    Args:
        loss: The loss; its first DenoisingMSE term is the reference of the cosines, or else its first term.
        task: The task.
        model: The network.
        samples: The training set.
        batch: Images in a batch.
        batches: Number of batches.
        seed: Random seed of the noise.

    Returns:
        "logsnr", the bins; "reference", the name of the reference term; and "terms", for each term "norm", "cosine"
        (None if one of the gradients is 0) and "value", with one number for each bin.
    """
    loss, _ = prepare_text_to_image_loss(loss, model)
    task = task.with_inputs(loss.input_names)
    pairs = zip(loss.names, loss.terms, strict=True)
    reference = next((name for name, term in pairs if isinstance(term.distance, DenoisingMSE)), loss.names[0])
    terms: dict[str, dict[str, list[float | None]]] = {n: {"norm": [], "cosine": [], "value": []} for n in loss.names}
    for low, high in LOGSNR_BINS:
        time = float(find_time(model.noise_schedule, (low + high) / 2))
        gradients, values = _average_gradients(
            loss, task, model, _batches_at_time(model, samples, time, batch, batches), batches=batches, seed=seed
        )
        for name, gradient in gradients.items():
            norm, reference_norm = float(gradient.norm()), float(gradients[reference].norm())
            is_zero = not norm or not reference_norm
            cosine = None if is_zero else float(gradient @ gradients[reference]) / (norm * reference_norm)
            for key, number in (("norm", norm), ("cosine", cosine), ("value", values[name])):
                terms[name][key].append(number)
    return {"logsnr": LOGSNR_BINS, "reference": reference, "terms": terms}


def _average_gradients(
    loss: Loss,
    task: TextToImage,
    model: Denoiser,
    data: Iterator[dict[str, Tensor]],
    *,
    batches: int,
    seed: int,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return each term's gradient with respect to all trainable weights, flattened, and its value, averaged."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    sums = {name: [torch.zeros_like(weight) for weight in weights] for name in loss.names}
    values = dict.fromkeys(loss.names, 0.0)
    for number, batch in enumerate(data):
        torch.manual_seed(seed + number)
        for name, value in loss.evaluate(task.compute_inputs(model, batch)).items():
            values[name] += float(value.detach().mean()) / batches
            if value.requires_grad:
                parts = torch.autograd.grad(value.mean() / batches, weights, retain_graph=True, allow_unused=True)
                for total, part in zip(sums[name], parts, strict=True):
                    if part is not None:
                        total += part
    return {name: torch.cat([total.flatten() for total in totals]) for name, totals in sums.items()}, values


def _batches_at_time(
    model: Denoiser, samples: TrainingSet, time: float, batch: int, batches: int
) -> Iterator[dict[str, Tensor]]:
    """Yield batches of images that are all noised at one time."""
    device = next(model.parameters()).device
    for number in range(batches):
        collated = default_collate([samples[number * batch + k] for k in range(batch)])
        on_device = {name: value.to(device) for name, value in collated.items()}
        yield {**on_device, "time": torch.full((batch,), time, device=device)}


def format_gradient_rows(found: Mapping[str, Any], key: str) -> list[Sequence[str]]:
    """Return the rows of a table of "norm", "cosine" or "value": one row per term, one column per noise level."""

    def format_number(number: float | None) -> str:
        return "-" if number is None else f"{number:+.2f}" if key == "cosine" else f"{number:.3g}"

    return [[name, *map(format_number, row[key])] for name, row in found["terms"].items()]
