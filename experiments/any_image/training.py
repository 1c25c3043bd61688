"""Trainings that resume, and intervals of paired differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import default_collate

from lossmith import L1
from lossmith._files import write_atomically
from lossmith.data import list_images
from lossmith.models import EDSR
from lossmith.tasks import Task

CHANNELS, BLOCKS, BATCH, LR = 24, 3, 8, 1e-3
SAVE_EVERY = 100
"""Steps between two checkpoints."""
RESAMPLES = 10_000

Rows = dict[str, dict[str, float]]
"""The metrics of each image."""


def train(task: Task, images: Path, file: Path, *, steps: int, crop: int, seed: int) -> EDSR:
    """Train a compact network on the images of a folder, or resume the training from its file.

    Args:
        task: The task.
        images: The folder.
        file: The checkpoint.
        steps: Number of steps.
        crop: Side of a crop of the target in pixels.
        seed: Random seed of the weights and the crops.
    """
    torch.manual_seed(seed)
    network = build(task.scale, task.pixels.channels)
    loss, optimizer = L1(), torch.optim.Adam(network.parameters(), LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    first = 0
    if file.is_file():
        state = torch.load(file, weights_only=True)
        first = state.pop("step")
        for name, part in parts.items():
            part.load_state_dict(state[name])
    samples = task.training_set(list_images(images), crop=crop, seed=seed)
    for step in range(first, steps):
        batch = default_collate([samples[step * BATCH + i] for i in range(BATCH)])
        optimizer.zero_grad()
        loss(network(batch["input"]), batch["target"]).backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            state = {"step": step + 1} | {name: part.state_dict() for name, part in parts.items()}
            write_atomically(file, lambda partial, state=state: torch.save(state, partial))
    return network.eval()


def build(scale: int, channels: int) -> EDSR:
    """Return the network of all methods."""
    return EDSR(scale, channels=CHANNELS, blocks=BLOCKS, image_channels=channels)


def mean_over_seeds(results: Sequence[Rows]) -> Rows:
    """Return the metrics of each image, averaged over trainings."""
    return {
        image: {name: float(np.mean([rows[image][name] for rows in results])) for name in metrics}
        for image, metrics in results[0].items()
    }


def mean_over_images(rows: Rows) -> dict[str, float]:
    """Return each metric, averaged over the images that have it."""
    names = next(iter(rows.values()))
    return {name: round(float(np.nanmean([metrics[name] for metrics in rows.values()])), 3) for name in names}


def paired_interval(rows: Rows, baseline: Rows, name: str) -> dict[str, float]:
    """Return the mean difference of a metric from a baseline over images, with its 95 % bootstrap interval."""
    pairs = [(rows[image][name], baseline[image][name]) for image in rows]
    differences = np.array([a - b for a, b in pairs if np.isfinite(a) and np.isfinite(b)])
    draws = np.random.default_rng(0).integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[draws].mean(axis=1), (0.025, 0.975))
    mean = differences.mean()
    return {key: round(float(value), 3) for key, value in (("mean", mean), ("low", low), ("high", high))}


def summarize(results: Mapping[str, Sequence[Rows]], reference: str, metrics: Sequence[str]) -> dict[str, object]:
    """Return the mean metrics of each method, those of each training, and the differences from a reference.

    Args:
        results: For each method, the metrics of each image, once for each training.
        reference: The method from which differences are taken.
        metrics: The metrics of which differences are taken.
    """
    rows = {name: mean_over_seeds(each) for name, each in results.items()}
    return {
        name: {
            "mean": mean_over_images(rows[name]),
            "trainings": [mean_over_images(each) for each in results[name]] if len(results[name]) > 1 else [],
            "difference": {}
            if name == reference
            else {metric: paired_interval(rows[name], rows[reference], metric) for metric in metrics},
        }
        for name in rows
    }
