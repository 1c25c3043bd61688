"""Measure the effect of each term of the fused loss on text-to-image diffusion: added to the denoising, and left out.

    LOSSMITH_WEIGHTS=DIR python experiments/text_to_image/ablation.py --out RUNS [--steps 800] [--seeds 0 1 2] [--lazy]

Every arm trains the same network on the same images of shapes at level 2 (two objects, their arrangement, their
number), in the same order, with the same noise; arms differ only in their formula. The weights are those of
`imagen_fused`; a common factor was chosen with a separate seed and separate captions. One arm trains the denoising
alone for as long as all terms take. The controls, with one seed, are a term of weight 0, which must not change any bit
of the result; a perceptual network with random weights; and captions that are shuffled among the images. The result is
the fraction of held-out scenes that are generated correctly, for 96 captions with the same noise in all arms, with
paired intervals over seeds and captions.

With `--lazy`, only the fused loss with a lazy perceptual term is trained, and the denoising alone for as long: a whole
training with this loss took 1.115 times the CPU time of one with the denoising alone (3 seeds), of which a step
explains 1.04 (experiments/lazy/text_to_image_cost.py), and the rest is the start and the log of the terms.

Existing runs and evaluations are reused. Writes result.json beside this file, with rows of system, loss, seed, metric,
value, seconds and megabytes.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import load_file

from lossmith.text_to_image import caption_data
from lossmith.text_to_image.encoders import CaptionEmbeddings
from lossmith.text_to_image.models.sampler import SamplerConfig
from lossmith.text_to_image.pipeline import TextToImagePipeline
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.train import Settings, train

HERE = Path(__file__).parent
TERMS = {
    "contrastive": (0.05, "ContrastiveFlow"),
    "perceptual": (0.002, "Gate()*perceptual('squeezenet')"),
    "smoothness": (5.0, "L2 @ Central"),
    "diversity": (0.01, "Dispersive"),
    "attention": (0.02, "AttentionMask('squared')"),
}
"""The terms of `imagen_fused` and their weights in it."""
FACTORS = (1 / 3, 1.0, 3.0)
"""The tried factors of these weights."""
CHOSEN_FACTOR = 1.0  # the factors gave 59, 58 and 59 of 96: none is better
FACTOR_SEED = 9
"""The seed of the trainings and captions by which the factor is chosen."""
EVALUATION_SEED = 7
"""The seed of the captions on which the arms are evaluated."""


class Arm(NamedTuple):
    """A formula, its balancer, and its number of steps relative to the others."""

    formula: str
    balance: str | None = None
    relative_steps: float = 1.0


def fused_formula(*without: str, factor: float = CHOSEN_FACTOR) -> str:
    """Return the denoising with all terms except the given ones."""
    terms = [f"{factor * weight:.4g}*{term}" for name, (weight, term) in TERMS.items() if name not in without]
    return " + ".join(["imagen", *terms])


def lazy_formula(k: int = 4) -> str:
    """Return the denoising with all terms, the perceptual one in every k-th step."""
    return fused_formula().replace("Gate()*perceptual", f"Every({k})*Gate()*perceptual")


def single_term_formula(name: str) -> str:
    """Return the denoising with one term."""
    return fused_formula(*(other for other in TERMS if other != name))


ARMS = {"denoising": Arm("imagen")}
ARMS |= {f"+ {name}": Arm(single_term_formula(name)) for name in TERMS}
ARMS |= {"all": Arm(fused_formula()), "all, balanced": Arm("imagen_fused(shares=True)", "share")}
ARMS |= {f"all - {name}": Arm(fused_formula(name)) for name in TERMS}
ARMS |= {"denoising, longer": Arm("imagen", relative_steps=1.5)}
LAZY_ARMS = {"all, lazy": Arm(lazy_formula()), "denoising, lazy's time": Arm("imagen", relative_steps=1.12)}
ARMS |= LAZY_ARMS
ARMS |= {
    "control: weight 0": Arm("imagen + 0*perceptual('squeezenet') + 0*Dispersive"),
    "control: random network": Arm("imagen + 0.002*Gate()*L1 @ SqueezeNet('fire5', weights='random')"),
    "control: shuffled captions": Arm("imagen"),
}
FACTOR_ARMS = {f"all x {factor:.2g}": Arm(fused_formula(factor=factor), relative_steps=1.25) for factor in FACTORS}
ARMS |= FACTOR_ARMS
COMMON = {"task": "text-to-image", "images": "shapes:2", "scale": 1, "crop": 32, "batch": 16, "lr": 1e-3}
COMMON |= {"warmup": 100, "clip": 1.0, "val_count": 2, "log_every": 100, "checkpoint_every": 1000}
COUNT, SAMPLING_STEPS = 96, 25

JointAccuracy = dict[int, list[bool]]
"""For each seed, whether each caption's scene is generated correctly in all attributes."""


