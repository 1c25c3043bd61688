"""`lossmith demo text-to-image`: a text-to-image model trained from scratch in ten minutes."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossmith._format import print_text

__all__ = ["run_text_to_image_demo"]

STEPS = 2600
SETTINGS: dict[str, Any] = {
    "task": "text-to-image",
    "images": "shapes",
    "loss": "imagen",
    "scale": 1,
    "crop": 32,
    "batch": 16,
    "lr": 1e-3,
    "warmup": 100,
    "clip": 1.0,
    "ema": 0.999,
    "val_every": 650,
    "val_count": 32,
    "log_every": 50,
    "checkpoint_every": 400,
}
PROMPTS = (
    "a small red star on the left",
    "a large blue circle in the centre",
    "a small green triangle at the top",
    "a large purple square on the right",
)


def run_text_to_image_demo(out: Path, seed: int, steps: int = STEPS, *, device: str = "auto") -> None:
    """Train a model, evaluate it on held-out captions, and sample a grid of prompts."""
    from rich.console import Console

    from lossmith.cli.evaluate import EvaluateOptions
    from lossmith.cli.sample import SampleOptions
    from lossmith.report import write_report
    from lossmith.train import Settings, train

    console = Console(highlight=False, soft_wrap=True)
    start = time.monotonic()
    settings = Settings(seed=seed, steps=steps, **SETTINGS, model={"name": "denoiser"}, options={"encoder": "auto"})
    if train(settings, out / "run", device=device, console=console) < steps:
        console.print("Stopped. Rerun the command to resume.")
        raise KeyboardInterrupt
    console.print(f"Trained in {time.monotonic() - start:.0f} s. Evaluation on held-out captions:")
    run = str(out / "run")
    EvaluateOptions(network=run, captions="shapes", guidance="2", device="cpu").execute()
    options = SampleOptions(network=Path(run), prompts=list(PROMPTS), out=out / "demo.png", grid="4x4", zoom=4)
    replace(options, device="cpu").execute()
    print_text(console, f"Report: {write_report([out / 'run'], out / 'report.html')}")
    return console.print(f"{time.monotonic() - start:.0f} s in total")
