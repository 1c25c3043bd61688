"""Teaches the embedded network to see as VGG-16 does and to judge as LPIPS does.

    python experiments/embedded_network/train.py --assets DIR --cache DIR

DIR of the assets holds images/train_bsds, images/photos and weights. The cache keeps what restoration networks made and
a checkpoint of every few minutes: the same command goes on from there. At the end the weights lie in
src/lossmith/lenses/embedded.safetensors, and training.json beside this file says how it went.

There are two rounds. In the second it learns beside restorers that train under it, and has their outputs among its
lessons (sparring.py). In each the learning rate follows the processor's time from warm to cool, so that a slow or busy
machine ends as cool as a fast one.
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
from exporting import VERSION, exported, imported, written
from held import Held
from networks import Student, Teacher, maps, stages
from pictures import CROPS, GROUP, Random, drawn_group, hard_groups, photographs, restored_group, restored_groups
from sparring import TASKS, Partner
from torch import Tensor

import lossmith
from lossmith.lenses import embedded

HERE = Path(__file__).parent
RATE, OTHER_RATE = 0.02, 2e-3
"""Of the kernels, by Muon, and of everything else, by AdamW."""
AGAIN = 0.5
"""Of these rates, where an earlier version goes on: it has something to lose."""
WEIGHTS = {"total": 1.0, "each": 0.3, "local": 0.5, "cosine": 1.5, "change": 1.0, "order": 8.0}
SOFT = 0.5
"""Added to lengths of differences of features, at twelve places a side or so."""
FLOOR = 5e-4
"""Added to distances before their logarithm: below this LPIPS says nothing."""
THIN = (2, 2, 1, 1, 1)
"""Of the finest taps every other row and column is compared, which ones changes by chance: it costs a quarter."""
RESTORED, HARD = 0.15, 0.2
"""The shares of groups from restoration networks and of hard examples."""
BANK, FIRST, EVERY = 96, 300, 25
"""So many groups of hard examples are kept; the first are made after this step, and new ones every so many."""
NEW = {64: 6, 96: 4, 128: 2}
"""How many are made at once, by their side in pixels."""
SPARRED, DENOISED = {64: 5, 96: 3, 128: 2}, 0.5
"""So many groups of a step are from restorers that train under the student, by side; the share that takes noise off."""
CHECK = 250


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--minutes", type=float, nargs=2, default=[22.0, 110.0], help="of the processor, each round")
    parser.add_argument("--after", type=Path, help="an earlier version, which goes on with the second round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--restored", type=int, default=160, help="crops that restoration networks make")
    parser.add_argument("--out", type=Path, default=Path(embedded.__file__).with_suffix(".safetensors"))
    args = parser.parse_args()
    os.environ["LOSSMITH_WEIGHTS"] = str(args.assets / "weights")
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    pictures, held = photographs(args.assets)
    made = restored_groups(pictures, args.assets / "weights", args.cache / "restored.pt", args.restored)
    teacher = Teacher()
    course = Course(args.cache / "student.pt", args.seed, args.after)
    judges = Held(held, teacher)
    first = 0.0 if args.after else args.minutes[0]
    if first:
        course.run(first, pictures, made, teacher, judges)
    random = np.random.default_rng((args.seed, course.step, 2))
    partners = [Partner(task, args.cache / f"{task}.pt", pictures, random) for task in TASKS]
    course.run(args.minutes[1], pictures, made, teacher, judges, partners, after=first)
    about = {"seed": str(args.seed), "steps": str(course.step), "teacher": "VGG-16 and LPIPS 0.1"}
    digest = written(exported(course.student, held), args.out, **about)
    summary = {
        "command": "python experiments/embedded_network/train.py --assets DIR --cache DIR",
        "machine": f"{platform.machine()}, one CPU thread, bfloat16; minutes are of the processor",
        "versions": f"lossmith {lossmith.__version__}, torch {torch.__version__}",
        "sha256": digest,
        **about,
        "columns": ["step", "minutes", "srocc, all", "srocc, mean of kinds", *WEIGHTS],
        "log": [[round(value, 4) for value in row] for row in course.log],
    }
    record = HERE / "training.json"
    if args.after:
        former = json.loads(record.read_text())
        summary["command"] += f" --after VERSION{int(VERSION) - 1} --minutes 0 {args.minutes[1]:g}"
        summary["earlier"] = [*former.get("earlier", []), {k: v for k, v in former.items() if k != "earlier"}]
    record.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB, sha256 {digest}")


class Course:
    """A network's training, which a checkpoint can interrupt and go on with.

    Args:
        file: The checkpoint.
        seed: Each step's pictures come from it and from the step's number.
        earlier: The file of a network to begin with, if not with an untrained one.
    """

    def __init__(self, file: Path, seed: int, earlier: Path | None = None) -> None:
        self.file, self.seed = file, seed
        self.student = imported(earlier) if earlier else Student()
        self.peak = AGAIN if earlier else 1.0
        others = [*self.student.biases, *self.student.heads, *self.student.projections.parameters()]
        self.others = others
        self.optimisers = {
            RATE: torch.optim.Muon(self.student.kernels.parameters(), lr=RATE, weight_decay=0.0),
            OTHER_RATE: torch.optim.AdamW(others, lr=OTHER_RATE, weight_decay=0.0, betas=(0.9, 0.99)),
        }
        self.step, self.spent = 0, 0.0
        self.log: list[list[float]] = []
        self.hard: list[Tensor] = []
        if file.is_file():
            state = torch.load(file, weights_only=True)
            self.student.load_state_dict(state["student"])
            for optimiser, old in zip(self.optimisers.values(), state["optimisers"], strict=True):
                optimiser.load_state_dict(old)
            self.step, self.spent, self.log, self.hard = (state[key] for key in ("step", "spent", "log", "hard"))

    def run(
        self,
        minutes: float,
        pictures: list[Tensor],
        made: Tensor,
        teacher: Teacher,
        held: Held,
        partners: Sequence[Partner] = (),
        *,
        after: float = 0.0,
    ) -> None:
        """Trains until these minutes are spent, those before an interruption included; they begin after others."""
        mean: dict[str, float] = {}
        since = time.process_time()
        for step in itertools.count(self.step):
            done = min(1.0, ((self.spent + time.process_time() - since) / 60 - after) / minutes)
            if done == 1 and self.step:
                return
            for rate, optimiser in self.optimisers.items():
                for group in optimiser.param_groups:
                    group["lr"] = (
                        self.peak
                        * rate
                        * min(1, (step + 1) / 100)
                        * (0.005 + 0.995 * (1 + math.cos(math.pi * done)) / 2)
                    )
            random = np.random.default_rng((self.seed, step, 1))
            if step >= FIRST and step % EVERY == 0:
                side = int(random.choice(list(NEW)))
                self.hard = (self.hard + list(hard_groups(self.student, pictures, NEW[side], side, random)))[-BANK:]
            side = int(random.choice(list(CROPS)))
            for partner in partners:
                partner.train(self.student)
            sparred = [
                partners[random.random() < DENOISED].group(side) for _ in range(SPARRED[side] if partners else 0)
            ]
            x = batch(side, pictures, made, self.hard, np.random.default_rng((self.seed, step)), sparred)
            parts = losses(self.student, teacher, x, random, len(sparred))
            self.student.zero_grad()
            sum(WEIGHTS[name] * value for name, value in parts.items()).backward()
            torch.nn.utils.clip_grad_norm_(self.others, 5.0)
            for optimiser in self.optimisers.values():
                optimiser.step()
            for name, value in parts.items():
                mean[name] = 0.98 * mean.get(name, value.item()) + 0.02 * value.item()
            if step % 50 == 0:
                told = {name: round(value, 4) for name, value in mean.items()}
                print(step, f"{self.spent + time.process_time() - since:.0f} s", told, flush=True)
            if (step + 1) % CHECK == 0 or self.spent + time.process_time() - since > 60 * (after + minutes):
                overall, by_kind, kinds = held.judge(self.student)
                now = time.process_time()
                self.step, self.spent, since = step + 1, self.spent + now - since, now
                self.log.append(
                    [step + 1, self.spent / 60, overall, by_kind, *(mean.get(name, 0.0) for name in WEIGHTS)]
                )
                print("held", step + 1, f"{overall:.4f} {by_kind:.4f}", kinds, flush=True)
                self.save()

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        state = {
            "student": self.student.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers.values()],
            "step": self.step,
            "spent": self.spent,
            "log": self.log,
            "hard": self.hard,
        }
        new = self.file.with_suffix(".new")
        torch.save(state, new)
        new.replace(self.file)


def batch(
    side: int, pictures: list[Tensor], made: Tensor, hard: list[Tensor], random: Random, sparred: Sequence[Tensor]
) -> Tensor:
    """Groups of a clean crop and three spoilt ones, (4 groups, 3, side, side); the partners' come first."""
    groups = list(sparred)
    for _ in range(CROPS[side] - len(groups)):
        which = random.random()
        if which < RESTORED:
            groups.append(restored_group(made, side, random))
            continue
        if which < RESTORED + HARD and hard:
            group = hard[random.integers(len(hard))].float() / 255
            if group.shape[-1] >= side:
                top, left = random.integers(0, group.shape[-1] - side + 1, 2)
                groups.append(group[:, :, top : top + side, left : left + side])
                continue
        groups.append(drawn_group(pictures, side, random))
    return torch.cat(groups)