def shuffled_embeddings(encoder: Any, captions: Sequence[str], **options: Any) -> CaptionEmbeddings:
    """Return embeddings that give each image the caption of another."""
    embeddings = CaptionEmbeddings(encoder, captions, **options)
    embeddings.locations = np.random.default_rng(0).permutation(embeddings.locations)
    return embeddings


def run_folder(arm: str, seed: int, out: Path) -> Path:
    """Return the run folder of an arm."""
    return out / f"{''.join(c if c.isalnum() else '_' for c in arm)}-{seed}"


def train_arm(arm: str, seed: int, steps: int, folder: Path) -> None:
    """Train an arm, and write its CPU seconds and the peak memory of this process."""
    formula, balance, relative_steps = ARMS[arm]
    steps = round(relative_steps * steps)
    settings = Settings(
        loss=formula, balance=balance, seed=seed, steps=steps, val_every=steps, model={"name": "denoiser"}, **COMMON
    )
    start = time.process_time()
    is_shuffled = "shuffled" in arm
    with patch.object(caption_data, "CaptionEmbeddings", shuffled_embeddings) if is_shuffled else nullcontext():
        if train(settings, folder, device="cpu") < steps:
            raise SystemExit(f"The training of {folder} was stopped; rerun the command to resume.")
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cost = {"seconds": round(time.process_time() - start, 1), "megabytes": round(megabytes)}
    (folder / "spent.json").write_text(json.dumps(cost))


def accuracy_file(folder: Path, caption_seed: int) -> Path:
    return folder / f"right-{caption_seed}.json"


def evaluate(folder: Path, caption_seed: int) -> dict[str, list[bool]]:
    """Return for each attribute whether each sample of a run has it right; "joint" is for all attributes."""
    if (file := accuracy_file(folder, caption_seed)).is_file():
        return json.loads(file.read_text())
    pipeline = TextToImagePipeline.from_file(folder / "model.safetensors")
    _, held_out = caption_data.CaptionData().split("shapes:2", None, 32)
    oracle, rng = ShapesOracle(32, level="2"), np.random.default_rng(caption_seed)
    captions = [held_out.draw(rng).caption for _ in range(COUNT)]
    prompts = [held_out.captions[i] for i in captions]
    samples = pipeline.generate(prompts, range(COUNT), SamplerConfig(steps=SAMPLING_STEPS))
    pairs = [(oracle.scenes[n], held_out.scene(i)) for n, i in zip(oracle.classify(samples), captions, strict=True)]
    names = dict.fromkeys(name for _, scene in pairs for name in scene.attributes)
    accuracy = {n: [a.attributes.get(n) == b.attributes.get(n) for a, b in pairs] for n in names}
    accuracy = {"joint": [a == b for a, b in pairs], **accuracy}
    file.write_text(json.dumps(accuracy))
    return accuracy


