"""Stylize photographs in the style of public-domain paintings, and write image sheets and figures beside this file.

    python experiments/style/run.py ASSETS RUN

ASSETS has images/samples and images/style; RUN is a run of `lossmith train style` on starry_night.jpg, see README.md.
"""

import argparse
import json
import os
import platform
import resource
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import lossmith
from lossmith import parse
from lossmith.data import decode_image
from lossmith.image import to_float
from lossmith.models import load_restorer
from lossmith.report.image_sheet import save_image_sheet, stack_sheets
from lossmith.style_transfer import StyleTransferConfig, StyleTransferResult, build_style_formula, stylize
from lossmith.style_transfer.image_sizes import resize_longer_side

HERE = Path(__file__).parent
PAIRS = (("china.jpg", "starry_night.jpg"), ("chelsea.png", "munch.jpg"), ("coffee.png", "udnie.jpg"))
CONFIGS = {
    "vgg19": StyleTransferConfig(side=320, steps=40, optimizer="lbfgs"),
    "embedded": StyleTransferConfig(side=256),
}


class Experiment:
    """The images of the experiment and its record.

    Args:
        assets: The folder with images/samples and images/style.
    """

    def __init__(self, assets: Path) -> None:
        self.images = assets / "images"
        self.rows: list[dict[str, object]] = []
        versions = {"lossmith": lossmith.__version__, "torch": torch.__version__, "python": platform.python_version()}
        self.record: dict[str, object] = {
            "command": "python experiments/style/run.py ASSETS RUN",
            "hardware": f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} thread, shared with other work",
            "versions": versions,
            "seed": 0,
        }

    def read(self, folder: str, name: str) -> Tensor:
        """Return an image (1, 3, H, W) in [0, 1]."""
        return to_float(decode_image(self.images / folder / name))[None]

    def stylize(self, net: str, pair: tuple[str, str], config: StyleTransferConfig) -> StyleTransferResult:
        """Stylize a photograph and add the cost to the record."""
        wall, cpu = time.monotonic(), time.process_time()
        content, style = self.read("samples", pair[0]), self.read("style", pair[1])
        result = stylize(content, [style], parse(build_style_formula(net)), config=config)
        row = describe(net, pair, result, time.monotonic() - wall, time.process_time() - cpu)
        self.rows.append({**row, "optimizer": config.optimizer})
        self.record["paintings"] = self.rows
        self.write()
        print(net, pair, row["seconds"], flush=True)
        return result

    def write(self) -> None:
        (HERE / "result.json").write_text(json.dumps(self.record, indent=2) + "\n", encoding="utf-8")


def describe(
    net: str, pair: tuple[str, str], result: StyleTransferResult, wall_seconds: float, cpu_seconds: float
) -> dict[str, object]:
    """Return the row of a stylization: its stages, its seconds and the peak memory."""
    stages = [{**stage._asdict(), "image": list(stage.image.shape)} for stage in result.stages]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    row = {"net": net, "content": pair[0], "style": pair[1], "seconds": round(wall_seconds, 1), "stages": stages}
    # unlike the wall-clock time, the CPU time excludes other processes
    return {**row, "cpu seconds": round(cpu_seconds, 1), "peak MB of the process so far": peak}


def save_jpeg(rows: list[dict[str, Tensor]], name: str) -> None:
    """Save image sheets one below the other as a JPEG."""
    sheets = [save_image_sheet(row, HERE / f"sheet{i}.png") for i, row in enumerate(rows)]
    stack_sheets(sheets).save(HERE / name, quality=88)


def inset(content: Tensor, style: Tensor) -> Tensor:
    """Return the photograph with the painting in its lower right corner."""
    small, image = resize_longer_side(style, 112)[0], content[0].clone()
    framed = F.pad(small, (3, 3, 3, 3), value=1.0)
    image[:, -framed.shape[1] :, -framed.shape[2] :] = framed
    return image


def stylize_pairs(experiment: Experiment) -> None:
    """Stylize all pairs by optimization, with VGG-19 and the embedded network, and save paintings.jpg."""
    sheets: list[dict[str, Tensor]] = [{}, {}, {}]
    for pair in PAIRS:
        content, style = resize_longer_side(experiment.read("samples", pair[0]), 320), experiment.read("style", pair[1])
        sheets[0][f"{pair[0]}\n{pair[1]}"] = inset(content, style)
        for sheet, (net, config) in zip(sheets[1:], CONFIGS.items(), strict=True):
            result = experiment.stylize(net, pair, config)
            seconds = experiment.rows[-1]["cpu seconds"]
            sheet[f"{net}, {config.side} px\n{pair[0]}, {seconds:.0f} s of a core"] = result.image[0]
    save_jpeg(sheets, "paintings.jpg")


def apply_style_network(experiment: Experiment, run: Path) -> None:
    """Stylize all photographs with the network of a run, and save networks.jpg."""
    network, header = load_restorer(run / "model.safetensors")
    sheets: list[dict[str, Tensor]] = [{}, {}]
    for name, _ in PAIRS:
        content = resize_longer_side(experiment.read("samples", name), 256)
        start = time.monotonic()
        with torch.inference_mode():
            output = network(content).clamp(0, 1)
        seconds = time.monotonic() - start
        sheets[0][name] = content[0]
        sheets[1][f"{name}\nstyle network, {seconds:.1f} s"] = output[0].clone()
    training = {key: header[key] for key in ("loss", "model", "step")}
    experiment.record["stylist"] = {"last seconds a picture": round(seconds, 2), "what it was trained by": training}
    save_jpeg(sheets, "networks.jpg")
    experiment.write()


def stylize_large(experiment: Experiment) -> None:
    """Stylize one photograph at 1024 px with both networks, and save stages.jpg."""
    experiment.stylize("embedded", PAIRS[0], StyleTransferConfig(side=1024))
    config = StyleTransferConfig(side=1024, steps=100, optimizer="lbfgs")
    result = experiment.stylize("vgg19", PAIRS[0], config)
    stages = {
        f"{s.side} px, {s.steps} steps\n{s.seconds:.0f} s": resize_longer_side(s.image, 384)[0] for s in result.stages
    }
    save_jpeg([stages], "stages.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assets", type=Path, help="folder with images/samples and images/style")
    parser.add_argument("run", type=Path, help="run folder of lossmith train style")
    args = parser.parse_args()
    experiment = Experiment(args.assets)
    stylize_pairs(experiment)
    apply_style_network(experiment, args.run)
    stylize_large(experiment)


if __name__ == "__main__":
    main()
