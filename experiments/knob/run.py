"""Whether one network with a knob is worth five without: x4 super-resolution, on pictures that nothing was tuned on.

    python experiments/knob/run.py --assets DIR --out DIR [--start FILE] [--steps 1250]

DIR of --assets holds images/train_bsds, images/photos, and images/benchmark with Kodak24 and BSD100. Without
--start, a network is first trained on L1 for 6000 steps. Then come the knob, five separate networks that take its
steps together, two of its full length, and the knob at one and two fifths of its steps. All of it lies in --out, and
the same command goes on where it was stopped. Writes result.json, front.png and strip.png beside this file.
"""

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch

import lossmith
from lossmith import calibrate, parse
from lossmith.data import list_images
from lossmith.knob.baselines import fix_knobs
from lossmith.knob.certificate import INTERPOLATED_OUTPUTS, certify_knob
from lossmith.knob.certificate_statistics import EvaluatedPoint
from lossmith.knob.evaluation_cache import CachedEvaluator
from lossmith.knob.report.certificate import format_certificate
from lossmith.knob.report.certificate_plot import draw_certificate
from lossmith.knob.report.sweep import draw_sweep_strip
from lossmith.knob.verification import VerifiedKnob, verify_knob
from lossmith.models import load_restorer
from lossmith.pretrained.locate import compute_sha256
from lossmith.tasks import SuperResolution
from lossmith.train import Settings, train

HERE = Path(__file__).parent

LOSS = """L1 + 0.5 * lam * SlicedWasserstein(16) @ VGG("vgg19", {"relu2_2": 0.004, "relu3_1": 0.004})
           + 0.5 * lam * L1 @ VGG("vgg19", {"conv3_4": 0.0024})"""
"""Fidelity, and one group of two terms for realism: how much texture of each kind, and that it is at its place.

The weights of the layers are such that each term pulls about as hard as L1 at the start, so that at lam=1 fidelity and
realism pull alike; the card in result.json measures it."""
KNOB = {"lam": (0.05, 5.0)}
EQUAL = (0.5, 5.0)
"""Where a separate network is trained for as many steps as the knob, too: in the middle, and at the end."""
EVALUATED = {"Kodak24": 2, "BSD100": 8}
"""The benchmarks, and every how many-th picture of each."""
SHOWN = ("kodim05", "kodim08")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--steps", type=int, default=1250)
    given = parser.parse_args()
    common = {
        "images": str(together(given.assets / "images", given.out / "pictures")),
        "val_count": 4,
        "crop": 96,
        "precision": "bf16-mixed",
        "log_every": 50,
    }
    start = given.start
    if start is None:
        first = {"steps": 6000, "batch": 16, "crop": 128, "lr": 1e-3, "val_every": 1500, "model": {"name": "edsr"}}
        train(Settings(**{**common, "loss": "L1", **first}), given.out / "start")
        start = given.out / "start" / "model.safetensors"
    settings = Settings(
        **common,
        loss=" ".join(LOSS.split()),
        knobs=KNOB,
        steps=given.steps,
        batch=4,
        lr=2e-4,
        val_every=given.steps,
        model={"name": str(start)},
    )
    run = given.out / "knob"
    if train(settings, run) < settings.steps:
        sys.exit("Stopped; the same command goes on.")
    files = [file for name, n in EVALUATED.items() for file in pictures(given.assets, name)[::n]]
    verified = verify_knob(run, files, values=5, equal=EQUAL, shorter=[1, 2], train_missing=True)
    print(format_certificate(verified.record))
    record = result(verified, settings, run) | {"card": card(settings)}
    (HERE / "result.json").write_text(json.dumps(record, indent=1) + "\n")
    draw_certificate(verified.record, verified.series, HERE / "front.png")
    shown = [file for file in pictures(given.assets, "Kodak24") if file.stem in SHOWN]
    task = SuperResolution(4)
    network = load_restorer(run / "model.safetensors")[0]
    images, metrics = task.evaluation_set(shown), ["psnr_y", "lpips_alex"]
    draw_sweep_strip(network, task, images, HERE / "strip.png", metrics=metrics, device="cpu")