def losses(student: Student, teacher: Teacher, x: Tensor, random: Random, sparred: int) -> dict[str, Tensor]:
    """What the student has to learn from these groups.

    "total": the logarithm of the distance; "each": that of the distance at each tap; "local": its root at each place,
    relative to the mean; "cosine": the direction of the teacher's features, through a projection. With groups of
    restorers, which come first: "change", the direction of the features' difference from the clean picture's; "order",
    by how much one restoration is farther off than the others, as LPIPS and as perceptual losses measure it.
    """
    places = [(slice(random.integers(n), None, n), slice(random.integers(n), None, n)) for n in THIN]

    def thinned(taps: Sequence[Tensor]) -> list[Tensor]:
        return [f[..., rows, columns] for f, (rows, columns) in zip(taps, places, strict=True)]

    goals_before, goals = (thinned(taps) for taps in teacher.taps(x))
    units = teacher.units(goals)
    with torch.autocast("cpu", torch.bfloat16):
        features_before, features = (thinned(taps) for taps in student.taps(x))
        cosines, changes = [], []
        for feature, goal, project in zip(features, units, student.projections, strict=True):
            skip = max(1, goal.shape[-1] // 12)
            seen = project(feature[:, :, ::skip, ::skip]).float()
            goal = goal[:, :, ::skip, ::skip]
            cosines.append(1 - F.cosine_similarity(seen, goal, dim=1).mean())
            if sparred:
                changes.append(1 - alike(changed(seen).flatten(1), changed(goal).flatten(1)).mean())
    found_maps = maps(student.calibrated(features), GROUP)
    wanted_maps = maps(teacher.calibrated(units), GROUP)
    found, wanted = stages(found_maps), stages(wanted_maps)
    local = []
    for f, w in zip(found_maps, wanted_maps, strict=True):
        f, w = (f + 1e-4).sqrt(), (w + 1e-4).sqrt()
        local.append(((f - w).abs().mean(dim=(2, 3)) / w.mean(dim=(2, 3))).mean())
    parts = {
        "total": ((found.sum(0) + FLOOR).log() - (wanted.sum(0) + FLOOR).log()).abs().mean(),
        "each": ((found + FLOOR / 5).log() - (wanted + FLOOR / 5).log()).abs().mean(),
        "local": torch.stack(local).mean(),
        "cosine": torch.stack(cosines).mean(),
    }
    if sparred:
        pairs, pictures = sparred * (GROUP - 1), sparred * GROUP
        found, wanted = (
            torch.stack([*each[:, :pairs], each[:, :pairs].sum(0), *plain([f[:pictures] for f in before])])
            for each, before in ((found, features_before), (wanted, goals_before))
        )
        parts["change"] = torch.stack(changes).mean()
        parts["order"] = (siblings(found) - siblings(wanted)).abs().mean()
    return parts


def changed(features: Tensor) -> Tensor:
    """The difference of each group's others from its first, (pairs, C, h, w)."""
    groups = features.unflatten(0, (-1, GROUP))
    return (groups[:, 1:] - groups[:, :1]).flatten(0, 1)


def alike(one: Tensor, other: Tensor) -> Tensor:
    """The cosine of vectors (N, D), softened where one is next to nothing."""
    lengths = [torch.linalg.vector_norm(each, dim=1) + SOFT for each in (one, other)]
    return (one * other).sum(dim=1) / (lengths[0] * lengths[1])


def plain(taps: Sequence[Tensor]) -> list[Tensor]:
    """The mean absolute difference of each group's others from its first, (pairs,) a tap."""
    return [changed(tap.float()).abs().mean(dim=(1, 2, 3)) for tap in taps]


def siblings(distances: Tensor) -> Tensor:
    """Logarithms of distances (measures, pairs), less their mean within a group."""
    logs = (distances + FLOOR / 5).log().unflatten(1, (-1, GROUP - 1))
    return logs - logs.mean(dim=2, keepdim=True)


if __name__ == "__main__":
    main()
