"""What becomes of a training when somebody's loss is 1000 times larger: with fixed weights, and with shares kept.

    python experiments/knob/rescaled.py --assets DIR --out DIR --start FILE [--steps 150]

Four trainings from one network, x4 super-resolution on L1 and a perceptual term, which pulls about as hard as L1 or
1000 times as hard; each with fixed weights and with `--balance share`. Writes rescaled.json beside this file.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from run import HERE, averaged, pictures, together

from lossmith.knob.evaluation_cache import CachedEvaluator
from lossmith.models import load_restorer
from lossmith.tasks import SuperResolution
from lossmith.train import Settings, train

LOSS = 'L1 + L1 @ VGG("vgg19", {{"conv3_4": {scale}}})'
SCALES = {"as it is": 0.002, "1000 times": 2.0}
BALANCES = {"fixed weights": None, "share": "share"}
KEPT = ("psnr_y", "lpips_alex", "swd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    given = parser.parse_args()
    task = SuperResolution(4)
    judging = CachedEvaluator(
        task, task.evaluation_set(pictures(given.assets, "Kodak24")[::2]), KEPT, folder=given.out / "figures"
    )
    found: dict[str, Any] = {"start": averaged(judging(["start"], load_restorer(given.start)[0]))}
    for balance, text in BALANCES.items():
        found[balance], networks = {}, []
        for name, scale in SCALES.items():
            run = given.out / f"{balance} {name}".replace(" ", "_")
            settings = Settings(
                images=str(together(given.assets / "images", given.out / "pictures")),
                loss=LOSS.format(scale=scale),
                balance=text,
                steps=given.steps,
                batch=4,
                crop=96,
                lr=2e-4,
                val_count=2,
                val_every=given.steps,
                precision="bf16-mixed",
                model={"name": str(given.start)},
            )
            train(settings, run)
            networks.append(load_restorer(run / "model.safetensors")[0])
            last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
            found[balance][name] = averaged(judging([run.name, given.steps], networks[-1])) | {"log": last}
        found[balance]["moved apart"] = apart(*networks, load_restorer(given.start)[0])
        print(balance, found[balance])
    record = {"loss": LOSS, "scales": SCALES, "steps": given.steps, "pictures": "every 2. of Kodak24", **found}
    (HERE / "rescaled.json").write_text(json.dumps(record, indent=1) + "\n")


def apart(first: torch.nn.Module, second: torch.nn.Module, start: torch.nn.Module) -> float:
    """How far two networks are from each other, in parts of the way that the first has gone from the start."""
    a, b, c = (torch.cat([w.detach().flatten() for w in net.parameters()]) for net in (first, second, start))
    return float((a - b).norm() / (a - c).norm())


if __name__ == "__main__":
    main()
