"""Train the embedded network to reproduce the features of VGG-16 and the distances of LPIPS.

    python experiments/embedded_network/train.py --assets DIR --cache DIR

The assets folder holds images/train_bsds, images/photos and weights. The cache folder keeps the outputs of restoration
networks and a checkpoint, written every few minutes: rerun the command to resume. At the end the weights are written to
src/lossmith/lenses/embedded.safetensors, and the training curves to training.json beside this file.

There are two rounds. In the second, restoration networks are trained under the student at the same time, and their
outputs become training images (adversarial_restorers.py). In each round the learning rate follows a cosine over
processor time, so that a slow or busy machine completes the schedule as well.
"""

import argparse
import itertools
import json
import math
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from adversarial_restorers import TASKS, Restorer
from export import VERSION, export_student, import_student, save_weights
from held_out import HeldOutSet
from networks import Student, Teacher, average_maps, compute_distance_maps
from torch import Tensor
from training_groups import (
    GROUP_SIZE,
    GROUPS_BY_SIDE,
    load_photographs,
    load_restored_crops,
    make_distorted_group,
    make_hard_groups,
    select_restored_group,
)

import lossmith
from lossmith.lenses import embedded

HERE = Path(__file__).parent
KERNEL_LR, OTHER_LR = 0.02, 2e-3
"""The learning rates of the kernels (Muon) and of all other parameters (AdamW)."""
CONTINUED_LR_FACTOR = 0.5
"""The factor of the learning rates when training continues from an earlier version, to preserve its weights."""
WEIGHTS = {"total": 1.0, "each": 0.3, "local": 0.5, "cosine": 1.5, "change": 1.0, "order": 8.0}
COSINE_EPSILON = 0.5
"""Added to the norms of feature differences, which have about twelve positions a side."""
LOG_EPSILON = 5e-4
"""Added to distances before the logarithm; smaller distances of LPIPS carry no information."""
STRIDES = (2, 2, 1, 1, 1)
"""The strides at which the layers' features are compared, with random offsets; this saves a quarter of the time."""
RESTORED_SHARE, HARD_SHARE = 0.15, 0.2
"""The shares of groups from restoration networks and of hard examples."""
HARD_CAPACITY, FIRST_HARD_STEP, HARD_INTERVAL = 96, 300, 25
"""The number of hard groups that are kept, the step after which the first are made, and the steps between updates."""
HARD_GROUPS_BY_SIDE = {64: 6, 96: 4, 128: 2}
"""The number of hard groups made at once, by their side in pixels."""
RESTORER_GROUPS_BY_SIDE, DENOISING_SHARE = {64: 5, 96: 3, 128: 2}, 0.5
"""The number of groups per step from restorers that are trained under the student, and the share of denoising."""
EVALUATION_INTERVAL = 250


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder of images and weights")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the checkpoint and intermediate files")
    parser.add_argument(
        "--minutes", type=float, nargs=2, default=[22.0, 110.0], help="processor time of each round, in minutes"
    )
    parser.add_argument("--after", type=Path, help="weight file of an earlier version from which round two starts")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    parser.add_argument("--restored", type=int, default=160, help="number of crops for the restoration networks")
    parser.add_argument(
        "--out", type=Path, default=Path(embedded.__file__).with_suffix(".safetensors"), help="weight file to write"
    )
    args = parser.parse_args()
    os.environ["LOSSMITH_WEIGHTS"] = str(args.assets / "weights")
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    images, held_out_images = load_photographs(args.assets)
    restored = load_restored_crops(images, args.assets / "weights", args.cache / "restored.pt", args.restored)
    teacher = Teacher()
    trainer = Trainer(args.cache / "student.pt", args.seed, args.after)
    held_out = HeldOutSet(held_out_images, teacher)
    first_round = 0.0 if args.after else args.minutes[0]
    if first_round:
        trainer.train(first_round, images, restored, teacher, held_out)
    rng = np.random.default_rng((args.seed, trainer.step, 2))
    restorers = [Restorer(task, args.cache / f"{task}.pt", images, rng) for task in TASKS]
    trainer.train(args.minutes[1], images, restored, teacher, held_out, restorers, start_minute=first_round)
    metadata = {"seed": str(args.seed), "steps": str(trainer.step), "teacher": "VGG-16 and LPIPS 0.1"}
    digest = save_weights(export_student(trainer.student, held_out_images), args.out, **metadata)
    write_summary(trainer, args, {"sha256": digest, **metadata})
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB, sha256 {digest}")


