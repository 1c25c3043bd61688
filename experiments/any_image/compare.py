"""Compare training at native depth and bands with training on RGB of 8 bits, for CT slices and 8-band images.

    pip install pydicom-data
    OMP_NUM_THREADS=1 nice python experiments/any_image/compare.py --assets DIR --work DIR [--seeds 3]

DIR of --assets has images/train_bsds and images/benchmark/Kodak24. All networks are the same EDSR but for their
channels, trained on L1 for the same number of steps, and evaluated in the units of the data. Trainings and their
metrics are kept in the folder of --work; rerun the command to resume. Writes result.json beside this file.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import band_super_resolution
import ct_denoising
import torch
from training import Rows, summarize

from lossmith._files import write_atomically

HERE = Path(__file__).parent
PARTS = ("CT slices", *band_super_resolution.NOISES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ct-steps", type=int, default=600)
    parser.add_argument("--band-steps", type=int, default=1500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, dict[str, list[Rows]]] = {part: {} for part in PARTS}
    for seed in range(options.seeds):
        for part in PARTS:
            for method, rows in run_part(part, seed, options).items():
                results[part].setdefault(method, []).append(rows)
        summary = summarize_all(results, options)
        text = json.dumps(summary, indent=1) + "\n"
        write_atomically(HERE / "result.json", lambda out, text=text: out.write_text(text))  # after each seed
    print(text)


def run_part(part: str, seed: int, options: argparse.Namespace) -> dict[str, Rows]:
    """Return the metrics of a part for one seed, computed or from an earlier call."""
    file = options.work / f"{part}, seed {seed}.json"
    if not file.is_file():
        if part == "CT slices":
            rows = ct_denoising.run(options.work, steps=options.ct_steps, seed=seed)
        else:
            steps = options.band_steps
            rows = band_super_resolution.run(options.work, part, options.assets, steps=steps, seed=seed)
        write_atomically(file, lambda out: out.write_text(json.dumps(rows)))
    found: dict[str, Rows] = json.loads(file.read_text())
    return found


def summarize_all(results: Mapping[str, Mapping[str, list[Rows]]], options: argparse.Namespace) -> dict[str, Any]:
    """Return the content of result.json."""
    ct, *noises = results
    tested = (
        (ct_denoising.REFERENCE, ct_denoising.METRICS),
        (band_super_resolution.REFERENCE, band_super_resolution.METRICS),
    )
    return {
        "steps": {"CT slices": options.ct_steps, "8 bands": options.band_steps},
        "seeds": len(next(iter(results[ct].values()))),
        "CT slices": summarize(results[ct], *tested[0]),
        "8 bands": {noise: summarize(results[noise], *tested[1]) for noise in noises},
        "8 bands, billions of operations per image": band_super_resolution.count_operations(),
    }


if __name__ == "__main__":
    main()
