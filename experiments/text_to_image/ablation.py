"""What each term of the fused loss brings to a text-to-image diffusion: alone beside the denoising, and left out.

    LOSSMITH_WEIGHTS=DIR python experiments/text_to_image/ablation.py --out RUNS [--steps 800] [--seeds 0 1 2]

Every arm trains the same network on the same pictures of shapes, level 2 (two things, how they stand, how many), in
the same order, with the same noise: an arm differs by its formula alone. Weights are those of `imagen_fused`; a factor
for all of them was chosen on a seed and captions of its own. One arm is the denoising for as long as all terms take.
Controls, of one seed: a term of weight 0, which must give the denoising's own bits; a perceptual network that was
never trained, and captions that were shuffled among the pictures. Judged is the share of
held-out scenes that are drawn right, of 96 captions with the same noise for all arms, with paired intervals over seeds
and captions.

What is trained or judged once is not trained or judged again. Writes result.json beside this file: rows of system,
loss, seed, metric, value, seconds, megabytes.
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
WEIGHTS = {
    "contrastive": (0.05, "ContrastiveFlow"),
    "perceptual": (0.002, "Gate()*perceptual('squeezenet')"),
    "smoothness": (5.0, "L2 @ Central"),
    "diversity": (0.01, "Dispersive"),
    "attention": (0.02, "AttentionMask('squared')"),
}
"""The terms of `imagen_fused` and their weights there."""
FACTORS = (1 / 3, 1.0, 3.0)
"""Of these weights; which is best is looked for on a seed and captions that nothing is judged on."""
CHOSEN = 1.0  # there it was 59, 58 and 59 of 96: no factor is better than another
CHOOSING, JUDGED = 9, 7
"""Seeds of the captions that the factor is chosen on, also the seed of its trainings, and of those that arms are
judged on."""


class Arm(NamedTuple):
    """A formula, how it is balanced, and how many times the steps of the others it is given."""

    formula: str
    balance: str | None = None
    longer: float = 1.0


def fused(*without: str, factor: float = CHOSEN) -> str:
    """The denoising with all terms but some."""
    terms = [f"{factor * weight:.4g}*{term}" for name, (weight, term) in WEIGHTS.items() if name not in without]
    return " + ".join(["imagen", *terms])


def alone(name: str) -> str:
    """The denoising with one term."""
    return fused(*(other for other in WEIGHTS if other != name))


ARMS = {"denoising": Arm("imagen")}
ARMS |= {f"+ {name}": Arm(alone(name)) for name in WEIGHTS}
ARMS |= {"all": Arm(fused()), "all, balanced": Arm("imagen_fused(shares=True)", "share")}
ARMS |= {f"all - {name}": Arm(fused(name)) for name in WEIGHTS}
ARMS |= {"denoising, longer": Arm("imagen", longer=1.5)}
ARMS |= {
    "control: weight 0": Arm("imagen + 0*perceptual('squeezenet') + 0*Dispersive"),
    "control: random network": Arm("imagen + 0.002*Gate()*L1 @ SqueezeNet('fire5', weights='random')"),
    "control: shuffled captions": Arm("imagen"),
}
CHOICE = {f"all x {factor:.2g}": Arm(fused(factor=factor), longer=1.25) for factor in FACTORS}
ARMS |= CHOICE
Joint = dict[int, list[bool]]
"""For each seed, which captions are drawn right in all that they say."""
COMMON = {"task": "text-to-image", "images": "shapes:2", "scale": 1, "crop": 32, "batch": 16, "lr": 1e-3}
COMMON |= {"warmup": 100, "clip": 1.0, "val_count": 2, "log_every": 100, "checkpoint_every": 1000}
COUNT, STEPS = 96, 25


def shuffled(reader: Any, captions: Sequence[str], **others: Any) -> CaptionEmbeddings:
    """Embeddings that say of each picture what is true of another."""
    found = CaptionEmbeddings(reader, captions, **others)
    found.locations = np.random.default_rng(0).permutation(found.locations)
    return found


def place(arm: str, seed: int, out: Path) -> Path:
    """The run folder of an arm."""
    return out / f"{''.join(c if c.isalnum() else '_' for c in arm)}-{seed}"


def trained(arm: str, seed: int, steps: int, folder: Path) -> None:
    """Trains an arm, and notes its seconds and the most memory that this process has held."""
    formula, balance, longer = ARMS[arm]
    steps = round(longer * steps)
    settings = Settings(
        loss=formula, balance=balance, seed=seed, steps=steps, val_every=steps, model={"name": "denoiser"}, **COMMON
    )
    began = time.process_time()
    with patch.object(caption_data, "CaptionEmbeddings", shuffled) if "shuffled" in arm else nullcontext():
        if train(settings, folder, accelerator="cpu") < steps:
            raise SystemExit(f"{folder} was stopped; the same command goes on.")
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spent = {"seconds": round(time.process_time() - began, 1), "megabytes": round(megabytes)}
    (folder / "spent.json").write_text(json.dumps(spent))


def right(folder: Path, draw: int) -> dict[str, list[bool]]:
    """For each of the captions, which attributes a run draws right."""
    if (known := folder / f"right-{draw}.json").is_file():
        return json.loads(known.read_text())
    prompted = TextToImagePipeline.from_file(folder / "model.safetensors")
    _, held = caption_data.CaptionData().split("shapes:2", None, 32)
    oracle, chance = ShapesOracle(32, level="2"), np.random.default_rng(draw)
    wanted = [held.draw(chance).caption for _ in range(COUNT)]
    made = prompted.generate([held.captions[i] for i in wanted], range(COUNT), SamplerConfig(steps=STEPS))
    pairs = [(oracle.scenes[n], held.scene(i)) for n, i in zip(oracle.classify(made), wanted, strict=True)]
    names = dict.fromkeys(name for _, scene in pairs for name in scene.attributes)
    found = {n: [a.attributes.get(n) == b.attributes.get(n) for a, b in pairs] for n in names}
    found = {"joint": [a == b for a, b in pairs], **found}
    known.write_text(json.dumps(found))
    return found


def interval(ours: Joint, base: Joint) -> dict[str, float]:
    """The mean difference over the seeds that both have, and its interval of 95 %.

    Seeds and captions are drawn anew, the same in both.
    """
    apart = np.array([np.subtract(ours[seed], base[seed], dtype=float) for seed in ours if seed in base])
    chance = np.random.default_rng(0)
    seeds, captions = (chance.integers(0, n, (2000, n)) for n in apart.shape)
    low, high = np.quantile(apart[seeds[:, :, None], captions[:, None, :]].mean(axis=(1, 2)), [0.025, 0.975])
    return {"difference": float(apart.mean()), "low": float(low), "high": float(high)}


def same(one: Path, other: Path) -> bool:
    """Whether two runs ended with the same weights, to the bit."""
    a, b = (load_file(folder / "model.safetensors") for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def table(rows: Sequence[dict[str, Any]], against: dict[str, dict[str, dict[str, float]]]) -> str:
    """A row an arm, as Markdown: how long it took, what it draws right, and how that compares."""
    lines = [
        "| arm (seeds) | CPU s | correct | difference to denoising | difference to all |",
        "|---|---:|---:|---:|---:|",
    ]
    for arm in dict.fromkeys(row["system"].removeprefix("lossmith: ") for row in rows):
        if arm in CHOICE:
            continue
        mine = [row for row in rows if row["system"] == f"lossmith: {arm}" and row["metric"] == "joint"]
        seconds, value = (float(np.mean([row[key] for row in mine])) for key in ("seconds", "value"))
        cells = [f"{arm} ({len(mine)})", f"{seconds:.0f}", f"{value:.3f}"]
        for base in against.values():
            found = base.get(arm)
            cells.append("" if found is None else "{difference:+.3f} ({low:+.3f} to {high:+.3f})".format(**found))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).replace("-0.", "\u22120.")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--known", action="store_true", help="of what is judged already; trains nothing")
    given = parser.parse_args()
    rows, joint, folders = [], {arm: {} for arm in ARMS}, {}

    def judged(arm: str, seed: int, draw: int) -> None:
        folder = place(arm, seed, given.out)
        if given.known and not (folder / f"right-{draw}.json").is_file():
            return
        if not (folder / "spent.json").is_file():
            trained(arm, seed, given.steps, folder)
        spent = json.loads((folder / "spent.json").read_text())
        found = right(folder, draw)
        joint[arm][seed], folders[arm, seed] = found["joint"], folder
        for metric, values in found.items():
            row = {"system": f"lossmith: {arm}", "loss": ARMS[arm].formula, "seed": seed, "metric": metric}
            rows.append({**row, "value": round(float(np.mean(values)), 4), **spent, "captions": draw})
        print(arm, seed, {k: round(float(np.mean(v)), 3) for k, v in found.items()}, flush=True)

    for arm in CHOICE:
        judged(arm, CHOOSING, CHOOSING)
    for arm in (arm for arm in ARMS if arm not in CHOICE):
        for seed in given.seeds[:1] if arm.startswith("control") else given.seeds:
            judged(arm, seed, JUDGED)
    facts = {"steps": given.steps, "count": COUNT, "sampling": STEPS, "torch": torch.__version__}
    against = {
        base: {arm: interval(joint[arm], joint[base]) for arm in ARMS if joint[arm] and arm not in (base, *CHOICE)}
        for base in ("denoising", "all")
    }
    bits = [same(f, folders["denoising", seed]) for (arm, seed), f in folders.items() if arm == "control: weight 0"]
    path = HERE / "result.json"
    before = json.loads(path.read_text()) if path.is_file() else {}
    record = {
        **facts,
        "weight 0 has the bits of none": all(bits) if bits else None,
        "joint, against": against,
        "rows": rows,
    }
    path.write_text(json.dumps({**before, "ablation": record}, indent=1) + "\n")
    print(table(rows, against))


if __name__ == "__main__":
    main()
