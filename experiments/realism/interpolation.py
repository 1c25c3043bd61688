"""Compare networks with a texture branch with separate networks, on held-out photographs, with intervals.

    python experiments/realism/interpolation.py MODEL [MODEL ...] --other NAME=FILE [--other NAME=FILE ...] --assets DIR

MODEL are networks with a texture branch, whose knob mixes their two outputs, one file for each seed. NAME=FILE are
weights of formula.py, trained from the accurate part of MODEL, a file for each seed. Between the accurate part and each
of them the outputs are mixed, and the weights. Every fourth image of BSD100, every third of Kodak24 and all of Set14;
no image of these sets chose anything. Needs the weights of LPIPS and DISTS (LOSSMITH_WEIGHTS). Writes
interpolation.json and interpolation.png: for each way the mean curves, and the paired differences of MODEL at equal
PSNR-Y with 95 % intervals of a bootstrap over the seeds and the images; and curves.json with the values of each image,
which a rerun reads.
"""

import argparse
import copy
import itertools
import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from evaluate import HERE, METRIC_NAMES, PLACES, STRIDES, held_out_pairs, mean
from torch import Tensor

from lossmith.metrics import compute_metrics
from lossmith.models import EDSR, TexturedEDSR, load_restorer

Row = dict[str, float]
Curves = dict[str, list[Row]]
"""The metrics of each image, from accurate to realistic."""
Network = Callable[[Tensor], Tensor]
BRANCH = "texture branch"
COMPARED = ("lpips_alex", "dists", "swd", "grid_p90")
DRAWS = 2000
COLOURS = ("#1f6f8b", "#c0562f", "#7a8b2f", "#888888")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="weight files of the networks with a texture branch")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=FILE", help="a weight file of formula.py")
    parser.add_argument("--places", type=float, nargs="+", default=PLACES[1:], help="places of the mixes")
    parser.add_argument("--assets", type=Path, required=True, help="folder with images/benchmark")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results [beside this file]")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    cache, others = args.out / "curves.json", [text.split("=", 1) for text in args.other]
    curves: dict[str, dict[str, Curves]] = json.loads(cache.read_text()) if cache.exists() else {}
    for seed, file in enumerate(args.models):
        model = load_restorer(file)[0]
        assert isinstance(model, TexturedEDSR)
        ways = {BRANCH: [partial(model, realism=place) for place in PLACES[1:]]}
        for name in dict.fromkeys(name for name, _ in others):
            files = [path for other, path in others if other == name]
            ways |= build_mixes(name, model, files[seed], args.places)
        for folder in STRIDES:
            for example in held_out_pairs(args.assets, folder, model.scale):
                image, known = f"{folder}/{example.name}", curves.setdefault(str(seed), {})
                if ways.keys() - {way for way in known if image in known[way]}:
                    rows = evaluate(model, ways, example.batch["input"], example.batch["target"])
                    for way, row in rows.items():
                        known.setdefault(way, {})[image] = row
                    cache.write_text(json.dumps(curves))
                    print(seed, image, flush=True)
    result = summarize(list(curves.values()), (0.0, *args.places))
    (args.out / "interpolation.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(result, args.out / "interpolation.png")


def build_mixes(name: str, model: TexturedEDSR, file: str, places: Sequence[float]) -> dict[str, list[Network]]:
    """Return the networks between the accurate part of a model and another network, by outputs and by weights."""
    first, end = model.accurate, load_restorer(file)[0]
    assert isinstance(end, EDSR)

    def mix_outputs(low: Tensor, place: float) -> Tensor:
        return torch.lerp(first(low), end(low), place)

    outputs: list[Network] = [end if place == 1 else partial(mix_outputs, place=place) for place in places]
    weights: list[Network] = [end if place == 1 else interpolate_weights(first, end, place) for place in places]
    return {f"{name}, outputs mixed": outputs, f"{name}, weights mixed": weights}


def interpolate_weights(first: EDSR, second: EDSR, place: float) -> EDSR:
    """Return a network whose weights lie between those of two networks."""
    network = copy.deepcopy(first).float().requires_grad_(False)
    state = second.state_dict()
    network.load_state_dict(
        {name: weight.float().lerp(state[name].float(), place) for name, weight in first.state_dict().items()}
    )
    return network.eval()


@torch.no_grad()
def evaluate(model: TexturedEDSR, ways: dict[str, list[Network]], low: Tensor, target: Tensor) -> dict[str, list[Row]]:
    """Return the metrics of an image for each way, from the accurate output on."""
    rows: dict[Network, Row] = {}  # a network at the end of two ways is evaluated once
    for network in [model.accurate, *itertools.chain(*ways.values())]:
        if network not in rows:
            rows[network] = compute_metrics(
                network(low), target, border=model.scale, scale=model.scale, metrics=METRIC_NAMES
            )
    return {way: [rows[network] for network in [model.accurate, *networks]] for way, networks in ways.items()}


def summarize(seeds: list[dict[str, Curves]], places: Sequence[float]) -> dict[str, dict]:
    """Return the mean curve of each way, and the branch's differences from the others."""
    result: dict[str, dict] = {}
    for way in seeds[0]:
        curves = [curve for each in seeds for curve in each[way].values()]
        result[way] = {"seeds": len(seeds), "mean": [mean(list(point)) for point in zip(*curves, strict=True)]}
        if way != BRANCH:
            ours, theirs = ([each[name] for each in seeds] for name in (BRANCH, way))
            result[way] |= {f"{BRANCH} at equal PSNR-Y": compare(ours, theirs, places)}
    return result


def compare(ours: list[Curves], theirs: list[Curves], places: Sequence[float]) -> dict[str, dict[str, list[float]]]:
    """Return, for each place of the other way but the first, the difference of our metrics at its mean PSNR-Y.

    Places of less PSNR-Y than our far end are compared with the far end.
    """
    names = sorted(theirs[0])
    found: dict[str, dict[str, list[float]]] = {}
    for index, place in enumerate(places[1:], 1):
        draws: dict[str, list[float]] = {metric: [] for metric in COMPARED}
        rng = random.Random(0)
        for draw_number in range(DRAWS + 1):
            images = names if draw_number == 0 else rng.choices(names, k=len(names))
            seeds = range(len(ours)) if draw_number == 0 else rng.choices(range(len(ours)), k=len(ours))
            sample = [(seed, name) for seed in seeds for name in images]
            psnr = average([theirs[seed][name][index] for seed, name in sample], "psnr_y")
            points = [[ours[seed][name][i] for seed, name in sample] for i in range(len(PLACES))]
            for metric in COMPARED:
                other = average([theirs[seed][name][index] for seed, name in sample], metric)
                draws[metric].append(value_at(points, metric, psnr) - other)
        found[f"{place:g}"] = {
            metric: [round(values[0], 4), *(round(sorted(values[1:])[int(q * DRAWS)], 4) for q in (0.025, 0.975))]
            for metric, values in draws.items()
        }
    return found


def value_at(curve: list[list[Row]], metric: str, psnr: float) -> float:
    """Return the mean metric where the mean PSNR-Y of a curve has a value, by linear interpolation."""
    points = [(average(rows, "psnr_y"), average(rows, metric)) for rows in curve]
    for (high, first), (low, second) in itertools.pairwise(points):
        if psnr >= low:
            return first + (second - first) * min(max((high - psnr) / (high - low), 0.0), 1.0)
    return points[-1][1]


def average(rows: list[Row], metric: str) -> float:
    return sum(row[metric] for row in rows) / len(rows)


def draw(result: dict[str, dict], file: Path) -> None:
    """Draw the three ways as curves of PSNR-Y against LPIPS, DISTS and the grid."""
    import matplotlib.pyplot as plt

    panels = {"lpips_alex": "LPIPS-Alex", "dists": "DISTS", "grid_p90": "grid, worst tenth"}
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 3.6), constrained_layout=True)
    for axis, (metric, label) in zip(axes, panels.items(), strict=True):
        for name, each in result.items():
            points, line = each["mean"], "--" if name.endswith("weights mixed") else "-"
            axis.plot(
                [row["psnr_y"] for row in points],
                [row[metric] for row in points],
                marker="o",
                color=COLOURS[list(dict.fromkeys(way.split(", ")[0] for way in result)).index(name.split(", ")[0])],
                linestyle=line,
                label=name,
            )
        axis.set(xlabel="PSNR-Y [dB]", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=90)


if __name__ == "__main__":
    main()
