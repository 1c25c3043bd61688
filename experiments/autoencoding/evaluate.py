"""Evaluate the autoencoders of train.py on held-out photographs: the effect of each further term.

    python experiments/autoencoding/evaluate.py OUT --images DIR

OUT is the folder of train.py; DIR has photographs of the Kodak set, whose use is unrestricted. Writes result.json,
sheet.png and samples.png beside this file.
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

import lossmith
from lossmith.metrics import describe_protocol
from lossmith.models import Autoencoder, load_restorer
from lossmith.report import save_image_sheet
from lossmith.tasks import Autoencoding
from lossmith.train.evaluation import evaluate_images, mean_metrics

HERE = Path(__file__).parent
CROPS = {"kodim04": (40, 150, 256, 256), "kodim15": (60, 120, 256, 256), "kodim08": (270, 250, 256, 256)}
"""The photographs of the sheet, with their crops: top, left, height, width."""

TITLES = {
    "l1": "L1 alone",
    "l1_kl": "+ KL",
    "kl": "+ perceptual",
    "kl_gan": "+ discriminator",
    "vgg": "perceptual by VGG-16",
    "vgg_gan": "and discriminator",
    "vq_gan": "the same with codes",
}
"""The titles of the runs on the sheet."""

Sheet = dict[str, dict[str, Tensor]]
"""For each photograph, its crops by title."""


class Evaluation(NamedTuple):
    """The evaluation of a run.

    Args:
        count: The number of photographs.
        metrics: The mean metrics of the reconstructions.
        outputs: The loss inputs of each photograph; empty without a network.
    """

    count: int
    metrics: dict[str, float]
    outputs: list[dict[str, Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = [args.out / name for name in TITLES if (args.out / name / "model.safetensors").is_file()]
    sheet: Sheet = {name: {} for name in CROPS}
    rows, details, samples = [], {}, {}
    for run in [None, *runs]:
        name = run.name if run else "bicubic"
        latent = "vq" if name.startswith("vq") else "kl"
        task = Autoencoding(latent=latent, downsampling=4)
        model = load_restorer(run / "model.safetensors")[0] if run else None
        assert model is None or isinstance(model, Autoencoder)
        evaluation = evaluate(task, model, args.images, TITLES.get(name, name), sheet)
        config = json.loads((run / "config.json").read_text()) if run else {}
        log = [json.loads(text) for text in (run / "log.jsonl").read_text().splitlines()] if run else [{}]
        common = {"task": "autoencoding", "run": name, "loss": config.get("loss", "none")}
        common |= {"steps": config.get("steps", 0), "seconds": log[-1].get("seconds", 0.0)}
        for metric, value in evaluation.metrics.items():
            rows.append({**common, "metric": metric, "value": round(value, 4)})
        if model is not None:
            latents = latent_statistics(model, evaluation.outputs)
            rows += [{**common, "metric": metric, "value": round(value, 3)} for metric, value in latents.items()]
            config.pop("images")  # a local path
            details[name] = {"config": config, "last": log[-1]}
            if latent == "kl":
                generator = torch.Generator().manual_seed(0)
                samples[TITLES[name]] = model.sample(6, 64, generator=generator).clamp(0, 1)
        print(name, {row["metric"]: row["value"] for row in rows if row["run"] == name}, flush=True)
    record = build_record(rows, details, evaluation.count)
    (HERE / "result.json").write_text(json.dumps(record, indent=1) + "\n")
    save_sheets(sheet, samples)


def evaluate(task: Autoencoding, model: Autoencoder | None, images: Path, title: str, sheet: Sheet) -> Evaluation:
    """Evaluate a network, or the baseline for None, and add its crops to the sheet."""
    outputs = []

    def restore(batch: Any) -> Tensor:
        if model is None:
            return task.baseline_output(batch)
        inputs = task.compute_inputs(model, batch)
        outputs.append(inputs)
        return inputs["pred"]

    metrics = []
    for row in evaluate_images(task.evaluation_set(images), restore, border=0):
        metrics.append(row.metrics)
        if (photograph := Path(row.name).stem) in CROPS:
            top, left, height, width = CROPS[photograph]
            crop = (slice(None), slice(top, top + height), slice(left, left + width))
            sheet[photograph].setdefault("truth", row.batch["target"][0][crop])
            caption = f"{row.metrics['psnr_rgb']:.1f} dB, LPIPS {row.metrics['lpips_alex']:.3f}"
            sheet[photograph][f"{title}\n{caption}"] = row.pred[0][crop].clamp(0, 1)
    return Evaluation(len(metrics), mean_metrics(metrics), outputs)


def latent_statistics(model: Autoencoder, outputs: list[dict[str, Tensor]]) -> dict[str, float]:
    """Return the perplexity and number of used codes, or the KL divergence and number of active units."""
    if model.codebook is not None:
        size = len(model.codebook.usage)
        counts = sum(torch.bincount(output["indices"].flatten(), minlength=size) for output in outputs)
        assert isinstance(counts, Tensor)
        frequencies = counts / counts.sum()
        entropy = -torch.special.xlogy(frequencies, frequencies).sum()
        return {"perplexity": entropy.exp().item(), "codes": float((counts > 0).sum())}
    kl = [model.latent_metrics(output)["kl"].item() for output in outputs]
    positions = [output["mu"].shape[-2] * output["mu"].shape[-1] for output in outputs]
    kl_per_position = [value / count for value, count in zip(kl, positions, strict=True)]
    means = torch.cat([output["mu"].transpose(0, 1).flatten(1) for output in outputs], dim=1)
    variance = means.var(dim=1, correction=0)
    return {
        "kl_nats_per_place": sum(kl_per_position) / len(kl_per_position),
        "kl_nats_per_image": sum(kl) / len(kl),
        "active_units": float((variance > 0.01).sum()),
    }


def build_record(rows: list[dict[str, Any]], details: dict[str, Any], count: int) -> dict[str, Any]:
    """Return the record of all runs for JSON."""
    return {
        "command": [
            f"python experiments/autoencoding/train.py {name} --images BSDS500/train PHOTOS" for name in details
        ],
        "judged": f"the {count} photographs of Kodak24 in the folder, whole, none of them used for training",
        "protocol": describe_protocol(0),
        "hardware": f"{platform.processor() or platform.machine()}, one thread of {os.cpu_count()} shared cores",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "lossmith": lossmith.__version__},
        "seed": 0,
        "rows": rows,
        "runs": details,
    }


def save_sheets(sheet: Sheet, samples: dict[str, Tensor]) -> None:
    """Save sheet.png with a column per run, and samples.png with a column per run that can be sampled."""
    columns = [torch.cat(list(crops), dim=1) for crops in zip(*(row.values() for row in sheet.values()), strict=True)]
    titles = [title.split("\n")[0] for title in next(iter(sheet.values()))]
    file = save_image_sheet(dict(zip(titles, columns, strict=True)), HERE / "sheet.png")
    Image.open(file).convert("RGB").quantize(256).save(file)
    if samples:
        save_image_sheet({name: torch.cat(list(row), dim=2) for name, row in samples.items()}, HERE / "samples.png")


if __name__ == "__main__":
    main()
