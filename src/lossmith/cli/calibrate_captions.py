"""`lossmith calibrate --captions`: how hard each term pulls at a diffusion network, at each level of noise."""

import json
from pathlib import Path
from typing import Any

__all__ = ["calibrated"]


def calibrated(
    formula: str, captions: str, model: str, *, batches: int, batch: int, seed: int, device: str, as_json: bool
) -> None:
    """Prints the gradients of a formula's terms at a network's weights, by level."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from lossmith import parse
    from lossmith.cli.networks import device_of
    from lossmith.cli.sample import prompted_in
    from lossmith.cli.tables import whole
    from lossmith.text_to_image.gradients_by_noise_level import gradients_by_noise_level, format_rows
    from lossmith.text_to_image.models.denoiser import Denoiser
    from lossmith.text_to_image.task import TextToImage

    task = TextToImage()
    if model == "bicubic":
        material = task.load_data(captions, None, val_count=1, crop=32, seed=seed)
        torch.manual_seed(seed)
        network: Any = Denoiser(**material.model_kwargs)
    else:
        prompted = prompted_in(Path(model))
        if not isinstance(prompted.model, Denoiser):
            raise ValueError(
                f"calibrate --captions measures gradients by level of noise; the network in {model!r} knows no noise. "
                "Give a run of lossmith train text-to-image."
            )
        network, options = prompted.model, prompted.facts.get("options", {})
        task = TextToImage(network.scale, **options)
        material = task.load_data(captions, None, val_count=1, crop=prompted.side, seed=seed)
    network = network.to(device_of(device)).eval()
    found = gradients_by_noise_level(
        parse(formula).to(device_of(device)), task, network, material.training_set, batch=batch, batches=batches, seed=seed
    )
    if as_json:
        print(json.dumps({"formula": formula, "model": model, "captions": captions, **found}, allow_nan=False))
        return
    console = Console(soft_wrap=True, highlight=False)
    for what, title in (("norm", "norm of the gradient at the weights"), ("cosine", f"cosine with {found['beside']}")):
        table = Table("log-SNR", *(f"{low:g}..{high:g}" for low, high in found["logsnr"]), title=title)
        for row in format_rows(found, what):
            table.add_row(*row)
        whole(console, table)
