"""Compare a network with a knob to five networks without one: 4x super-resolution, on held-out images.

    python experiments/knob/run.py --assets DIR --out DIR [--start FILE] [--steps 1250]

DIR of --assets has images/train_bsds, images/photos, and images/benchmark with Kodak24 and BSD100. Without --start, a
network is first trained with L1 for 6000 steps. Then follow the network with the knob, five separate networks whose
steps together equal those of the knob, two separate networks with all of the knob's steps, and the knob with one and
two fifths of its steps. All runs are in --out; rerun the command to resume. Writes result.json, front.png and strip.png
beside this file.
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
"""A fidelity term, and two terms for realism: the distribution of texture, and its position.

The layer weights give each term about the gradient norm of L1 at the start, so that fidelity and realism have equal
gradient norms at lam=1. The calibration report ("card") in result.json measures these norms."""
KNOB = {"lam": (0.05, 5.0)}
EQUAL_LENGTH_VALUES = (0.5, 5.0)
"""Knob values at which a separate network is also trained for all steps of the knob: the middle and the end."""
IMAGE_STRIDES = {"Kodak24": 2, "BSD100": 8}
"""The benchmarks; every n-th image of each is evaluated."""
STRIP_IMAGES = ("kodim05", "kodim08")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder with images/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--start", type=Path, help="weight file of the initial network [trained first]")
    parser.add_argument("--steps", type=int, default=1250, help="steps of the knob")
    args = parser.parse_args()
    common = {
        "images": str(link_training_images(args.assets / "images", args.out / "images")),
        "val_count": 4,
        "crop": 96,
        "precision": "bf16-mixed",
        "log_every": 50,
    }
    start = args.start
    if start is None:
        first = {"steps": 6000, "batch": 16, "crop": 128, "lr": 1e-3, "val_every": 1500, "model": {"name": "edsr"}}
        train(Settings(**{**common, "loss": "L1", **first}), args.out / "start")
        start = args.out / "start" / "model.safetensors"
    settings = Settings(
        **common,
        loss=" ".join(LOSS.split()),
        knobs=KNOB,
        steps=args.steps,
        batch=4,
        lr=2e-4,
        val_every=args.steps,
        model={"name": str(start)},
    )
    run = args.out / "knob"
    if train(settings, run) < settings.steps:
        sys.exit("The training was stopped; rerun the command to resume.")
    files = [file for name, n in IMAGE_STRIDES.items() for file in list_benchmark(args.assets, name)[::n]]
    verified = verify_knob(run, files, values=5, equal=EQUAL_LENGTH_VALUES, shorter=[1, 2], train_missing=True)
    print(format_certificate(verified.record))
    record = build_record(verified, settings, run) | {"card": measure_calibration(settings)}
    (HERE / "result.json").write_text(json.dumps(record, indent=1) + "\n")
    draw_certificate(verified.record, verified.series, HERE / "front.png")
    draw_strip(run, [file for file in list_benchmark(args.assets, "Kodak24") if file.stem in STRIP_IMAGES])


def draw_strip(run: Path, files: list[Path]) -> None:
    """Draw the outputs of the knob for some images."""
    task = SuperResolution(4)
    network = load_restorer(run / "model.safetensors")[0]
    images, metrics = task.evaluation_set(files), ["psnr_y", "lpips_alex"]
    draw_sweep_strip(network, task, images, HERE / "strip.png", metrics=metrics, device="cpu")


def link_training_images(images: Path, folder: Path) -> Path:
    """Link both sets of training images into one folder and return this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train_bsds", "photos"):
        if not (folder / name).exists():
            (folder / name).symlink_to((images / name).resolve(), target_is_directory=True)
    return folder


def list_benchmark(assets: Path, name: str) -> list[Path]:
    """Return the high-resolution images of a benchmark."""
    folder = assets / "images" / "benchmark" / name
    return list(list_images(folder / "HR" if (folder / "HR").is_dir() else folder))


def measure_calibration(settings: Settings) -> dict[str, Any]:
    """Return the values and gradient norms of the terms at the start, with the knob at 1."""
    task, model = SuperResolution(4), load_restorer(settings.model["name"])[0]
    training_set = task.training_set(list_images(settings.images), crop=settings.crop, seed=settings.seed)

    def compute_inputs(index: int) -> dict[str, torch.Tensor]:
        examples = [training_set[index * settings.batch + i] for i in range(settings.batch)]
        batch = {name: torch.stack([example[name] for example in examples]) for name in examples[0]}
        with torch.no_grad():
            return task.compute_inputs(model, batch)

    loss = fix_knobs(parse(settings.loss), {"lam": 1.0})
    return calibrate(loss, (compute_inputs(index) for index in range(8))).as_dict()


