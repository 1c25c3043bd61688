"""Evaluation on photographs of the training folders that are held out; none is from a benchmark."""

import numpy as np
import torch
from distortions import EVALUATION_DISTORTIONS, mix_distortions
from networks import Student, Teacher, average_maps, compute_distance_maps
from scipy.stats import spearmanr
from torch import Tensor
from training_groups import random_crop

DISTORTIONS = {**EVALUATION_DISTORTIONS, "mixture": mix_distortions}
STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9)


class HeldOutSet:
    """Degraded crops and the teacher's distances on them.

    Args:
        images: Photographs (3, H, W), uint8.
        teacher: The network whose distances are the reference.
    """

    def __init__(self, images: list[Tensor], teacher: Teacher) -> None:
        rng = np.random.default_rng(7)
        groups = []
        for image in images:
            clean = random_crop(image, 128, rng)
            degraded = [distort(clean, s, rng).clamp(0, 1) for distort in DISTORTIONS.values() for s in STRENGTHS]
            groups.append(torch.stack([clean, *degraded]))
        self.groups = groups
        self.names = np.array([name for _ in images for name in DISTORTIONS for _ in STRENGTHS])
        self.reference = np.concatenate(
            [teacher.compute_distances(group, len(group)).sum(0).numpy() for group in groups]
        )

    @torch.no_grad()
    def evaluate(self, student: Student) -> tuple[float, float, dict[str, float]]:
        """Compute Spearman's correlation with the teacher.

        Returns:
            The correlation over all pairs, the mean over the distortions, and that of each distortion.
        """
        distances = []
        for group in self.groups:
            with torch.autocast("cpu", torch.bfloat16):
                _, features = student.extract_features(group)
            maps = compute_distance_maps(student.calibrate_features(features), len(group))
            distances.append(average_maps(maps).sum(0).numpy())
        values = np.concatenate(distances)
        by_distortion = {
            name: round(float(spearmanr(values[selected], self.reference[selected]).statistic), 3)
            for name in DISTORTIONS
            for selected in (self.names == name,)
        }
        overall = float(spearmanr(values, self.reference).statistic)
        return overall, float(np.mean(list(by_distortion.values()))), by_distortion