def together(images: Path, folder: Path) -> Path:
    """One folder with both sets of training pictures in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train_bsds", "photos"):
        if not (folder / name).exists():
            (folder / name).symlink_to((images / name).resolve(), target_is_directory=True)
    return folder


def pictures(assets: Path, name: str) -> list[Path]:
    """The large pictures of a benchmark."""
    folder = assets / "images" / "benchmark" / name
    return list(list_images(folder / "HR" if (folder / "HR").is_dir() else folder))


def card(settings: Settings) -> dict[str, Any]:
    """What the terms come to at the start, with the knob at 1."""
    task, model = SuperResolution(4), load_restorer(settings.model["name"])[0]
    items = task.training_set(list_images(settings.images), crop=settings.crop, seed=settings.seed)

    def views(index: int) -> dict[str, torch.Tensor]:
        examples = [items[index * settings.batch + i] for i in range(settings.batch)]
        with torch.no_grad():
            return task.compute_inputs(
                model, {name: torch.stack([one[name] for one in examples]) for name in examples[0]}
            )

    return calibrate(fix_knobs(parse(settings.loss), {"lam": 1.0}), (views(index) for index in range(8))).as_dict()


def result(verified: VerifiedKnob, settings: Settings, run: Path) -> dict[str, Any]:
    """The bars first, for the knob turned by its layers and by mixing its ends, then all that they were taken from."""
    found, axes = verified.record, verified.record["realism"]

    def fronts(name: str) -> dict[str, Any]:
        return {
            axis: {"hypervolume": each["hypervolume"][name], "ratio": each["hypervolume_ratio"][name]}
            for axis, each in axes.items()
        }

    return {
        "what": "x4 super-resolution: one network with a knob beside five separate networks of the same total compute",
        **bars(found),
        "output_interpolation": fronts("output interpolation"),
        "weight_interpolation": fronts("weight interpolation"),
        "interpolated_outputs": bars(found["interpolated_outputs"]),
        "evenly_interpolated_outputs": bars(evenly(verified, settings, run)),
        "knob": {name: fronts(name) for name in verified.series if name.startswith("knob")},
        "seeds": [settings.seed],
        "interval": "95 %, by drawing the pictures anew 1000 times",
        "shared_network": {axis: each["shared_network"] for axis, each in axes.items()},
        "images": found["image_count"],
        "evaluated_on": {name: f"every {n}. picture" for name, n in EVALUATED.items()},
        "protocol": found["protocol"],
        "loss": settings.loss,
        "range": found["knob"],
        "steps": {"knob": settings.steps, **found["baseline_steps"]},
        "no_network": found["no_network"],
        "points": {
            name: [{"knob_value": point.knob_value, **averaged(point.image_metrics)} for point in points]
            for name, points in verified.series.items()
        },
        "seconds": seconds(run),
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}, CPU, one thread, shared",
        "lossmith": lossmith.__version__,
    }


def bars(found: dict[str, Any]) -> dict[str, Any]:
    """What one way of turning comes to."""
    axes, metric = found["realism"], found["accuracy"]["metric"]
    return {
        **{verdict: found[verdict] for verdict in ("certified", "meets_thresholds", "beats_interpolation")},
        "checks": found["checks"],
        "hypervolume_ratio": {
            axis: each["hypervolume_ratio"]["knob at the same values"] for axis, each in axes.items()
        },
        "hypervolume_ratio_of_curve": {axis: each["hypervolume_ratio"]["knob"] for axis, each in axes.items()},
        "spearman": {
            metric: found["accuracy"]["spearman"],
            **{axis: each["spearman"] for axis, each in axes.items()},
            **{f"{metric} against {axis}": each["spearman_with_accuracy"] for axis, each in axes.items()},
        },
        "worst_gap_db": min(gap[metric] for gap in found["equal_length"]),
        "range_ratio": {
            metric: found["accuracy"]["range_ratio"],
            **{axis: each["range_ratio"] for axis, each in axes.items()},
        },
        "equal_length": found["equal_length"],
        "gaps": found["gaps"],
    }


def evenly(verified: VerifiedKnob, settings: Settings, run: Path) -> dict[str, Any]:
    """The ends mixed in evenly spaced shares, whatever the loss at a place is: how it was looked at first."""
    network, axes = load_restorer(run / "model.safetensors")[0], list(verified.record["realism"])
    ((name, (low, high)),) = settings.knobs.items()
    curve = verified.series[INTERPOLATED_OUTPUTS]
    examples = SuperResolution(4).evaluation_set([Path(file) for file in verified.record["images"]])
    judging = CachedEvaluator(SuperResolution(4), examples, ["psnr_y", *axes], folder=run / "verify" / "metrics")
    digest, points = compute_sha256(run / "model.safetensors"), [curve[0]]
    for i, place in enumerate(curve[1:-1], start=1):
        share = i / (len(curve) - 1)

        def mixed(image: torch.Tensor, share: float = share) -> torch.Tensor:
            return torch.lerp(network(image, **{name: low}), network(image, **{name: high}), share)

        points.append(
            EvaluatedPoint(place.knob_value, judging(["interpolated outputs", digest, low, high, share], mixed))
        )
    return certify_knob({**verified.series, INTERPOLATED_OUTPUTS: [*points, curve[-1]]}, realism=axes)[
        "interpolated_outputs"
    ]


def averaged(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    """Each figure's mean over the pictures."""
    rows = list(figures.values())
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def seconds(run: Path) -> dict[str, float]:
    """How long each network took, on a machine that others used too."""
    logs = [run / "log.jsonl", *sorted(run.glob("verify/**/log.jsonl"))]
    return {
        str(log.parent.relative_to(run.parent)): round(json.loads(log.read_text().splitlines()[-1])["seconds"])
        for log in logs
    }


if __name__ == "__main__":
    main()
