"""What is held back from training, to choose by: photographs of the training folders, never those of the benchmarks."""

import numpy as np
import torch
from distortions import JUDGED, mixture
from networks import Student, Teacher, maps, stages
from pictures import crop
from scipy.stats import spearmanr
from torch import Tensor

KINDS = {**JUDGED, "mixture": mixture}
STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9)


class Held:
    """Spoilt crops and the teacher's distances on them.

    Args:
        pictures: Photographs (3, H, W), bytes.
        teacher: Who says how far each is off.
    """

    def __init__(self, pictures: list[Tensor], teacher: Teacher) -> None:
        random = np.random.default_rng(7)
        groups = []
        for picture in pictures:
            clean = crop(picture, 128, random)
            spoilt = [kind(clean, s, random).clamp(0, 1) for kind in KINDS.values() for s in STRENGTHS]
            groups.append(torch.stack([clean, *spoilt]))
        self.groups = groups
        self.kinds = np.array([name for _ in pictures for name in KINDS for _ in STRENGTHS])
        self.wanted = np.concatenate([teacher.distances(group, len(group)).sum(0).numpy() for group in groups])

    @torch.no_grad()
    def judge(self, student: Student) -> tuple[float, float, dict[str, float]]:
        """Spearman's correlation with the teacher: over all, the mean over kinds, and of each kind."""
        found = []
        for group in self.groups:
            with torch.autocast("cpu", torch.bfloat16):
                _, features = student.taps(group)
            found.append(stages(maps(student.calibrated(features), len(group))).sum(0).numpy())
        values = np.concatenate(found)
        kinds = {
            name: round(float(spearmanr(values[at], self.wanted[at]).statistic), 3)
            for name in KINDS
            for at in (self.kinds == name,)
        }
        return float(spearmanr(values, self.wanted).statistic), float(np.mean(list(kinds.values()))), kinds