def write_summary(trainer: "Trainer", args: argparse.Namespace, metadata: dict[str, str]) -> None:
    """Write the command, the versions and the training curves to training.json."""
    summary = {
        "command": "python experiments/embedded_network/train.py --assets DIR --cache DIR",
        "machine": f"{platform.machine()}, one CPU thread, bfloat16; minutes of processor time",
        "versions": f"lossmith {lossmith.__version__}, torch {torch.__version__}",
        **metadata,
        "columns": ["step", "minutes", "srocc, all", "srocc, mean of kinds", *WEIGHTS],
        "log": [[round(value, 4) for value in row] for row in trainer.log],
    }
    file = HERE / "training.json"
    if args.after:
        earlier = json.loads(file.read_text())
        summary["command"] += f" --after VERSION{int(VERSION) - 1} --minutes 0 {args.minutes[1]:g}"
        summary["earlier"] = [*earlier.get("earlier", []), {k: v for k, v in earlier.items() if k != "earlier"}]
    file.write_text(json.dumps(summary, indent=1) + "\n")


class Trainer:
    """The training of the student, which resumes from a checkpoint.

    Args:
        file: The checkpoint.
        seed: The random seed; the images of a step depend on the seed and the step.
        earlier: The weight file of the initial network, or None for an untrained one.
    """

    def __init__(self, file: Path, seed: int, earlier: Path | None = None) -> None:
        self.file, self.seed = file, seed
        self.student = import_student(earlier) if earlier else Student()
        self.lr_factor = CONTINUED_LR_FACTOR if earlier else 1.0
        others = [*self.student.biases, *self.student.heads, *self.student.projections.parameters()]
        self.others = others
        self.optimizers = {
            KERNEL_LR: torch.optim.Muon(self.student.kernels.parameters(), lr=KERNEL_LR, weight_decay=0.0),
            OTHER_LR: torch.optim.AdamW(others, lr=OTHER_LR, weight_decay=0.0, betas=(0.9, 0.99)),
        }
        self.step, self.seconds = 0, 0.0
        self.log: list[list[float]] = []
        self.hard_groups: list[Tensor] = []
        self.averages: dict[str, float] = {}
        if file.is_file():
            state = torch.load(file, weights_only=True)
            self.student.load_state_dict(state["student"])
            for optimizer, optimizer_state in zip(self.optimizers.values(), state["optimisers"], strict=True):
                optimizer.load_state_dict(optimizer_state)
            self.step, self.seconds, self.log, self.hard_groups = (
                state[key] for key in ("step", "spent", "log", "hard")
            )

    def train(
        self,
        minutes: float,
        images: list[Tensor],
        restored: Tensor,
        teacher: Teacher,
        held_out: HeldOutSet,
        restorers: Sequence[Restorer] = (),
        *,
        start_minute: float = 0.0,
    ) -> None:
        """Train for this processor time, which includes the time before an interruption.

        Args:
            minutes: The duration of the round.
            images: The training photographs (3, H, W), uint8.
            restored: Clean crops and their restorations, (N, 6, 3, H, W), uint8.
            teacher: The teacher network.
            held_out: The held-out crops for evaluation.
            restorers: The restoration networks that are trained under the student.
            start_minute: The duration of the rounds before this one.
        """
        self.averages = {}
        start = time.process_time()
        for step in itertools.count(self.step):
            progress = min(1.0, ((self.seconds + time.process_time() - start) / 60 - start_minute) / minutes)
            if progress == 1 and self.step:
                return
            self.set_lr(step, progress)
            rng = np.random.default_rng((self.seed, step, 1))
            self.update_hard_groups(step, images, rng)
            side = int(rng.choice(list(GROUPS_BY_SIDE)))
            for restorer in restorers:
                restorer.train_under(self.student)
            restorer_groups = [
                restorers[rng.random() < DENOISING_SHARE].make_group(side)
                for _ in range(RESTORER_GROUPS_BY_SIDE[side] if restorers else 0)
            ]
            batch_rng = np.random.default_rng((self.seed, step))
            x = make_batch(side, images, restored, self.hard_groups, batch_rng, restorer_groups)
            self.optimize(compute_losses(self.student, teacher, x, rng, len(restorer_groups)))
            elapsed = self.seconds + time.process_time() - start
            if step % 50 == 0:
                averages = {name: round(value, 4) for name, value in self.averages.items()}
                print(step, f"{elapsed:.0f} s", averages, flush=True)
            if (step + 1) % EVALUATION_INTERVAL == 0 or elapsed > 60 * (start_minute + minutes):
                overall, mean, by_distortion = held_out.evaluate(self.student)
                now = time.process_time()
                self.step, self.seconds, start = step + 1, self.seconds + now - start, now
                self.log.append(
                    [step + 1, self.seconds / 60, overall, mean, *(self.averages.get(name, 0.0) for name in WEIGHTS)]
                )
                print("held-out", step + 1, f"{overall:.4f} {mean:.4f}", by_distortion, flush=True)
                self.save_checkpoint()

    def set_lr(self, step: int, progress: float) -> None:
        """Set the learning rates: a warm-up of 100 steps, then a cosine over the progress in [0, 1]."""
        for lr, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                warmup = min(1, (step + 1) / 100)
                group["lr"] = self.lr_factor * lr * warmup * (0.005 + 0.995 * (1 + math.cos(math.pi * progress)) / 2)

    def update_hard_groups(self, step: int, images: list[Tensor], rng: np.random.Generator) -> None:
        """Add new hard groups every HARD_INTERVAL steps and drop the oldest."""
        if step >= FIRST_HARD_STEP and step % HARD_INTERVAL == 0:
            side = int(rng.choice(list(HARD_GROUPS_BY_SIDE)))
            groups = make_hard_groups(self.student, images, HARD_GROUPS_BY_SIDE[side], side, rng)
            self.hard_groups = (self.hard_groups + list(groups))[-HARD_CAPACITY:]

    def optimize(self, losses: dict[str, Tensor]) -> None:
        """Take an optimizer step on the weighted sum of the losses and update their running averages."""
        self.student.zero_grad()
        sum(WEIGHTS[name] * value for name, value in losses.items()).backward()
        torch.nn.utils.clip_grad_norm_(self.others, 5.0)
        for optimizer in self.optimizers.values():
            optimizer.step()
        for name, value in losses.items():
            self.averages[name] = 0.98 * self.averages.get(name, value.item()) + 0.02 * value.item()

    def save_checkpoint(self) -> None:
        """Write the checkpoint atomically."""
        state = {
            "student": self.student.state_dict(),
            "optimisers": [optimizer.state_dict() for optimizer in self.optimizers.values()],
            "step": self.step,
            "spent": self.seconds,
            "log": self.log,
            "hard": self.hard_groups,
        }
        temporary = self.file.with_suffix(".new")
        torch.save(state, temporary)
        temporary.replace(self.file)


