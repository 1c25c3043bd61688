"""What the second and the third term bought an autoencoder, on pictures that none has seen.

    python experiments/autoencoding/judge.py OUT --pictures DIR

OUT is the folder of train.py; DIR holds photographs of the Kodak set, whose use is unrestricted. Writes result.json,
sheet.png and samples.png beside this file.
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

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
SHOWN = {"kodim04": (40, 150, 256, 256), "kodim15": (60, 120, 256, 256), "kodim08": (270, 250, 256, 256)}
"""Photographs, with the place that is drawn: top, left, height, width."""

CALLED = {
    "l1": "L1 alone",
    "l1_kl": "+ KL",
    "kl": "+ perceptual",
    "kl_gan": "+ critic",
    "vgg": "perceptual by VGG-16",
    "vgg_gan": "and critic",
    "vq_gan": "the same with codes",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--pictures", type=Path, required=True)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    runs = [given.out / name for name in CALLED if (given.out / name / "model.safetensors").is_file()]
    drawn: dict[str, dict[str, Tensor]] = {name: {} for name in SHOWN}
    rows, details, samples = [], {}, {}
    for run in [None, *runs]:
        latent = "vq" if run and run.name.startswith("vq") else "kl"
        task, notes = Autoencoding(latent=latent, downsampling=4), []
        model = load_restorer(run / "model.safetensors")[0] if run else None
        assert model is None or isinstance(model, Autoencoder)

        def restore(batch: Any, task: Autoencoding = task, model: Any = model, notes: Any = notes) -> Tensor:
            if model is None:
                return task.baseline_output(batch)
            views = task.compute_inputs(model, batch)
            notes.append(views)
            return views["pred"]

        found = []
        for row in evaluate_images(task.evaluation_set(given.pictures), restore, border=0):
            found.append(row.metrics)
            if row.name in SHOWN:
                top, left, height, width = SHOWN[row.name]
                part = (slice(None), slice(top, top + height), slice(left, left + width))
                drawn[row.name].setdefault("truth", row.batch["target"][0][part])
                said = f"{row.metrics['psnr_rgb']:.1f} dB, LPIPS {row.metrics['lpips_alex']:.3f}"
                drawn[row.name][f"{CALLED[run.name] if run else 'bicubic'}\n{said}"] = row.pred[0][part].clamp(0, 1)
        config = json.loads((run / "config.json").read_text()) if run else {}
        log = [json.loads(text) for text in (run / "log.jsonl").read_text().splitlines()] if run else [{}]
        name = run.name if run else "bicubic"
        common = {"task": "autoencoding", "run": name, "loss": config.get("loss", "none")}
        common |= {"steps": config.get("steps", 0), "seconds": log[-1].get("seconds", 0.0)}
        for metric, value in mean_metrics(found).items():
            rows.append({**common, "metric": metric, "value": round(value, 4)})
        if model is not None:
            latents = told(model, notes)
            rows += [{**common, "metric": metric, "value": round(value, 3)} for metric, value in latents.items()]
            config.pop("images")  # a place on this machine
            details[name] = {"config": config, "last": log[-1]}
            if latent == "kl":
                samples[CALLED[name]] = model.sample(6, 64, generator=torch.Generator().manual_seed(0)).clamp(0, 1)
        print(name, {row["metric"]: row["value"] for row in rows if row["run"] == name}, flush=True)
    result = {
        "command": [
            f"python experiments/autoencoding/train.py {name} --images BSDS500/train PHOTOS" for name in details
        ],
        "judged": f"the {len(found)} photographs of Kodak24 that were there, whole, none of them trained on",
        "protocol": describe_protocol(0),
        "hardware": f"{platform.processor() or platform.machine()}, one thread of {os.cpu_count()} shared cores",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "lossmith": lossmith.__version__},
        "seed": 0,
        "rows": rows,
        "runs": details,
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    columns = [torch.cat(list(each), dim=1) for each in zip(*(one.values() for one in drawn.values()), strict=True)]
    titles = [title.split("\n")[0] for title in next(iter(drawn.values()))]
    drawn_at = save_image_sheet(dict(zip(titles, columns, strict=True)), HERE / "sheet.png")
    Image.open(drawn_at).convert("RGB").quantize(256).save(drawn_at)
    if samples:
        save_image_sheet({name: torch.cat(list(row), dim=2) for name, row in samples.items()}, HERE / "samples.png")


def told(model: Autoencoder, notes: list[dict[str, Tensor]]) -> dict[str, float]:
    """How the latents of some pictures are used."""
    if model.codebook is not None:
        counts = sum(torch.bincount(note["indices"].flatten(), minlength=len(model.codebook.usage)) for note in notes)
        assert isinstance(counts, Tensor)
        share = counts / counts.sum()
        entropy = -torch.special.xlogy(share, share).sum()
        return {"perplexity": entropy.exp().item(), "codes": float((counts > 0).sum())}
    figures = [model.latent_metrics(note) for note in notes]
    places = [note["mu"].shape[-2] * note["mu"].shape[-1] for note in notes]
    per = [each["kl"].item() / count for each, count in zip(figures, places, strict=True)]
    whole = torch.cat([note["mu"].transpose(0, 1).flatten(1) for note in notes], dim=1)
    spread = whole.var(dim=1, correction=0)
    return {
        "kl_nats_per_place": sum(per) / len(per),
        "kl_nats_per_image": sum(each["kl"].item() for each in figures) / len(figures),
        "active_units": float((spread > 0.01).sum()),
    }


if __name__ == "__main__":
    main()
