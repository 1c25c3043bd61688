"""Compare three ways to the outputs between accurate and realistic, on held-out photographs, with intervals.

    python experiments/realism/interpolation.py MODEL FORMULA [FORMULA ...] --assets DIR

MODEL is the x4 network with a texture branch, whose knob mixes its two outputs; FORMULA are weights of formula.py, one
file for each seed, trained from the accurate part of MODEL. Between that part and each of them the outputs are mixed,
and the weights. Every fourth image of BSD100, every third of Kodak24 and all of Set14; no image of these sets chose
anything. Needs rows.json of evaluate.py and the weights of LPIPS and DISTS (LOSSMITH_WEIGHTS). Writes
interpolation.json and interpolation.png: for each way the curves, and the paired differences of MODEL at equal PSNR-Y
with 95 % intervals of a bootstrap over the images.
"""

import argparse
import copy
import itertools
import json
import random
from pathlib import Path

import torch
from evaluate import HERE, METRIC_NAMES, PLACES, STRIDES, held_out_pairs, mean
from torch import Tensor

from lossmith.metrics import compute_metrics
from lossmith.models import EDSR, TexturedEDSR, load_restorer

Row = dict[str, float]
Curve = list[Row]
COMPARED = ("lpips_alex", "dists", "swd", "grid_p90")
DRAWS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="weight file of the network with a texture branch")
    parser.add_argument("formulas", type=Path, nargs="+", help="weight files of formula.py")
    parser.add_argument("--assets", type=Path, required=True, help="folder with images/benchmark")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results [beside this file]")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_restorer(args.model)[0]
    assert isinstance(model, TexturedEDSR)
    rows = json.loads((args.out / "rows.json").read_text())
    curves: dict[str, dict[str, Curve]] = {"texture branch": {}}
    for folder in STRIDES:
        for name in rows["realism 0"][folder]:
            curves["texture branch"][f"{folder}/{name}"] = [
                rows[f"realism {place:g}"][folder][name] for place in PLACES
            ]
        for seed, file in enumerate(args.formulas):
            end = load_restorer(file)[0]
            assert isinstance(end, EDSR)
            between = {place: interpolate_weights(model.accurate, end, place) for place in PLACES[1:-1]}
            for example in held_out_pairs(args.assets, folder, model.scale):
                low, target = example.batch["input"], example.batch["target"]
                first = rows["realism 0"][folder][example.name]
                outputs = mix_outputs(model.accurate, end, low)
                mixed = [evaluate(output, target) for output in outputs]
                moved = [evaluate(network(low), target) for network in between.values()]
                key = f"{folder}/{example.name}"
                curves.setdefault(f"formula, outputs mixed, seed {seed}", {})[key] = [first, *mixed]
                curves.setdefault(f"formula, weights mixed, seed {seed}", {})[key] = [first, *moved, mixed[-1]]
                print(seed, key, flush=True)
    result = {
        name: {"mean": [mean(list(point)) for point in zip(*each.values(), strict=True)]}
        for name, each in curves.items()
    }
    for name, each in curves.items():
        if name != "texture branch":
            result[name] |= {"texture branch at equal PSNR-Y": compare(curves["texture branch"], each)}
    (args.out / "interpolation.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(result, args.out / "interpolation.png")


@torch.no_grad()
def mix_outputs(first: EDSR, second: EDSR, low: Tensor) -> list[Tensor]:
    """Return the mixed outputs at all places but the first."""
    accurate, realistic = first(low), second(low)
    return [torch.lerp(accurate, realistic, place) for place in PLACES[1:]]


def interpolate_weights(first: EDSR, second: EDSR, place: float) -> EDSR:
    """Return a network whose weights lie between those of two networks."""
    network = copy.deepcopy(first).float().requires_grad_(False)
    state = second.state_dict()
    network.load_state_dict(
        {name: weight.float().lerp(state[name].float(), place) for name, weight in first.state_dict().items()}
    )
    return network.eval()


def evaluate(output: Tensor, target: Tensor) -> Row:
    with torch.no_grad():
        return compute_metrics(output, target, border=4, metrics=METRIC_NAMES)


def compare(ours: dict[str, Curve], other: dict[str, Curve]) -> dict[str, dict[str, list[float]]]:
    """Return, for each place of the other way but the first, the difference of our metrics at its mean PSNR-Y.

    Places of less PSNR-Y than our far end are compared with the far end.
    """
    names = sorted(other)
    found: dict[str, dict[str, list[float]]] = {}
    for index, place in enumerate(PLACES[1:], 1):
        draws: dict[str, list[float]] = {metric: [] for metric in COMPARED}
        rng = random.Random(0)
        for draw_number in range(DRAWS + 1):
            sample = names if draw_number == 0 else rng.choices(names, k=len(names))
            psnr = average([other[name][index] for name in sample], "psnr_y")
            for metric in COMPARED:
                theirs = average([other[name][index] for name in sample], metric)
                draws[metric].append(value_at(ours, sample, metric, psnr) - theirs)
        found[f"{place:g}"] = {
            metric: [round(values[0], 4), *(round(sorted(values[1:])[int(q * DRAWS)], 4) for q in (0.025, 0.975))]
            for metric, values in draws.items()
        }
    return found


def value_at(curves: dict[str, Curve], names: list[str], metric: str, psnr: float) -> float:
    """Return the mean metric where the mean PSNR-Y of the curve has a value, by linear interpolation."""
    points = [
        (average(rows, "psnr_y"), average(rows, metric))
        for rows in ([curves[name][index] for name in names] for index in range(len(PLACES)))
    ]
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
            kind = name.split(", seed")[0]
            style = {"texture branch": ("#1f6f8b", "-"), "formula, outputs mixed": ("#c0562f", "-")}.get(
                kind, ("#888888", "--")
            )
            points = each["mean"]
            axis.plot(
                [row["psnr_y"] for row in points],
                [row[metric] for row in points],
                marker="o",
                color=style[0],
                linestyle=style[1],
                label=kind if name.endswith(("branch", "seed 0")) else None,
            )
        axis.set(xlabel="PSNR-Y [dB]", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=90)


if __name__ == "__main__":
    main()
