"""The second stage of a cascade two ways: by diffusion, and by regression with a restoration network.

    OMP_NUM_THREADS=1 python experiments/text_to_image/stages.py --first RUN --out RUNS [--seconds 360]

RUN is a first stage that was trained on shapes at 32 px, such as that of `lossmith demo text-to-image`. Both ways learn
32 -> 64 px from the same pictures of scenes that are not held out, made small by the mean of squares, for equal
seconds of one processor core: the steps of each are those that fit in, by the seconds that a step takes. The diffusion
hears the caption, and is told of the noise on what it sees; the restoration network hears nothing, and in one arm sees
noise too, of which it is not told. Both are judged on pictures of held-out scenes, as they are made small, and as the
first stage draws them. Writes stages.png, and rows into result.json, beside this file.
"""

import argparse
import fcntl
import json
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.data import upsample
from lossmith.image import to_pil
from lossmith.metrics import compute_image_features, psnr, swd
from lossmith.text_to_image.metrics.kernel_distance import kid
from lossmith.text_to_image.metrics.oracle_accuracy import oracle_accuracy
from lossmith.text_to_image.models.sampler import SamplerConfig
from lossmith.text_to_image.pipeline import TextToImagePipeline, load_upscaler, make_image_grid
from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.train import Settings, train

HERE = Path(__file__).parent
SMALL, LARGE, COUNT, PICTURES = 32, 64, 64, 4000
COMMON = {"scale": 2, "crop": LARGE, "batch": 16, "lr": 1e-3, "warmup": 100, "clip": 1.0, "val_count": 2}
COMMON |= {"val_every": 10**6, "checkpoint_every": 10**6, "log_every": 20}
MEANS = {"degradation": "mean"}
ARMS: dict[str, dict[str, Any]] = {
    "diffusion": {"task": "text-to-image", "loss": "imagen", "model": {"name": "denoiser", "patch_size": 4}},
    "regression, noise": {"task": "super-resolution", "loss": "L1", "options": {**MEANS, "noise": [0, 32]}},
    "regression": {"task": "super-resolution", "loss": "L1", "options": MEANS},
}
Stage = Callable[[Tensor], Tensor]


def pictures(folder: Path, shapes: ShapesDataset, count: int, seed: int) -> Path:
    """A folder of pictures with their captions, as both ways can read it."""
    if not (folder / "metadata.jsonl").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        chance, lines = np.random.default_rng(seed), []
        for k in range(count):
            drawn = shapes.draw(chance)
            to_pil(drawn.image).save(folder / f"{k:05d}.png")
            lines.append(json.dumps({"file_name": f"{k:05d}.png", "text": shapes.captions[drawn.caption]}))
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def run(arm: str, steps: int, data: Path, out: Path) -> float:
    """Trains an arm, and says how many seconds of the processor that took, all in all."""
    began = time.process_time()
    settings = Settings(images=str(data / "train"), val=str(data / "held"), steps=steps, **COMMON, **ARMS[arm])
    if train(settings, out, accelerator="cpu", workers=0) < steps:
        raise SystemExit("It was stopped; the same command goes on.")
    return time.process_time() - began


def pace(arm: str, data: Path, out: Path) -> float:
    """The seconds that a step takes, without what is done once."""
    took = []
    for steps in (5, 25):
        shutil.rmtree(out / "pace", ignore_errors=True)
        took.append(run(arm, steps, data, out / "pace"))
    return (took[1] - took[0]) / 20


def trained(arm: str, seconds: float, data: Path, out: Path) -> dict[str, Any]:
    """A run of an arm that took so long; one that is there is not trained again."""
    folder = out / "".join(c if c.isalnum() else "_" for c in arm)
    facts = folder / "seconds.json"
    if not facts.is_file():
        each = pace(arm, data, out)
        steps = round(seconds / each)
        run(arm, steps, data, folder)
        megabytes = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        facts.write_text(json.dumps({"steps": steps, "seconds": round(steps * each, 1), "megabytes": megabytes}))
    return {"file": folder / "model.safetensors", **json.loads(facts.read_text())}


