"""Measure the CPU time of a text-to-image training step with each term of the fused loss, and with a lazy one.

    LOSSMITH_WEIGHTS=DIR OMP_NUM_THREADS=1 python experiments/lazy/text_to_image_cost.py [--rounds 5]

The network, the images and the weights are those of experiments/text_to_image/ablation.py. The formulas alternate; a
step is the network, the loss, both gradients and the optimizer. Times are medians over the rounds of the mean over 4
steps, as CPU times of the process. Writes text_to_image_cost.json beside this file.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import default_collate

from lossmith import parse
from lossmith.train import RunFolder, Settings
from lossmith.train.preparation import prepare_run

HERE = Path(__file__).parent
FORMULAS = {
    "denoising": "imagen",
    "contrastive": "imagen + 0.05*ContrastiveFlow",
    "smoothness": "imagen + 5*L2 @ Central",
    "diversity": "imagen + 0.01*Dispersive",
    "attention": "imagen + 0.02*AttentionMask('squared')",
    "perceptual": "imagen + 0.002*Gate()*perceptual('squeezenet')",
    "perceptual, every 4": "imagen + 0.002*Every(4)*Gate()*perceptual('squeezenet')",
    "all": "imagen_fused",
    "all, perceptual every 4": (
        "imagen + 0.05*ContrastiveFlow + 0.002*Every(4)*Gate()*perceptual('squeezenet') + 5*L2 @ Central"
        " + 0.01*Dispersive + 0.02*AttentionMask('squared')"
    ),
}
PERIOD = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all formulas after the warm-up")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(
        loss="imagen_fused",
        steps=1,
        images="shapes:2",
        task="text-to-image",
        scale=1,
        crop=32,
        batch=16,
        val_count=2,
        model={"name": "denoiser"},
    )
    with tempfile.TemporaryDirectory() as folder:
        run = prepare_run(settings, RunFolder(folder))
    batches = [default_collate([run.data.training_set[16 * i + j] for j in range(16)]) for i in range(PERIOD)]
    losses = {name: parse(formula) for name, formula in FORMULAS.items()}
    tasks = {name: run.task.with_inputs(loss.input_names) for name, loss in losses.items()}
    optimizer = torch.optim.AdamW(run.model.parameters(), lr=0.0)
    seconds: dict[str, list[float]] = {name: [] for name in losses}
    for i in range(args.rounds + 1):
        for name, loss in losses.items():
            started = time.process_time()
            for step, batch in enumerate(batches):
                value = loss(**tasks[name].compute_inputs(run.model, batch), step=step)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
            if i:  # the first round warms up
                seconds[name].append((time.process_time() - started) / PERIOD)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "milliseconds": {name: round(1000 * value, 1) for name, value in median.items()},
        "relative to denoising": {name: round(value / median["denoising"], 3) for name, value in median.items()},
        "formulas": FORMULAS,
        "rounds": args.rounds,
        "torch": torch.__version__,
    }
    (HERE / "text_to_image_cost.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["relative to denoising"], indent=1))


if __name__ == "__main__":
    main()