def build_record(verified: VerifiedKnob, settings: Settings, run: Path) -> dict[str, Any]:
    """Return the record for JSON: the certificates first, then everything from which they were computed."""
    certificate, realism = verified.record, verified.record["realism"]

    def hypervolumes(name: str) -> dict[str, Any]:
        return {
            metric: {"hypervolume": each["hypervolume"][name], "ratio": each["hypervolume_ratio"][name]}
            for metric, each in realism.items()
        }

    return {
        "what": "x4 super-resolution: one network with a knob beside five separate networks of the same total compute",
        **summarize(certificate),
        "output_interpolation": hypervolumes("output interpolation"),
        "weight_interpolation": hypervolumes("weight interpolation"),
        "interpolated_outputs": summarize(certificate["interpolated_outputs"]),
        "evenly_interpolated_outputs": summarize(certify_even_interpolation(verified, settings, run)),
        "knob": {name: hypervolumes(name) for name in verified.series if name.startswith("knob")},
        "seeds": [settings.seed],
        "interval": "95 %, bootstrap over the images, 1000 resamples",
        "shared_network": {metric: each["shared_network"] for metric, each in realism.items()},
        "images": certificate["image_count"],
        "evaluated_on": {name: f"one image in {n}" for name, n in IMAGE_STRIDES.items()},
        "protocol": certificate["protocol"],
        "loss": settings.loss,
        "range": certificate["knob"],
        "steps": {"knob": settings.steps, **certificate["baseline_steps"]},
        "no_network": certificate["no_network"],
        "points": {
            name: [{"knob_value": point.knob_value, **average(point.image_metrics)} for point in points]
            for name, points in verified.series.items()
        },
        "seconds": read_training_seconds(run),
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}, CPU, one thread, shared",
        "lossmith": lossmith.__version__,
    }


def summarize(certificate: dict[str, Any]) -> dict[str, Any]:
    """Return the results of a certificate."""
    realism, metric = certificate["realism"], certificate["accuracy"]["metric"]
    accuracy = certificate["accuracy"]
    return {
        **{name: certificate[name] for name in ("certified", "meets_thresholds", "beats_interpolation")},
        "checks": certificate["checks"],
        "hypervolume_ratio": {
            name: each["hypervolume_ratio"]["knob at the same values"] for name, each in realism.items()
        },
        "hypervolume_ratio_of_curve": {name: each["hypervolume_ratio"]["knob"] for name, each in realism.items()},
        "spearman": {
            metric: accuracy["spearman"],
            **{name: each["spearman"] for name, each in realism.items()},
            **{f"{metric} against {name}": each["spearman_with_accuracy"] for name, each in realism.items()},
        },
        "worst_gap_db": min(gap[metric] for gap in certificate["equal_length"]),
        "range_ratio": {
            metric: accuracy["range_ratio"],
            **{name: each["range_ratio"] for name, each in realism.items()},
        },
        "equal_length": certificate["equal_length"],
        "gaps": certificate["gaps"],
    }


def certify_even_interpolation(verified: VerifiedKnob, settings: Settings, run: Path) -> dict[str, Any]:
    """Return the certificate of the interpolation between the outputs at both ends, with evenly spaced shares.

    `INTERPOLATED_OUTPUTS` chooses the shares by the loss instead.
    """
    network, realism = load_restorer(run / "model.safetensors")[0], list(verified.record["realism"])
    ((name, (low, high)),) = settings.knobs.items()
    curve = verified.series[INTERPOLATED_OUTPUTS]
    images = SuperResolution(4).evaluation_set([Path(file) for file in verified.record["images"]])
    evaluator = CachedEvaluator(SuperResolution(4), images, ["psnr_y", *realism], folder=run / "verify" / "metrics")
    digest, points = compute_sha256(run / "model.safetensors"), [curve[0]]
    for i, point in enumerate(curve[1:-1], start=1):
        share = i / (len(curve) - 1)

        def interpolate(image: torch.Tensor, share: float = share) -> torch.Tensor:
            return torch.lerp(network(image, **{name: low}), network(image, **{name: high}), share)

        metrics = evaluator(["interpolated outputs", digest, low, high, share], interpolate)
        points.append(EvaluatedPoint(point.knob_value, metrics))
    series = {**verified.series, INTERPOLATED_OUTPUTS: [*points, curve[-1]]}
    return certify_knob(series, realism=realism)["interpolated_outputs"]


def average(image_metrics: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the images."""
    rows = list(image_metrics.values())
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def read_training_seconds(run: Path) -> dict[str, float]:
    """Return the seconds of each training, on a shared machine."""
    logs = [run / "log.jsonl", *sorted(run.glob("verify/**/log.jsonl"))]
    return {
        str(log.parent.relative_to(run.parent)): round(json.loads(log.read_text().splitlines()[-1])["seconds"])
        for log in logs
    }


if __name__ == "__main__":
    main()
