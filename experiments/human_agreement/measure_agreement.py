"""Measure rank correlations of losses with the mean opinion scores of a re-created subset of TID2013.

    python experiments/human_agreement/measure_agreement.py --assets DIR

The assets folder holds images/benchmark/Kodak24, images/iqa (the scores of TID2013 and some of its images) and weights.
TID2013's own images are not needed: its references are crops of Kodak's photographs, and three of its distortions are
generated again, at the levels that its authors prescribe. Writes result.json and agreement.png beside this file, after
each photograph; photographs in result.json are not computed again.
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
from recreate_images import TYPES, Pixels, check_crop, crop_reference, psnr, read_mean_opinions, recreate_images
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
DOWNSCALED_DISTS = "DISTS at 256 px"
"""DISTS as its authors use it: the shorter side is downscaled to 256 px first."""
PUBLISHED = {
    "PSNR (L2)": (0.6869, 0.4958),
    "SSIM": (0.6269, 0.4550),
    "MS-SSIM": (0.7852, 0.6033),
    "LPIPS, AlexNet": (0.7445, 0.5477),
    "DISTS": (0.7077, 0.5212),
}
"""Spearman and Kendall on all 3000 images of TID2013: IQA-PyTorch, tests/FR_benchmark_results.csv at 0d00073."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder of images and weights")
    assets = parser.parse_args().assets
    os.environ["LOSSMITH_WEIGHTS"] = str(assets / "weights")
    torch.set_grad_enabled(False)
    opinions = read_mean_opinions(assets / "images" / "iqa" / "mos" / "tid2013_mos.txt")
    file = HERE / "result.json"
    rows = json.loads(file.read_text())["stimuli"] if file.exists() else []
    for photograph in sorted((assets / "images" / "benchmark" / "Kodak24").iterdir()):
        number = int(re.findall(r"\d+", photograph.stem)[0])
        if has_all_scores(rows, number):
            continue
        reference = crop_reference(photograph, number)
        check_crop(reference, number, assets / "images" / "iqa" / "ref_dir")
        rows = [row for row in rows if row["photograph"] != number]
        images = list(recreate_images(reference, number))
        for row, scores in zip(images, compute_scores([row.pop("image") for row in images], reference), strict=True):
            opinion = opinions[number, row["type"], row["level"]]
            rows.append({"photograph": number, "opinion": opinion, **row, "scores": scores})
        rows.sort(key=lambda row: (row["photograph"], row["type"], row["level"]))
        result = {
            **describe_run(),
            "remade": compare_with_original(assets, reference) if number == 1 else read_comparison(file),
            "stimuli": rows,
        }
        result["agreement"] = measure_agreement(rows)
        write_result(file, result)
        print(f"{photograph.stem}: {len(rows)} images", flush=True)
    result = json.loads(file.read_text())
    result["agreement"] = measure_agreement(result["stimuli"])
    write_result(file, result)
    draw_agreement(result["agreement"], HERE / "agreement.png")


def has_all_scores(rows: list[dict], number: int) -> bool:
    """Return whether the rows hold the scores of all losses on the fifteen images of a photograph."""
    names = {*LOSSES, DOWNSCALED_DISTS}
    return sum(row["photograph"] == number and row["scores"].keys() == names for row in rows) == 15


def compute_scores(images: list[Pixels], reference: Pixels) -> Iterator[dict[str, float]]:
    """Yield the values of all losses on each image; networks see the reference once."""
    losses = {name: parse(text) for name, text in LOSSES.items()}
    term_names = [name for name, loss in losses.items() for _ in loss.terms]
    pinned_sum = pinned(sum(losses.values()), target=to_tensor(reference), limit=2**32)
    downscaled_dists = pinned(parse("dists"), target=to_tensor(downscale(reference)))
    for image in images:
        scores = dict.fromkeys(losses, 0.0)
        values = pinned_sum.evaluate({"pred": to_tensor(image)}).values()
        for name, weight, value in zip(term_names, pinned_sum.weights, values, strict=True):
            scores[name] += float(weight.value_at() * value)
        scores[DOWNSCALED_DISTS] = float(downscaled_dists(to_tensor(downscale(image))))
        yield {name: float(f"{value:.6g}") for name, value in scores.items()}