def make_batch(
    side: int,
    images: list[Tensor],
    restored: Tensor,
    hard_groups: list[Tensor],
    rng: np.random.Generator,
    restorer_groups: Sequence[Tensor],
) -> Tensor:
    """Return groups of a clean and three degraded crops, (4 groups, 3, side, side), with those of restorers first."""
    groups = list(restorer_groups)
    for _ in range(GROUPS_BY_SIDE[side] - len(groups)):
        draw = rng.random()
        if draw < RESTORED_SHARE:
            groups.append(select_restored_group(restored, side, rng))
            continue
        if draw < RESTORED_SHARE + HARD_SHARE and hard_groups:
            group = hard_groups[rng.integers(len(hard_groups))].float() / 255
            if group.shape[-1] >= side:
                top, left = rng.integers(0, group.shape[-1] - side + 1, 2)
                groups.append(group[:, :, top : top + side, left : left + side])
                continue
        groups.append(make_distorted_group(images, side, rng))
    return torch.cat(groups)


def compute_losses(
    student: Student, teacher: Teacher, x: Tensor, rng: np.random.Generator, restorer_groups: int
) -> dict[str, Tensor]:
    """Compute the student's losses on a batch of groups.

    Args:
        student: The student network.
        teacher: The teacher network.
        x: The groups, (4 groups, 3, H, W).
        rng: The generator of the offsets at which features are compared.
        restorer_groups: The number of groups from restorers, which come first.

    Returns:
        "total": the error of the logarithm of the distance; "each": that of the distance at each layer; "local": the
        error of the distance's root at each position, relative to the mean; "cosine": the angle to the teacher's
        features, after a projection. With groups of restorers also "change": the angle between the feature differences
        from the clean image; "order": the error of the relative distances within a group, as LPIPS and as a perceptual
        loss measure them.
    """
    offsets = [(slice(rng.integers(n), None, n), slice(rng.integers(n), None, n)) for n in STRIDES]

    def subsample(features: Sequence[Tensor]) -> list[Tensor]:
        return [f[..., rows, columns] for f, (rows, columns) in zip(features, offsets, strict=True)]

    targets_before, targets = (subsample(features) for features in teacher.extract_features(x))
    normalised_targets = teacher.normalise_features(targets)
    with torch.autocast("cpu", torch.bfloat16):
        features_before, features = (subsample(each) for each in student.extract_features(x))
        losses = compute_feature_losses(student, features, normalised_targets, has_restorers=restorer_groups > 0)
    maps = compute_distance_maps(student.calibrate_features(features), GROUP_SIZE)
    target_maps = compute_distance_maps(teacher.calibrate_features(normalised_targets), GROUP_SIZE)
    distances, target_distances = average_maps(maps), average_maps(target_maps)
    losses = compute_distance_losses(maps, target_maps, distances, target_distances) | losses
    if restorer_groups:
        pairs, count = restorer_groups * (GROUP_SIZE - 1), restorer_groups * GROUP_SIZE
        relative, target_relative = (
            relative_log_distances(
                torch.stack(
                    [*each[:, :pairs], each[:, :pairs].sum(0), *compute_l1_distances([f[:count] for f in before])]
                )
            )
            for each, before in ((distances, features_before), (target_distances, targets_before))
        )
        losses["order"] = (relative - target_relative).abs().mean()
    return losses


