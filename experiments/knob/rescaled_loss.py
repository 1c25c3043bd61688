"""Compare trainings with a term that is 1000 times larger: fixed weights and shares of the gradient.

    python experiments/knob/rescaled_loss.py --assets DIR --out DIR --start FILE [--steps 150]

Four trainings start from one network, for 4x super-resolution with L1 and a perceptual term whose gradient norm is
about that of L1 or 1000 times as large; each scale is trained with fixed weights and with `--balance share`. Writes
rescaled.json beside this file.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from run import HERE, average, link_training_images, list_benchmark

from lossmith.knob.evaluation_cache import CachedEvaluator
from lossmith.models import load_restorer
from lossmith.tasks import SuperResolution
from lossmith.train import Settings, train

LOSS = 'L1 + L1 @ VGG("vgg19", {{"conv3_4": {scale}}})'
SCALES = {"as it is": 0.002, "1000 times": 2.0}
BALANCES = {"fixed weights": None, "share": "share"}
METRICS = ("psnr_y", "lpips_alex", "swd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder with images/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--start", type=Path, required=True, help="weight file of the initial network")
    parser.add_argument("--steps", type=int, default=150, help="steps of each training")
    args = parser.parse_args()
    task = SuperResolution(4)
    images = task.evaluation_set(list_benchmark(args.assets, "Kodak24")[::2])
    evaluate = CachedEvaluator(task, images, METRICS, folder=args.out / "metrics")
    results: dict[str, Any] = {"start": average(evaluate(["start"], load_restorer(args.start)[0]))}
    for balance_name, balance in BALANCES.items():
        results[balance_name], networks = {}, []
        for scale_name, scale in SCALES.items():
            run = args.out / f"{balance_name} {scale_name}".replace(" ", "_")
            settings = Settings(
                images=str(link_training_images(args.assets / "images", args.out / "images")),
                loss=LOSS.format(scale=scale),
                balance=balance,
                steps=args.steps,
                batch=4,
                crop=96,
                lr=2e-4,
                val_count=2,
                val_every=args.steps,
                precision="bf16-mixed",
                model={"name": str(args.start)},
            )
            train(settings, run)
            networks.append(load_restorer(run / "model.safetensors")[0])
            log = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
            metrics = average(evaluate([run.name, args.steps], networks[-1]))
            results[balance_name][scale_name] = metrics | {"log": log}
        results[balance_name]["moved apart"] = relative_distance(*networks, load_restorer(args.start)[0])
        print(balance_name, results[balance_name])
    record = {"loss": LOSS, "scales": SCALES, "steps": args.steps, "pictures": "every 2. of Kodak24", **results}
    (HERE / "rescaled.json").write_text(json.dumps(record, indent=1) + "\n")


def relative_distance(first: torch.nn.Module, second: torch.nn.Module, start: torch.nn.Module) -> float:
    """Return the distance of two networks' weights divided by the first one's distance from the start."""
    a, b, c = (torch.cat([w.detach().flatten() for w in net.parameters()]) for net in (first, second, start))
    return float((a - b).norm() / (a - c).norm())


if __name__ == "__main__":
    main()
