"""`lossmith calibrate --captions`: the gradients of each term at a diffusion network, by noise level."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossmith.tasks import TrainingSet
    from lossmith.text_to_image.task import TextToImage

__all__ = ["calibrate_on_captions"]


def calibrate_on_captions(
    formula: str, captions: str, model: str, *, batches: int, batch: int, seed: int, device: str, as_json: bool
) -> None:
    """Print the gradients of a formula's terms at the network's weights, by noise level."""
    from rich.console import Console
    from rich.table import Table

    from lossmith import parse
    from lossmith.cli.networks import resolve_device
    from lossmith.cli.tables import print_full_width
    from lossmith.text_to_image.gradients_by_noise_level import format_gradient_rows, measure_gradients_by_logsnr

    place = resolve_device(device)
    task, network, items = load_denoiser(captions, model, seed)
    found = measure_gradients_by_logsnr(
        parse(formula).to(place), task, network.to(place).eval(), items, batch=batch, batches=batches, seed=seed
    )
    if as_json:
        print(json.dumps({"formula": formula, "model": model, "captions": captions, **found}, allow_nan=False))
        return
    console = Console(soft_wrap=True, highlight=False)
    for kind, title in (("norm", "gradient norm at the weights"), ("cosine", f"cosine with {found['reference']}")):
        table = Table("log-SNR", *(f"{low:g}..{high:g}" for low, high in found["logsnr"]), title=title)
        for row in format_gradient_rows(found, kind):
            table.add_row(*row)
        print_full_width(console, table)


def load_denoiser(captions: str, model: str, seed: int) -> "tuple[TextToImage, Any, TrainingSet]":
    """Return the task, a trained or an untrained denoiser, and the training set.

    Raises:
        ValueError: The network is not a denoiser.
    """
    import torch

    from lossmith.cli.sample import load_pipeline
    from lossmith.text_to_image.models.denoiser import Denoiser
    from lossmith.text_to_image.task import TextToImage

    if model == "bicubic":  # the default of --model: no trained network
        task = TextToImage()
        data = task.load_data(captions, None, val_count=1, crop=32, seed=seed)
        torch.manual_seed(seed)
        return task, Denoiser(**data.model_kwargs), data.training_set
    pipeline = load_pipeline(Path(model))
    if not isinstance(pipeline.model, Denoiser):
        raise ValueError(
            f"calibrate --captions measures gradients by noise level, but the network in {model!r} is not a diffusion "
            "model. Give a run of lossmith train text-to-image."
        )
    options = TextToImage.current_options(pipeline.header.get("options", {}))
    task = TextToImage(pipeline.model.scale, **options)
    data = task.load_data(captions, None, val_count=1, crop=pipeline.side, seed=seed)
    return task, pipeline.model, data.training_set
