"""Train restoration networks with lazy and sparse perceptual terms, and evaluate them at equal steps and equal time.

    LOSSMITH_WEIGHTS=DIR OMP_NUM_THREADS=1 python experiments/lazy/train.py --assets DIR --out RUNS [--groups adam ...]

All arms of a task continue one network that was trained with L1, with Adam and a constant learning rate, and are
evaluated on the average of their weights (EMA). Arms of a seed see the same crops in the same order. The unit of time
is the full term's training of a group: an arm ends at this time, and is evaluated at half of it, at its end, and after
as many steps as the full term takes. An arm's number of steps follows from the cost of a step relative to the full
term's, which is measured once before the trainings, in alternation, as the median CPU time of the process, so that
other processes do not change the number of steps. The cost contains the network, the loss and the optimizer, and not
the loading of the crops. Networks and losses run in bfloat16 (autocast).

The training images are images/train_bsds and images/photos of the assets; the test images are central squares of
Kodak24 and of photographs of BSD100. Each arm is a file of RUNS: rerun the command to resume.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from arms import BATCH_SIZE, CROP, GROUPS, TASKS, Group, TaskCase
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lossmith import Loss, parse
from lossmith.data import list_images
from lossmith.models import build_network
from lossmith.train.evaluation import evaluate_images

METRICS = ("psnr_y", "lpips_alex", "grid", "dists")
POOL = 1024
"""The number of training crops, which all seeds see in other orders."""
TEST_IMAGES, TEST_SIDE = {"Kodak24": 12, "BSD100": 12}, 128
LR, START_LR, EMA = 5e-4, 1e-3, 0.99
CALIBRATION_ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder of images and weights")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--arms", nargs="+", help="names of the arms to train; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--calibrate", action="store_true", help="measure the costs and train nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    test = copy_test_images(args.assets / "images" / "benchmark", args.out / "test")
    trainings = {name: Training(case, args.assets / "images", test, args.out) for name, case in TASKS.items()}
    for name in args.groups:
        trainings[GROUPS[name].task].read_costs(name, GROUPS[name])
    for seed in [] if args.calibrate else args.seeds:
        for name in args.groups:
            training = trainings[GROUPS[name].task]
            for arm in args.arms or GROUPS[name].arms:
                training.run_arm(name, GROUPS[name], arm, seed)


class Training:
    """The trainings of one task.

    Args:
        case: The task, its network and the training with L1 before the arms.
        images: The folder of the training images' folders.
        test: The folder of the test images.
        out: The folder of the runs.
    """

    def __init__(self, case: TaskCase, images: Path, test: Path, out: Path) -> None:
        self.case, self.task, self.out = case, case.build(), out
        self.files = [file for folder in ("train_bsds", "photos") for file in list_images(images / folder)]
        self.test = self.task.evaluation_set(test)
        self.crops: dict[str, Tensor] = {}

    def start(self) -> nn.Module:
        """Return the network after the training with L1, the start of all arms."""
        torch.manual_seed(0)
        network = build_network(scale=self.case.scale, **self.case.network)
        file = self.out / f"{self.case.name}.pt"
        if not file.is_file():
            steps = self.case.start_steps
            optimizer = torch.optim.Adam(network.parameters(), lr=START_LR)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for step, batch in enumerate(self.batches(seed=100, steps=steps)):
                train_step(network, parse("L1"), optimizer, batch, step)
                schedule.step()
            torch.save(network.state_dict(), file)
        network.load_state_dict(torch.load(file, weights_only=True))
        return network

    def batches(self, seed: int, steps: int) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of a seed: all crops in random order, and again in another."""
        if not self.crops:
            file = self.out / f"{self.case.name}-crops.pt"
            if not file.is_file():
                crops = self.task.training_set(self.files, crop=CROP, seed=0)
                examples = [crops[i] for i in range(POOL)]
                names = ("input", "target")
                torch.save({name: torch.stack([each[name] for each in examples]) for name in names}, file)
            self.crops = torch.load(file, weights_only=True)
        order = torch.Generator().manual_seed(seed)
        indices = torch.cat([torch.randperm(POOL, generator=order) for _ in range(steps * BATCH_SIZE // POOL + 1)])
        for chosen in indices.split(BATCH_SIZE)[:steps]:
            yield {name: tensor[chosen] for name, tensor in self.crops.items()}

    def read_costs(self, name: str, group: Group) -> dict[str, dict[str, float]]:
        """Return the CPU seconds and operations of a step of each arm of a group; measure them if needed."""
        file = self.out / f"{name}.cost.json"
        costs = json.loads(file.read_text()) if file.is_file() else {}
        if not group.arms.keys() <= costs.keys():
            costs = self.measure_costs(group)
            file.write_text(json.dumps(costs, indent=1) + "\n")
            print(name, json.dumps(costs), flush=True)
        return costs

    def measure_costs(self, group: Group) -> dict[str, dict[str, float]]:
        """Measure the costs of a step, the mean over a period of 8 steps."""
        batch = next(iter(self.batches(seed=100, steps=1)))
        network, losses = self.start(), {name: parse(arm.formula) for name, arm in group.arms.items()}
        optimizer = torch.optim.Adam(network.parameters(), lr=0.0)
        seconds: dict[str, list[float]] = {arm: [] for arm in losses}
        for i in range(CALIBRATION_ROUNDS + 1):
            for arm, loss in losses.items():
                started = time.process_time()
                for step in range(8):
                    train_step(network, loss, optimizer, batch, step)
                if i:  # the first round warms up
                    seconds[arm].append((time.process_time() - started) / 8)
        with FlopCounterMode(display=False) as counter:
            network(batch["input"]).sum().backward()
        operations = {}
        for arm, loss in losses.items():
            plan = loss.plan((BATCH_SIZE, 3, CROP, CROP))
            operations[arm] = counter.get_total_flops() + plan.mean_forward_flops + plan.mean_backward_flops
        return {arm: {"seconds": statistics.median(seconds[arm]), "operations": operations[arm]} for arm in losses}

    def run_arm(self, name: str, group: Group, arm: str, seed: int) -> None:
        """Train and evaluate an arm, unless its file exists."""
        file = self.out / file_name(name, arm, seed)
        if file.is_file():
            return
        costs = self.read_costs(name, group)
        budget = group.steps * costs[group.full]["seconds"]
        moments = {"steps": group.steps}
        moments |= {k: round(part * budget / costs[arm]["seconds"]) for k, part in (("half", 0.5), ("time", 1.0))}
        network = self.start()
        torch.manual_seed(seed)
        loss = parse(group.arms[arm].formula)
        optimizer = torch.optim.Adam(network.parameters(), lr=LR * group.arms[arm].relative_lr)
        averaged = {key: weight.clone() for key, weight in network.state_dict().items()}
        spent, scores = 0.0, {}
        for step, batch in enumerate(self.batches(seed, max(moments.values()))):
            started = time.process_time()
            train_step(network, loss, optimizer, batch, step)
            for key, weight in network.state_dict().items():
                averaged[key].lerp_(weight, 1 - min(EMA, (1 + step) / (10 + step)))
            spent += time.process_time() - started
            if step + 1 in moments.values() and step + 1 not in scores:
                scores[step + 1] = self.evaluate(averaged)
        found = {moment: {"step": step, "images": scores[step]} for moment, step in moments.items()}
        file.write_text(json.dumps({"loss": repr(loss), "seconds": round(spent, 1), "scores": found}))
        means = {m: statistics.mean(s["lpips_alex"] for s in f["images"].values()) for m, f in found.items()}
        print(f"{name:28} {arm:20} {seed}", moments, {m: round(v, 4) for m, v in means.items()}, flush=True)

    def evaluate(self, weights: dict[str, Tensor]) -> dict[str, dict[str, float]]:
        """Return the metrics of each test image."""
        network = build_network(scale=self.case.scale, **self.case.network).eval()
        network.load_state_dict(weights)
        rows = evaluate_images(self.test, lambda batch: network(batch["input"]), border=self.task.border, which=METRICS)
        return {row.name: {metric: round(value, 5) for metric, value in row.metrics.items()} for row in rows}


def file_name(group: str, arm: str, seed: int | str) -> str:
    """Return the name of the file of an arm's run."""
    return f"{group}-{''.join(c for c in arm if c.isalnum())}-{seed}.json"


def train_step(
    network: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], step: int
) -> None:
    """Train the network and the discriminators of the loss for one step."""
    with torch.autocast("cpu", torch.bfloat16):
        inputs = {"pred": network(batch["input"]).float(), "target": batch["target"]}
        value = loss(**inputs, step=step)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    with torch.autocast("cpu", torch.bfloat16):
        loss.step_discriminators(inputs, step=step)


def copy_test_images(benchmark: Path, folder: Path) -> Path:
    """Write the central squares of the test images into a folder, unless it exists, and return the folder."""
    if folder.is_dir():
        return folder
    folder.mkdir(parents=True)
    for name, count in TEST_IMAGES.items():
        files = list_images(benchmark / name)
        for file in files[:: len(files) // count][:count]:
            image = Image.open(file).convert("RGB")
            left, top = ((side - TEST_SIDE) // 2 for side in image.size)
            image.crop((left, top, left + TEST_SIDE, top + TEST_SIDE)).save(folder / f"{name}-{file.stem}.png")
    return folder


if __name__ == "__main__":
    main()
