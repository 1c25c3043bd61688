"""Compare training at native depth and bands with training on RGB of 8 bits, for CT slices and 8-band images.

    pip install pydicom-data
    OMP_NUM_THREADS=1 nice python experiments/any_image/compare.py --assets DIR --work DIR [--seeds 3]

DIR of --assets has images/train_bsds and images/benchmark/Kodak24. All networks are the same EDSR but for their
channels, trained on L1 for the same number of steps, and evaluated in the units of the data. Trainings and their
metrics are kept in the folder of --work; rerun the command to resume. Writes result.json and table.md beside this file.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import band_super_resolution
import ct_denoising
import torch
from training import Rows, summarize

from lossmith._files import write_atomically, write_text_atomically

HERE = Path(__file__).parent
CT_PARTS = tuple(f"trained on {name}" for name in ct_denoising.SLICES)
BAND_PARTS = tuple(band_super_resolution.NOISES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ct-steps", type=int, default=600)
    parser.add_argument("--band-steps", type=int, default=800)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, list[dict[str, Rows]]] = {}
    for seed in range(options.seeds):
        for part in (*CT_PARTS, *BAND_PARTS):
            results.setdefault(part, []).append(run_part(part, seed, options))
            summary = summarize_all(results, options)
            write_text_atomically(HERE / "result.json", json.dumps(summary, indent=1) + "\n")
            write_text_atomically(HERE / "table.md", "\n".join(format_tables(summary)))
            print(f"seed {seed}: {part}", flush=True)


def run_part(part: str, seed: int, options: argparse.Namespace) -> dict[str, Rows]:
    """Return the metrics of a part for one seed, computed or from an earlier call."""
    file = options.work / f"{part}, seed {seed}.json"
    if not file.is_file():
        if part in CT_PARTS:
            name = part.removeprefix("trained on ")
            rows = ct_denoising.run(options.work, name, steps=options.ct_steps, seed=seed)
        else:
            steps = options.band_steps
            rows = band_super_resolution.run(options.work, part, options.assets, steps=steps, seed=seed)
        write_atomically(file, lambda out: out.write_text(json.dumps(rows)))
    found: dict[str, Rows] = json.loads(file.read_text())
    return found


def summarize_all(results: Mapping[str, list[dict[str, Rows]]], options: argparse.Namespace) -> dict[str, Any]:
    """Return the content of result.json: the parts that have run, and their numbers of seeds."""
    found: dict[str, Any] = {"steps": {"CT slices": options.ct_steps, "8 bands": options.band_steps}}
    for part, seeds in results.items():
        module = ct_denoising if part in CT_PARTS else band_super_resolution
        methods = {method: [rows[method] for rows in seeds] for method in seeds[0]}
        found[part] = {"seeds": len(seeds)} | summarize(methods, module.REFERENCE, module.METRICS)
    return found | {"8 bands, billions of operations per image": band_super_resolution.count_operations()}


def format_tables(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a Markdown table for each part, with the differences from its reference method."""
    for part in (*CT_PARTS, *BAND_PARTS):
        if part not in summary:
            continue
        methods = {name: row for name, row in summary[part].items() if name != "seeds"}
        first = next(iter(methods.values()))
        tested = next(row["difference"] for row in methods.values() if row["difference"])
        yield f"## {part}, number of seeds: {summary[part]['seeds']}"
        yield ""
        heads = [*first["mean"], *(f"{name}, difference (95 %)" for name in tested)]
        yield "| | " + " | ".join(heads) + " |"
        yield "| --- |" + " ---: |" * len(heads)
        for name, row in methods.items():
            cells = [f"{value:g}" for value in row["mean"].values()]
            differences = (row["difference"].get(metric) for metric in tested)
            cells += ["" if d is None else f"{d['mean']:+g} ({d['low']:+g} to {d['high']:+g})" for d in differences]
            yield f"| {name} | " + " | ".join(cells) + " |"
        yield ""


if __name__ == "__main__":
    main()
