"""What the second term bought: runs beside bicubic and published networks, on pictures that nothing was tuned on.

    python experiments/super_resolution/compare.py RUN... --assets DIR

RUN is a folder of `lossmith train super-resolution --scale 4`; DIR holds images/benchmark with Set5, Set14 and BSD100
and the published networks' scores (sr_x4_anchor_scores.json). Writes result.json, plane.png and one picture a shown
photograph beside this file.
"""

import argparse
import json
import platform
from pathlib import Path

import torch

import lossmith
from lossmith.models import load
from lossmith.report import sheet
from lossmith.tasks import SuperResolution
from lossmith.train.judge import judge, means

HERE = Path(__file__).parent
SETS = ("Set5", "Set14", "BSD100")
SHOWN = {"Set14": "baboon", "BSD100": "69015"}
PLACES = {"baboon": (20, 60, 120, 160), "69015": (90, 150, 120, 160)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("runs", nargs="+", type=Path)
    arguments.add_argument("--assets", type=Path, required=True)
    given = arguments.parse_args()
    benchmark = given.assets / "images" / "benchmark"
    task = SuperResolution(4)
    ways = {"bicubic": task.plain}
    facts = {}
    for run in given.runs:
        config = json.loads((run / "config.json").read_text())
        model = load(run / "model.safetensors")[0].eval()
        ways[config["loss"]] = lambda batch, model=model: model(batch["input"])
        last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
        kept = ("steps", "batch", "crop", "lr", "precision", "seed")
        facts[config["loss"]] = {name: config[name] for name in kept} | {"seconds": last["seconds"]}
    scores: dict[str, dict[str, dict[str, float]]] = {}
    drawn: dict[str, dict[str, torch.Tensor]] = {name: {} for name in SHOWN.values()}
    for name, restore in ways.items():
        scores[name] = {}
        for folder in SETS:
            rows = list(judge(task.evaluation(benchmark / folder), restore, border=task.border))
            scores[name][folder] = {key: round(value, 4) for key, value in means([row.figures for row in rows]).items()}
            print(f"{name:40} {folder:8}", scores[name][folder], flush=True)
            for row in rows:
                if row.name == SHOWN.get(folder):
                    figures = f"{row.figures['psnr_y']:.2f} dB, LPIPS {row.figures['lpips_alex']:.3f}"
                    drawn[row.name][f"{name}\n{figures}"] = row.pred[0]
                    drawn[row.name]["truth\n "] = row.batch["target"][0]
    anchors = json.loads((benchmark / "sr_x4_anchor_scores.json").read_text())
    result = {
        "protocol": "x4, MATLAB bicubic, 8 bit, border 4; PSNR and SSIM on Y of BT.601, LPIPS 0.1 AlexNet on RGB",
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}, CPU",
        "lossmith": lossmith.__version__,
        "runs": facts,
        "scores": scores,
        "published": {name: anchors[name] for name in anchors if name != "bicubic"},
    }
    (HERE / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, pictures in drawn.items():
        if pictures:
            pictures["truth\n "] = pictures.pop("truth\n ")
            sheet(pictures, HERE / f"{name}.png", crop=PLACES[name])
    plane(scores, anchors)


def plane(scores: dict[str, dict[str, dict[str, float]]], anchors: dict[str, dict[str, dict[str, float]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for axis, folder in zip(axes, ("Set5", "Set14"), strict=True):
        for name, sets in anchors.items():
            if folder in sets and name != "bicubic":
                point = (sets[folder]["psnr_y"], sets[folder]["lpips_alex"])
                axis.plot(*point, "o", color="0.6")
                axis.annotate(name, point, textcoords="offset points", xytext=(5, 4), fontsize=7, color="0.45")
        for name, sets in scores.items():
            point = (sets[folder]["psnr_y"], sets[folder]["lpips_alex"])
            axis.plot(*point, "o", color="#0072b2" if name != "bicubic" else "k")
            axis.annotate(name, point, textcoords="offset points", xytext=(5, 4), fontsize=8, weight="bold")
        axis.set(title=f"{folder} x4", xlabel="PSNR-Y, dB (accuracy →)", ylabel="LPIPS-Alex (↓ realism)")
        axis.invert_yaxis()
        axis.margins(0.18)
    figure.savefig(HERE / "plane.png", dpi=110)


if __name__ == "__main__":
    main()
