"""Evaluate the network with a texture branch on held-out photographs, and draw its strip.

    python experiments/realism/evaluate.py MODEL --assets DIR [--other NAME=FILE ...] [--sets BSD100 Kodak24 Set14]

DIR has images/benchmark and, for x4, weights/sr_srgan_x4.safetensors; LPIPS and DISTS need their weights.
Every fourth image of BSD100, every third of Kodak24 and all of Set14; the protocol of the super-resolution papers.
MODEL is at five places from accurate to realistic; --other adds weight files of any network. No image of these sets
chose anything. Writes rows.json (the metrics of each image), result.json, table.md and strip.png. Methods that
rows.json already has are not evaluated again, unless --again names them.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lossmith.data import SuperResolutionPairs, list_images, upsample
from lossmith.metrics import METRICS, compute_metrics
from lossmith.models import TexturedEDSR, load_restorer
from lossmith.report import save_image_sheet

HERE = Path(__file__).parent
STRIDES = {"BSD100": 4, "Kodak24": 3, "Set14": 1}
METRIC_NAMES = ("psnr_y", "lpips_alex", "dists", "swd", "grid", "grid_p90", "colour")
PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
STRIP = ("Kodak24", "kodim13", (230, 200, 104, 128))
"""Set, photograph, and top, left, height and width of the region of the strip."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="weight file of the network")
    parser.add_argument("--assets", type=Path, required=True, help="folder with images/benchmark and weights")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=FILE", help="a further network")
    parser.add_argument("--sets", nargs="+", default=list(STRIDES), choices=list(STRIDES))
    parser.add_argument("--only", nargs="+", help="the methods to evaluate [all]")
    parser.add_argument("--again", nargs="+", default=[], help="methods to evaluate again")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the results [beside this file]")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_restorer(args.model)[0]
    assert isinstance(model, TexturedEDSR)
    scale = model.scale
    networks: dict[str, Callable[[Tensor], Tensor]] = {"bicubic": lambda low: upsample(low, scale)}
    for name, file in (text.split("=", 1) for text in args.other):
        networks[name] = load_restorer(file, scale=scale)[0]
    if scale == 4:
        networks["SRGAN (published)"] = load_srgan(args.assets / "weights" / "sr_srgan_x4.safetensors")
    cache = args.out / "rows.json"
    rows: dict[str, dict[str, dict[str, dict[str, float]]]] = json.loads(cache.read_text()) if cache.exists() else {}
    methods = [*networks, *(f"realism {place:g}" for place in PLACES)]
    for name in args.again:
        rows.pop(name, None)
    for folder in args.sets:
        for example in held_out_pairs(args.assets, folder, scale):
            low, target = example.batch["input"], example.batch["target"]
            missing = [
                name
                for name in args.only or methods
                if example.name not in rows.setdefault(name, {}).setdefault(folder, {})
            ]
            with torch.no_grad():
                outputs = {name: network(low) for name, network in networks.items() if name in missing}
                accurate, realistic = model.forward_ends(low)
                outputs |= {f"realism {place:g}": torch.lerp(accurate, realistic, place) for place in PLACES}
            for name in missing:
                rows[name][folder][example.name] = compute_metrics(
                    outputs[name], target, border=scale, scale=scale, metrics=METRIC_NAMES
                )
            if missing:
                print(folder, example.name, flush=True)
                cache.write_text(json.dumps(rows))
            if folder == STRIP[0] and STRIP[1] in example.name:
                draw_strip(args.out / "strip.png", low, target, outputs)
    evaluated = {name: {folder: set(each) for folder, each in rows[name].items()} for name in methods if name in rows}
    complete = [name for name in evaluated if evaluated[name] == next(iter(evaluated.values()))]
    result = {name: {folder: mean(list(each.values())) for folder, each in rows[name].items()} for name in complete}
    for sets in result.values():
        sets["all"] = mean(list(sets.values()))
    counts = {folder: len(each) for folder, each in next(iter(rows.values())).items()}
    (args.out / "result.json").write_text(json.dumps({"images": counts, "metrics": result}, indent=1) + "\n")
    (args.out / "table.md").write_text(format_table(result))


def held_out_pairs(assets: Path, folder: str, scale: int) -> SuperResolutionPairs:
    """Return the evaluated photographs of a set, with its own small images if it has some."""
    root = assets / "images" / "benchmark" / folder
    if (root / f"LRx{scale}").is_dir():
        return SuperResolutionPairs(root, scale)
    photographs = root / "HR" if (root / "HR").is_dir() else root
    return SuperResolutionPairs(list(list_images(photographs))[:: STRIDES[folder]], scale)


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric."""
    return {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in METRIC_NAMES}


def format_table(result: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return a table in Markdown for each set and for the mean of the sets."""
    lines = []
    for folder in next(iter(result.values())):
        lines += ["", f"| {folder} | " + " | ".join(METRICS[name].name for name in METRIC_NAMES) + " |"]
        lines += ["|---|" + "---|" * len(METRIC_NAMES)]
        for name, sets in result.items():
            values = (f"{sets[folder][metric]:.{METRICS[metric].digits}f}" for metric in METRIC_NAMES)
            lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines[1:]) + "\n"


def draw_strip(file: Path, low: Tensor, target: Tensor, outputs: dict[str, Tensor]) -> None:
    """Draw a region at the five places beside the input and the truth."""
    top, left, height, width = STRIP[2]
    images = {"input": F.interpolate(low, size=target.shape[-2:], mode="nearest")}
    images |= {name: image for name, image in outputs.items() if name.startswith("realism")} | {"ground truth": target}
    region = (0, slice(None), slice(top, top + height), slice(left, left + width))
    zoomed = {name: F.interpolate(image[region][None], scale_factor=2)[0] for name, image in images.items()}
    save_image_sheet(zoomed, file)


class SRGAN(nn.Module):
    """The generator of SRGAN with five residual blocks, in the names of the published weights."""

    def __init__(self) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, side: int = 3) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, side, padding=side // 2)

        self.block1 = nn.Sequential(conv(3, 64, 9), nn.PReLU())
        for index in range(2, 7):
            parts = {"conv1": conv(64, 64), "bn1": nn.BatchNorm2d(64), "prelu": nn.PReLU()}
            self.add_module(f"block{index}", nn.ModuleDict(parts | {"conv2": conv(64, 64), "bn2": nn.BatchNorm2d(64)}))
        self.block7 = nn.Sequential(conv(64, 64), nn.PReLU())
        ups = [nn.ModuleDict({"conv": conv(64, 256), "prelu": nn.PReLU()}) for _ in range(2)]
        self.block8 = nn.ModuleList([*ups, conv(64, 3, 9)])

    def forward(self, image: Tensor) -> Tensor:
        """Return the upscaled images."""
        first = features = self.block1(image)
        for index in range(2, 7):
            block = self.get_submodule(f"block{index}")
            assert isinstance(block, nn.ModuleDict)
            inner = block["prelu"](block["bn1"](block["conv1"](features)))
            features = features + block["bn2"](block["conv2"](inner))
        features = first + self.block7(features)
        *ups, last = self.block8
        for up in ups:
            features = up["prelu"](F.pixel_shuffle(up["conv"](features), 2))
        output: Tensor = (last(features).tanh() + 1) / 2
        return output


def load_srgan(file: Path) -> SRGAN:
    """Return the published generator."""
    network = SRGAN().eval()
    network.load_state_dict(load_file(file), strict=False)  # without the counters of batch normalisation
    return network


if __name__ == "__main__":
    main()