def to_tensor(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255


def downscale(pixels: Pixels) -> Pixels:
    return np.array(Image.fromarray(pixels).resize((512 * 256 // 384, 256), Image.Resampling.BILINEAR))


def compare_with_original(assets: Path, reference: Pixels) -> dict[str, dict[str, float]]:
    """Return LPIPS, DISTS and PSNR of a noisy image of TID2013 and of the recreated one."""
    folder = assets / "images" / "iqa" / "dist_dir"
    original = np.array(Image.open(folder / "i01_01_5.png").convert("RGB"))
    recreated = next(r["image"] for r in recreate_images(reference, 1) if (r["type"], r["level"]) == ("noise", 5))
    losses = {"LPIPS, AlexNet": parse("lpips"), "DISTS": parse("dists")}
    return {
        name: {
            "psnr": round(psnr(image, reference), 2),
            **{n: round(float(loss(to_tensor(image), to_tensor(reference))), 4) for n, loss in losses.items()},
        }
        for name, image in (("TID2013's i01_01_5", original), ("made again", recreated))
    }


def read_comparison(path: Path) -> dict:
    """Return the comparison with the original image from an earlier run."""
    return json.loads(path.read_text())["remade"] if path.exists() else {}


def measure_agreement(rows: list[dict]) -> dict[str, dict]:
    """Return the correlations of each loss with human scores, positive for agreement, in descending order."""
    opinions = np.array([row["opinion"] for row in rows])
    types = np.array([row["type"] for row in rows])
    photographs = np.array([row["photograph"] for row in rows])
    groups = [np.flatnonzero(photographs == number) for number in np.unique(photographs)]
    rng = np.random.default_rng(0)
    samples = [np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))]) for _ in range(2000)]
    pairs = [
        (i, j, np.sign(opinions[i] - opinions[j])) for i, j in pairs_at_equal_psnr(rows) if opinions[i] != opinions[j]
    ]
    agreement = {}
    for name in (*LOSSES, DOWNSCALED_DISTS):
        scores = -np.array([row["scores"][name] for row in rows])
        resampled = [spearmanr(scores[indices], opinions[indices]).statistic for indices in samples]
        low, high = np.percentile(resampled, [2.5, 97.5])
        within = np.mean([spearmanr(scores[indices], opinions[indices]).statistic for indices in groups])
        ordered = np.mean([(1 + np.sign(scores[i] - scores[j]) * sign) / 2 for i, j, sign in pairs])
        agreement[name] = {
            "formula": LOSSES.get(name, "dists"),
            "spearman": round(float(spearmanr(scores, opinions).statistic), 3),
            "interval": [round(float(low), 3), round(float(high), 3)],
            "kendall": round(float(kendalltau(scores, opinions).statistic), 3),
            "within a photograph": round(within, 3),
            "pairs at equal PSNR": round(float(ordered), 3),
            **{
                kind: round(float(spearmanr(scores[types == kind], opinions[types == kind]).statistic), 3)
                for kind in TYPES
            },
        }
        if name in PUBLISHED:
            agreement[name]["published on all of TID2013"] = dict(
                zip(("spearman", "kendall"), PUBLISHED[name], strict=True)
            )
    return dict(sorted(agreement.items(), key=lambda item: -item[1]["spearman"]))


def pairs_at_equal_psnr(rows: list[dict]) -> Iterator[tuple[int, int]]:
    """Yield pairs of images of one photograph with different distortions and a PSNR within 0.5 dB."""
    for i, j in itertools.combinations(range(len(rows)), 2):
        first, second = rows[i], rows[j]
        is_candidate = first["photograph"] == second["photograph"] and first["type"] != second["type"]
        if is_candidate and abs(first["psnr"] - second["psnr"]) < 0.5:
            yield i, j


def describe_run() -> dict[str, str | float]:
    """Return the data set, the command, the machine and the versions."""
    return {
        "set": "a re-created subset of TID2013: noise (1), blur (8) and JPEG (10) at its five levels, generated again "
        "on 384 x 512 crops of Kodak's photographs, with TID2013's mean opinion scores",
        "command": f"python {Path(sys.argv[0]).name} --assets DIR",
        "machine": f"{platform.processor() or platform.machine()}, CPU, {torch.get_num_threads()} thread(s)",
        "versions": f"lossmith {lossmith.__version__}, torch {torch.__version__}, scipy {scipy.__version__}, "
        f"numpy {np.__version__}, Pillow {Image.__version__}",
    }


def write_result(path: Path, result: dict) -> None:
    """Write the result as JSON, with one image per line."""
    rows = ",\n  ".join(json.dumps(row) for row in result["stimuli"])
    text = json.dumps({**result, "stimuli": []}, indent=1)
    path.write_text(text.replace('"stimuli": []', f'"stimuli": [\n  {rows}\n ]') + "\n")


def draw_agreement(agreement: dict[str, dict], path: Path) -> None:
    """Draw each loss's agreement over all images, with its interval, and over each distortion."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(agreement)[::-1]
    figure, axes = pyplot.subplots(figsize=(7.5, 0.26 * len(names) + 1.3), layout="constrained")
    for kind, marker, colour in zip(TYPES, "os^", ("#0072b2", "#e69f00", "#009e73"), strict=True):
        values = [agreement[n][kind] for n in names]
        axes.scatter(values, names, marker=marker, s=18, color=colour, label=f"{kind} alone", zorder=2)
    values = [agreement[n]["spearman"] for n in names]
    errors = [
        [agreement[n]["spearman"] - agreement[n]["interval"][0] for n in names],
        [agreement[n]["interval"][1] - agreement[n]["spearman"] for n in names],
    ]
    axes.errorbar(
        values, names, xerr=errors, fmt="D", color="black", markersize=5, capsize=2, label="all three", zorder=3
    )
    axes.set_xlabel("Spearman's correlation with mean opinion scores; bars: 95 % over photographs")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, loc="upper left")
    axes.tick_params(labelsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
