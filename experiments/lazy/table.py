"""Collect the runs of train.py: the results and the tables of docs/lazy.md.

    python experiments/lazy/table.py RUNS

The gain of an arm is the reduction of LPIPS (denoising: of DISTS) relative to L1 alone at its end (of seed 0, where a
seed has none), as a percentage of the gain of the full term's training. Its 95 % interval is a bootstrap over seeds and
test images, paired: the same resamples for all three. Writes result.json beside this file, and prints the tables.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms import BATCH_SIZE, CROP, GROUPS, Group
from train import EMA, LR, TEST_IMAGES, TEST_SIDE, file_name

HERE = Path(__file__).parent
MOMENTS = {"steps": "equal steps", "half": "half of the time", "time": "equal time"}
DIGITS = {"psnr_y": 2, "lpips_alex": 3, "dists": 3, "grid": 2}
SHORT_NAMES = {"lpips_alex": "LPIPS", "dists": "DISTS"}
RESAMPLES = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the runs")
    args = parser.parse_args()
    found = {name: collect_group(args.runs, name, group) for name, group in GROUPS.items()}
    found = {name: result for name, result in found.items() if result}
    record = {
        "protocol": {
            "crop": CROP,
            "batch": BATCH_SIZE,
            "learning rate": LR,
            "EMA": EMA,
            "test images": TEST_IMAGES,
            "test side": TEST_SIDE,
        },
        "machine": f"{platform.processor() or platform.machine()}, one thread, bfloat16, torch {torch.__version__}",
        "groups": found,
    }
    (HERE / "result.json").write_text(json.dumps(record, indent=1) + "\n")
    for name, result in found.items():
        print(f"\n{name}\n\n{format_table(result)}")


def collect_group(runs: Path, name: str, group: Group) -> dict[str, Any]:
    """Return the costs, scores and gains of the arms of a group; empty without runs of L1 alone and the full term."""
    base = next(iter(group.arms))
    scores = {arm: read_scores(runs, name, arm) for arm in group.arms}
    if not (scores[base] and scores[group.full]):
        return {}
    costs = json.loads((runs / f"{name}.cost.json").read_text())
    full_cost, rows = costs[group.full], {}
    for arm in (arm for arm in group.arms if scores[arm]):
        row: dict[str, Any] = {"loss": group.arms[arm].formula, "seeds": len(scores[arm])}
        row |= {f"relative {unit}": round(costs[arm][unit] / full_cost[unit], 3) for unit in ("seconds", "operations")}
        row["moments"] = {moment: summarize(scores, base, group, arm, moment) for moment in MOMENTS}
        rows[arm] = row
    return {
        "task": group.task,
        "full": group.full,
        "metric": group.metric,
        "seconds of a full step": full_cost["seconds"],
        "arms": rows,
    }


def read_scores(runs: Path, name: str, arm: str) -> dict[int, dict[str, Any]]:
    """Return for each seed that was run, the values of the images by moment and metric."""
    scores = {}
    for file in runs.glob(file_name(name, arm, "*")):
        record = json.loads(file.read_text())["scores"]
        scores[int(file.stem.rsplit("-", 1)[1])] = {
            moment: {
                metric: np.array([image[metric] for image in each["images"].values() if metric in image])
                for metric in DIGITS
            }
            | {"step": each["step"]}
            for moment, each in record.items()
        }
    return dict(sorted(scores.items()))


def summarize(scores: dict[str, Any], base: str, group: Group, arm: str, moment: str) -> dict[str, Any]:
    """Return the step, the mean metrics, and the gain with its interval."""
    full = group.full
    seeds = [seed for seed in scores[arm] if seed in scores[full]]
    own = [scores[arm][seed][moment] for seed in seeds]
    row: dict[str, Any] = {"step": own[0]["step"]}
    for metric, digits in DIGITS.items():
        if all(len(each[metric]) for each in own):
            row[metric] = round(float(np.mean([each[metric] for each in own])), digits)
    if arm != base:
        values = [
            np.array([scores[name][seed if seed in scores[name] else 0][at][group.metric] for seed in seeds])
            for name, at in ((base, "time"), (arm, moment), (full, "time"))
        ]
        row["gain"] = bootstrap_gain(*values)
    return row


def bootstrap_gain(base: np.ndarray, own: np.ndarray, full: np.ndarray) -> list[float]:
    """Return an arm's gain relative to the full term's, and its 95 % interval, from values (seeds, images)."""
    rng = np.random.default_rng(0)
    seeds, images = (rng.integers(0, n, (RESAMPLES, n)) for n in own.shape)
    means = [each[seeds[:, :, None], images[:, None, :]].mean(axis=(1, 2)) for each in (base, own, full)]
    low, high = np.quantile((means[0] - means[1]) / (means[0] - means[2]), [0.025, 0.975])
    gain = (base.mean() - own.mean()) / (base.mean() - full.mean())
    return [round(float(value), 3) for value in (gain, low, high)]


def format_table(result: dict[str, Any]) -> str:
    """Return a Markdown table: for each arm the metrics after half of the time, and the gains at the three moments."""
    gain = f"% of the full gain in {SHORT_NAMES[result['metric']]}"
    lines = [
        f"| | time of a step | PSNR-Y | LPIPS | DISTS | grid | {gain}, half of the time | equal time | equal steps |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for arm, row in result["arms"].items():
        moments = row["moments"]
        values = [f"{moments['half'][metric]:.{digits}f}" for metric, digits in DIGITS.items()]
        gains = [format_gain(moments[moment].get("gain")) for moment in ("half", "time", "steps")]
        cells = [f"{arm} ({row['seeds']})", f"{row['relative seconds']:.2f}", *values, *gains]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def format_gain(gain: list[float] | None) -> str:
    """Return a gain and its interval in percent."""
    return "{:.0f} ({:.0f} to {:.0f})".format(*(100 * value for value in gain)) if gain else ""


if __name__ == "__main__":
    main()
