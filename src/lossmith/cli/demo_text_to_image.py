"""`lossmith demo text-to-image`: a network learns from nothing to draw what is asked for, in ten minutes."""

import time
from pathlib import Path
from typing import Any

__all__ = ["demonstrated"]

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
ASKED = (
    "a small red star on the left",
    "a large blue circle in the centre",
    "a small green triangle at the top",
    "a large purple square on the right",
)


def demonstrated(out: Path, seed: int, steps: int = STEPS) -> None:
    """Trains, judges on captions that were never trained on, and draws a sheet of prompts."""
    from rich.console import Console

    from lossmith.cli.evaluate_captions import evaluated
    from lossmith.cli.sample import sample
    from lossmith.report import write_report
    from lossmith.train import Settings, train

    console = Console(highlight=False, soft_wrap=True)
    began = time.monotonic()
    settings = Settings(seed=seed, steps=steps, **SETTINGS, model={"name": "denoiser"}, options={"encoder": "auto"})
    if train(settings, out / "run", console=console) < steps:
        return console.print("Stopped; the same command goes on.")
    console.print(f"Trained in {time.monotonic() - began:.0f} s. Now: captions that it has never seen.")
    run = str(out / "run")
    evaluated(run, "shapes", guidance="2", count=96, steps=25, sampler="euler", seed=0, as_json=False, device="cpu")
    sample(Path(run), list(ASKED), out=out / "demo.png", grid="4x4", zoom=4, device="cpu")
    console.print(f"The page: {page([out / 'run'], out / 'report.html')}")
    return console.print(f"{time.monotonic() - began:.0f} s in all")
