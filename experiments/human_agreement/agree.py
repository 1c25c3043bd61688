"""How well losses agree with people: rank correlations with the mean opinion scores of a re-made subset of TID2013.

    python experiments/human_agreement/agree.py --assets DIR

DIR holds images/benchmark/Kodak24, images/iqa (the scores of TID2013 and some of its pictures) and weights. TID2013's
own pictures are not needed: its references are crops of Kodak's, and three of its distortions are made again here, at
the levels that its authors prescribe. It writes result.json and agreement.png beside this file, after each photograph;
what result.json has already is not computed again.
"""

import argparse
import itertools
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy
import torch
from PIL import Image
from remake import TYPES, Pixels, check_crop, cut, distorted, mean_opinions, psnr
from scipy.stats import kendalltau, spearmanr

import lossmith
from lossmith import parse, pinned

HERE = Path(__file__).parent
LOSSES = {
    "PSNR (L2)": "L2",
    "L1": "L1",
    "SSIM": "SSIM",
    "MS-SSIM": "MSSSIM",
    "Sobel edges": "L1 @ Sobel",
    "FFT, L1": "fft_l1",
    "LPIPS, AlexNet": "lpips('alex')",
    "LPIPS, VGG-16": "lpips('vgg')",
    "DISTS": "dists",
    "perceptual, SqueezeNet": "perceptual('squeezenet')",
    "perceptual, AlexNet": "perceptual('alexnet')",
    "perceptual, VGG-16": "perceptual('vgg16')",
    "perceptual, VGG-19": "perceptual('vgg19')",
    "perceptual, VGG-19 conv5_4": "perceptual('vgg19', 'conv5_4')",
    "perceptual, VGG-19, L2": "perceptual('vgg19', distance='l2')",
    "style, SqueezeNet": "style('squeezenet')",
    "style, VGG-16": "style('vgg16')",
    "style, VGG-19": "style('vgg19')",
    "contextual": "contextual",
    "contextual, conv3_4": "contextual(layers='conv3_4')",
    "CoBi": "contextual(spatial=0.1)",
    "sliced Wasserstein, VGG-19": "sliced_wasserstein(layers=['relu1_1', 'relu2_1', 'relu3_1', 'relu4_1'])",
    "sliced Wasserstein, pixels": "SlicedWasserstein(32)",
}
SHRUNK = "DISTS at 256 px"
"""DISTS as its authors use it: after shrinking the shorter side to 256 px."""
PUBLISHED = {
    "PSNR (L2)": (0.6869, 0.4958),
    "SSIM": (0.6269, 0.4550),
    "MS-SSIM": (0.7852, 0.6033),
    "LPIPS, AlexNet": (0.7445, 0.5477),
    "DISTS": (0.7077, 0.5212),
}
"""Spearman and Kendall on all 3000 pictures of TID2013: IQA-PyTorch, tests/FR_benchmark_results.csv at 0d00073."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--assets", type=Path, required=True)
    assets = arguments.parse_args().assets
    os.environ["LOSSMITH_WEIGHTS"] = str(assets / "weights")
    torch.set_grad_enabled(False)
    opinions = mean_opinions(assets / "images" / "iqa" / "mos" / "tid2013_mos.txt")
    target = HERE / "result.json"
    rows = json.loads(target.read_text())["stimuli"] if target.exists() else []
    for photograph in sorted((assets / "images" / "benchmark" / "Kodak24").iterdir()):
        number = int(re.findall(r"\d+", photograph.stem)[0])
        if sum(row["photograph"] == number and row["scores"].keys() == {*LOSSES, SHRUNK} for row in rows) == 15:
            continue
        reference = cut(photograph, number)
        check_crop(reference, number, assets / "images" / "iqa" / "ref_dir")
        rows = [row for row in rows if row["photograph"] != number]
        made = list(distorted(reference, number))
        for row, scores in zip(made, scored([row.pop("picture") for row in made], reference), strict=True):
            opinion = opinions[number, row["type"], row["level"]]
            rows.append({"photograph": number, "opinion": opinion, **row, "scores": scores})
        rows.sort(key=lambda row: (row["photograph"], row["type"], row["level"]))
        result = {
            **facts(),
            "remade": check_remade(assets, reference) if number == 1 else known(target),
            "stimuli": rows,
        }
        result["agreement"] = agreement(rows)
        write(target, result)
        print(f"{photograph.stem}: {len(rows)} stimuli", flush=True)
    result = json.loads(target.read_text())
    result["agreement"] = agreement(result["stimuli"])
    write(target, result)
    draw(result["agreement"], HERE / "agreement.png")


def scored(pictures: list[Pixels], reference: Pixels) -> Iterator[dict[str, float]]:
    """What each loss says of each picture; the networks see the reference once."""
    parts = {name: parse(text) for name, text in LOSSES.items()}
    owners = [name for name, part in parts.items() for _ in part.terms]
    fixed = pinned(sum(parts.values()), target=tensor(reference), limit=2**32)
    small = pinned(parse("dists"), target=tensor(shrunk(reference)))
    for picture in pictures:
        scores = dict.fromkeys(parts, 0.0)
        values = fixed.evaluate({"pred": tensor(picture)}).values()
        for owner, weight, value in zip(owners, fixed.weights, values, strict=True):
            scores[owner] += float(weight.value_at() * value)
        scores[SHRUNK] = float(small(tensor(shrunk(picture))))
        yield {name: float(f"{value:.6g}") for name, value in scores.items()}


def tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255


def shrunk(pixels: Pixels) -> Pixels:
    return np.array(Image.fromarray(pixels).resize((512 * 256 // 384, 256), Image.Resampling.BILINEAR))


def check_remade(assets: Path, reference: Pixels) -> dict[str, dict[str, float]]:
    """LPIPS, DISTS and PSNR of a noisy picture of TID2013 and of ours in its place."""
    folder = assets / "images" / "iqa" / "dist_dir"
    real = np.array(Image.open(folder / "i01_01_5.png").convert("RGB"))
    ours = next(r["picture"] for r in distorted(reference, 1) if (r["type"], r["level"]) == ("noise", 5))
    losses = {"LPIPS, AlexNet": parse("lpips"), "DISTS": parse("dists")}
    return {
        name: {
            "psnr": round(psnr(picture, reference), 2),
            **{n: round(float(loss(tensor(picture), tensor(reference))), 4) for n, loss in losses.items()},
        }
        for name, picture in (("TID2013's i01_01_5", real), ("made again", ours))
    }


def known(path: Path) -> dict:
    return json.loads(path.read_text())["remade"] if path.exists() else {}


def agreement(rows: list[dict]) -> dict[str, dict]:
    """Spearman's and Kendall's correlation of each loss with people, positive where it agrees; the best first."""
    opinions = np.array([row["opinion"] for row in rows])
    kinds = np.array([row["type"] for row in rows])
    photographs = np.array([row["photograph"] for row in rows])
    groups = [np.flatnonzero(photographs == number) for number in np.unique(photographs)]
    random = np.random.default_rng(0)
    draws = [np.concatenate([groups[i] for i in random.integers(len(groups), size=len(groups))]) for _ in range(2000)]
    pairs = [(i, j, np.sign(opinions[i] - opinions[j])) for i, j in equal_pairs(rows) if opinions[i] != opinions[j]]
    found = {}
    for name in (*LOSSES, SHRUNK):
        scores = -np.array([row["scores"][name] for row in rows])
        resampled = [spearmanr(scores[at], opinions[at]).statistic for at in draws]
        low, high = np.percentile(resampled, [2.5, 97.5])
        found[name] = {
            "formula": LOSSES.get(name, "dists"),
            "spearman": round(float(spearmanr(scores, opinions).statistic), 3),
            "interval": [round(float(low), 3), round(float(high), 3)],
            "kendall": round(float(kendalltau(scores, opinions).statistic), 3),
            "within a photograph": round(np.mean([spearmanr(scores[at], opinions[at]).statistic for at in groups]), 3),
            "pairs at equal PSNR": round(
                float(np.mean([(1 + np.sign(scores[i] - scores[j]) * s) / 2 for i, j, s in pairs])), 3
            ),
            **{
                kind: round(float(spearmanr(scores[kinds == kind], opinions[kinds == kind]).statistic), 3)
                for kind in TYPES
            },
        }
        if name in PUBLISHED:
            found[name]["published on all of TID2013"] = dict(
                zip(("spearman", "kendall"), PUBLISHED[name], strict=True)
            )
    return dict(sorted(found.items(), key=lambda item: -item[1]["spearman"]))


def equal_pairs(rows: list[dict]) -> Iterator[tuple[int, int]]:
    """The pictures of one photograph that differ in their kind of distortion and by less than 0.5 dB in PSNR."""
    for i, j in itertools.combinations(range(len(rows)), 2):
        one, other = rows[i], rows[j]
        same = one["photograph"] == other["photograph"] and one["type"] != other["type"]
        if same and abs(one["psnr"] - other["psnr"]) < 0.5:
            yield i, j


def facts() -> dict[str, str | float]:
    return {
        "set": "a re-made subset of TID2013: noise (1), blur (8) and JPEG (10) at its five levels, made again on "
        "384 x 512 crops of Kodak's photographs, with TID2013's mean opinion scores",
        "command": f"python {Path(sys.argv[0]).name} --assets DIR",
        "machine": f"{platform.processor() or platform.machine()}, CPU, {torch.get_num_threads()} thread(s)",
        "versions": f"lossmith {lossmith.__version__}, torch {torch.__version__}, scipy {scipy.__version__}, "
        f"numpy {np.__version__}, Pillow {Image.__version__}",
    }


def write(path: Path, result: dict) -> None:
    rows = ",\n  ".join(json.dumps(row) for row in result["stimuli"])
    text = json.dumps({**result, "stimuli": []}, indent=1)
    path.write_text(text.replace('"stimuli": []', f'"stimuli": [\n  {rows}\n ]') + "\n")


def draw(found: dict[str, dict], path: Path) -> None:
    """Each loss's agreement over all pictures, with the interval, and over each kind of distortion alone."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(found)[::-1]
    figure, axes = pyplot.subplots(figsize=(7.5, 0.26 * len(names) + 1.3), layout="constrained")
    for kind, marker, colour in zip(TYPES, "os^", ("#0072b2", "#e69f00", "#009e73"), strict=True):
        axes.scatter(
            [found[n][kind] for n in names], names, marker=marker, s=18, color=colour, label=f"{kind} alone", zorder=2
        )
    middle = [found[n]["spearman"] for n in names]
    reach = [
        [found[n]["spearman"] - found[n]["interval"][0] for n in names],
        [found[n]["interval"][1] - found[n]["spearman"] for n in names],
    ]
    axes.errorbar(
        middle, names, xerr=reach, fmt="D", color="black", markersize=5, capsize=2, label="all three", zorder=3
    )
    axes.set_xlabel("Spearman's correlation with mean opinion scores; bars: 95 % over photographs")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, loc="upper left")
    axes.tick_params(labelsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