def compute_feature_losses(
    student: Student, features: Sequence[Tensor], targets: Sequence[Tensor], *, has_restorers: bool
) -> dict[str, Tensor]:
    """Compute "cosine" and, with groups of restorers, "change" on the projected features."""
    cosines, changes = [], []
    for feature, target, project in zip(features, targets, student.projections, strict=True):
        stride = max(1, target.shape[-1] // 12)
        projected = project(feature[:, :, ::stride, ::stride]).float()
        target = target[:, :, ::stride, ::stride]
        cosines.append(1 - F.cosine_similarity(projected, target, dim=1).mean())
        if has_restorers:
            changes.append(1 - smooth_cosine(subtract_first(projected), subtract_first(target)).mean())
    losses = {"cosine": torch.stack(cosines).mean()}
    return losses | ({"change": torch.stack(changes).mean()} if changes else {})


def compute_distance_losses(
    maps: Sequence[Tensor], target_maps: Sequence[Tensor], distances: Tensor, target_distances: Tensor
) -> dict[str, Tensor]:
    """Compute "total", "each" and "local" from distance maps (groups, 3, h, w) and distances (layers, pairs)."""
    local = []
    for m, t in zip(maps, target_maps, strict=True):
        m, t = (m + 1e-4).sqrt(), (t + 1e-4).sqrt()
        local.append(((m - t).abs().mean(dim=(2, 3)) / t.mean(dim=(2, 3))).mean())
    total, target_total = distances.sum(0), target_distances.sum(0)
    epsilon = LOG_EPSILON / 5
    return {
        "total": ((total + LOG_EPSILON).log() - (target_total + LOG_EPSILON).log()).abs().mean(),
        "each": ((distances + epsilon).log() - (target_distances + epsilon).log()).abs().mean(),
        "local": torch.stack(local).mean(),
    }


def subtract_first(features: Tensor) -> Tensor:
    """Return the differences of each group's other images from its first, (pairs, C, h, w)."""
    groups = features.unflatten(0, (-1, GROUP_SIZE))
    return (groups[:, 1:] - groups[:, :1]).flatten(0, 1)


def smooth_cosine(first: Tensor, second: Tensor) -> Tensor:
    """Compute the cosine of vectors (N, ...), reduced where a vector is near zero."""
    first, second = first.flatten(1), second.flatten(1)
    lengths = [torch.linalg.vector_norm(each, dim=1) + COSINE_EPSILON for each in (first, second)]
    return (first * second).sum(dim=1) / (lengths[0] * lengths[1])


def compute_l1_distances(features: Sequence[Tensor]) -> list[Tensor]:
    """Compute the mean absolute difference of each group's other images from its first, (pairs,) per layer."""
    return [subtract_first(each.float()).abs().mean(dim=(1, 2, 3)) for each in features]


def relative_log_distances(distances: Tensor) -> Tensor:
    """Return the logarithms of distances (measures, pairs) minus their mean within each group."""
    logs = (distances + LOG_EPSILON / 5).log().unflatten(1, (-1, GROUP_SIZE - 1))
    return logs - logs.mean(dim=2, keepdim=True)


if __name__ == "__main__":
    main()