def judged(
    made: Tensor, small: Tensor, real: Tensor, others: Tensor, scenes: list[Any], true: bool
) -> dict[str, float]:
    """What enlarged pictures are worth; `true` if they stand for the real ones and not for samples."""
    found = oracle_accuracy(ShapesOracle(LARGE), made, scenes)
    found["psnr of its means to what it saw"] = psnr(F.avg_pool2d(made, LARGE // SMALL), small)
    features = [compute_image_features(each)[0] for each in (made, others)]
    found["kid"] = kid(*features, subset_size=COUNT).value
    if true:
        found["psnr"] = psnr(made, real)
        found["swd"] = float(np.mean([swd(a[None], b[None]) for a, b in zip(made, real, strict=True)]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=360)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    given = parser.parse_args()
    known, held = ShapesDataset(LARGE).split(0.15, by="scene")  # as a run on shapes parts them at any side
    data = given.out / "pictures"
    pictures(data / "train", known, PICTURES, 0)
    pictures(data / "held", held, 16, 1)
    runs = {arm: trained(arm, given.seconds, data, given.out) for arm in given.arms}

    chance = np.random.default_rng(7)
    wanted = [held.draw(chance) for _ in range(COUNT)]
    real, prompts = torch.stack([each.image for each in wanted]), [held.captions[each.caption] for each in wanted]
    scenes = [held.scene(each.caption) for each in wanted]
    others = known.images_of([k % len(known) for k in range(2 * COUNT)], seed=3)
    first, how = TextToImagePipeline.from_file(given.first / "model.safetensors"), SamplerConfig()
    sampled = first.generate(prompts, range(COUNT), how)
    seen = {"real": F.avg_pool2d(real, LARGE // SMALL), "samples": sampled}

    stages: dict[str, tuple[str, Stage]] = {"bicubic": ("", lambda small: upsample(small, 2).clamp(0, 1))}
    for arm, facts in runs.items():
        stage = load_upscaler(facts["file"])
        for noise_level in (0.0, 0.2) if arm == "diffusion" else (None,):

            def enlarge(small: Tensor, stage: Any = stage, noise_level: float | None = noise_level) -> Tensor:
                return stage.upscale(small, prompts, range(COUNT), how, noise_level=noise_level)

            stages[arm if noise_level is None else f"{arm}, noise {noise_level:g}"] = (arm, enlarge)
    rows: list[dict[str, Any]] = []
    sheet: list[Tensor] = []
    for of, small in seen.items():
        both = {"real pictures": real} if of == "real" else {}
        for name, (arm, stage) in stages.items():
            began = time.process_time()
            both[name] = stage(small)
            took = (time.process_time() - began) / COUNT
            common = {"system": f"second stage: {name}", "loss": ARMS[arm]["loss"] if arm else "", "seed": 0}
            cost = {k: runs[arm][k] for k in ("steps", "seconds", "megabytes")} if arm else {}
            figures = judged(both[name], small, real, others, scenes, of == "real") | {"seconds a picture": took}
            rows += [{**common, "of": of, "metric": k, "value": round(v, 5), **cost} for k, v in figures.items()]
            print(of, name, {k: round(v, 4) for k, v in figures.items()}, flush=True)
        sheet += [made[:8] for made in both.values()]
    ceiling = judged(real, seen["real"], real, others, scenes, False)
    del ceiling["psnr of its means to what it saw"]  # which is infinite
    print("real pictures", ceiling)
    to_pil(make_image_grid(torch.cat(sheet), 8)).save(HERE / "stages.png", optimize=True)
    facts = {"pictures": PICTURES, "count": COUNT, "sampling": how.steps, "guidance": how.guidance_scale}
    record = {**facts, "torch": torch.__version__, "threads": torch.get_num_threads(), "real pictures": ceiling}
    write("stages", {**record, "rows": rows})


def write(key: str, record: dict[str, Any]) -> None:
    """Puts a part into result.json, whoever else writes there."""
    path = HERE / "result.json"
    with (HERE / "result.json").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        whole = {**json.loads(path.read_text()), key: record}
        path.write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