def paired_difference(arm: JointAccuracy, base: JointAccuracy) -> dict[str, float]:
    """Return the mean difference over the common seeds, and its 95 % interval.

    The bootstrap resamples seeds and captions, with the same resamples for both.
    """
    differences = np.array([np.subtract(arm[seed], base[seed], dtype=float) for seed in arm if seed in base])
    rng = np.random.default_rng(0)
    seeds, captions = (rng.integers(0, n, (2000, n)) for n in differences.shape)
    means = differences[seeds[:, :, None], captions[:, None, :]].mean(axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return {"difference": float(differences.mean()), "low": float(low), "high": float(high)}


def have_equal_weights(one: Path, other: Path) -> bool:
    """Return whether two runs ended with the same weights, to the bit."""
    a, b = (load_file(folder / "model.safetensors") for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def format_table(rows: Sequence[dict[str, Any]], differences: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return a Markdown table with a row for each arm: CPU seconds, accuracy and differences."""
    lines = [
        " | ".join(["| arm (seeds) | CPU s | correct", *(f"difference to {base}" for base in differences)]) + " |",
        f"|---{'|---:' * (2 + len(differences))}|",
    ]
    for arm in dict.fromkeys(row["system"].removeprefix("lossmith: ") for row in rows):
        if arm in FACTOR_ARMS:
            continue
        arm_rows = [row for row in rows if row["system"] == f"lossmith: {arm}" and row["metric"] == "joint"]
        seconds, value = (float(np.mean([row[key] for row in arm_rows])) for key in ("seconds", "value"))
        cells = [f"{arm} ({len(arm_rows)})", f"{seconds:.0f}", f"{value:.3f}"]
        for by_arm in differences.values():
            difference = by_arm.get(arm)
            text = "{difference:+.3f} ({low:+.3f} to {high:+.3f})"
            cells.append("" if difference is None else text.format(**difference))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).replace("-0.", "\u22120.")


class Ablation:
    """The results of the arms.

    Args:
        out: The folder of the runs.
        steps: The steps of an arm.
        only_existing: Whether arms without an evaluation are skipped.
    """

    def __init__(self, out: Path, steps: int, only_existing: bool) -> None:
        self.out, self.steps, self.only_existing = out, steps, only_existing
        self.rows: list[dict[str, Any]] = []
        self.joint: dict[str, JointAccuracy] = {arm: {} for arm in ARMS}
        self.folders: dict[tuple[str, int], Path] = {}

    def add(self, arm: str, seed: int, caption_seed: int) -> None:
        """Train and evaluate an arm unless it exists, and add its rows."""
        folder = run_folder(arm, seed, self.out)
        if self.only_existing and not accuracy_file(folder, caption_seed).is_file():
            return
        if not (folder / "spent.json").is_file():
            train_arm(arm, seed, self.steps, folder)
        cost = json.loads((folder / "spent.json").read_text())
        accuracy = evaluate(folder, caption_seed)
        self.joint[arm][seed], self.folders[arm, seed] = accuracy["joint"], folder
        for metric, values in accuracy.items():
            row = {"system": f"lossmith: {arm}", "loss": ARMS[arm].formula, "seed": seed, "metric": metric}
            self.rows.append({**row, "value": round(float(np.mean(values)), 4), **cost, "captions": caption_seed})
        print(arm, seed, {k: round(float(np.mean(v)), 3) for k, v in accuracy.items()}, flush=True)

    def differences(self, bases: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
        """Return the differences of all arms to some arms."""
        return {
            base: {
                arm: paired_difference(self.joint[arm], self.joint[base])
                for arm in ARMS
                if self.joint[arm] and arm not in (base, *FACTOR_ARMS)
            }
            for base in bases
        }

    def is_zero_weight_exact(self) -> bool | None:
        """Return whether a term of weight 0 changes no bit of the weights; None if the control was not run."""
        exact = [
            have_equal_weights(folder, self.folders["denoising", seed])
            for (arm, seed), folder in self.folders.items()
            if arm == "control: weight 0"
        ]
        return all(exact) if exact else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--steps", type=int, default=800, help="steps of an arm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--known", action="store_true", help="use existing evaluations only; train nothing")
    parser.add_argument("--lazy", action="store_true", help="only the lazy arm, and the denoising for as long")
    args = parser.parse_args()
    ablation = Ablation(args.out, args.steps, args.known)
    for arm in () if args.lazy else FACTOR_ARMS:
        ablation.add(arm, FACTOR_SEED, FACTOR_SEED)
    trained = [arm for arm in (LAZY_ARMS if args.lazy else ARMS) if arm not in FACTOR_ARMS]
    for seed in args.seeds:
        for arm in trained:
            if seed == args.seeds[0] or not arm.startswith("control"):
                ablation.add(arm, seed, EVALUATION_SEED)
    differences = ablation.differences(["denoising, lazy's time"] if args.lazy else ["denoising", "all"])
    record = {
        "steps": args.steps,
        "count": COUNT,
        "sampling": SAMPLING_STEPS,
        "torch": torch.__version__,
        "weight 0 has the bits of none": ablation.is_zero_weight_exact(),
        "joint, against": differences,
        "rows": ablation.rows,
    }
    path = HERE / "result.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    name = "lazy ablation" if args.lazy else "ablation"
    path.write_text(json.dumps({**before, name: record}, indent=1) + "\n")
    print(format_table(ablation.rows, differences))


if __name__ == "__main__":
    main()
