"""`lossmith calibrate --captions`: the gradients of each term at a diffusion network, by noise level."""

import json
from pathlib import Path

from lossmith._format import print_table

__all__ = ["calibrate_on_captions"]


def calibrate_on_captions(
    formula: str, captions: str, model: str, *, batches: int, batch: int, seed: int, device: str, as_json: bool
) -> None:
    """Print the gradients of a formula's terms at the network's weights, by noise level."""
    from rich.console import Console
    from rich.table import Table

    from lossmith import parse
    from lossmith.cli.sample import load_pipeline
    from lossmith.device import resolve_device
    from lossmith.text_to_image.gradients_by_noise_level import (
        format_gradient_rows,
        load_denoiser,
        measure_gradients_by_logsnr,
    )

    place = resolve_device(device)
    pipeline = None if model == "bicubic" else load_pipeline(Path(model))  # the default of --model: no trained network
    task, network, samples = load_denoiser(pipeline, captions, seed)
    found = measure_gradients_by_logsnr(
        parse(formula).to(place), task, network.to(place).eval(), samples, batch=batch, batches=batches, seed=seed
    )
    if as_json:
        print(json.dumps({"formula": formula, "model": model, "captions": captions, **found}, allow_nan=False))
        return
    console = Console(soft_wrap=True, highlight=False)
    for kind, title in (("norm", "gradient norm at the weights"), ("cosine", f"cosine with {found['reference']}")):
        table = Table("log-SNR", *(f"{low:g}..{high:g}" for low, high in found["logsnr"]), title=title)
        for row in format_gradient_rows(found, kind):
            table.add_row(*row)
        print_table(console, table)
