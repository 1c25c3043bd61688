"""Conversion between the trained network and the weight file in the package."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from networks import EPSILON, MEAN, STD, Student
from safetensors.torch import load_file, save_file
from torch import Tensor
from training_groups import random_crop

from lossmith.engine.layers import Conv
from lossmith.lenses.embedded import EMBEDDED_LAYERS

VERSION = "3"


@torch.no_grad()
def export_student(student: Student, images: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the network's tensors with keys as in torchvision, with a mean square of 1 after every convolution.

    Convolutions, ReLUs and max-pools are homogeneous: a factor by which one layer is divided is multiplied back in the
    next, and epsilon is scaled like the squared features to which it is added. No distance changes.

    Args:
        student: The trained network.
        images: Photographs (3, H, W), uint8, on which the mean squares are measured.
    """
    rng = np.random.default_rng(0)
    x = (torch.stack([random_crop(image, 128, rng) for image in images]) - MEAN) / STD
    state: dict[str, Tensor] = {}
    epsilons = []
    previous_scale = 1.0
    parameters = iter(zip(student.kernels, student.biases, strict=True))
    for index, step in enumerate(student.steps):
        if isinstance(step, Conv):
            kernel, bias = next(parameters)
            kernel = kernel.view(step.weight.shape)
            x = F.conv2d(x, kernel * previous_scale, bias, padding=step.padding)
            scale = x.square().mean().sqrt().item()
            state[f"{index}.weight"] = (kernel * previous_scale / scale).half()
            state[f"{index}.bias"] = (bias / scale).half()
            x, previous_scale = x / scale, scale
        else:
            x = step(x)
            if step.name in EMBEDDED_LAYERS:
                epsilons.append(EPSILON / previous_scale**2)
    for stage, head in enumerate(student.heads, start=1):
        state[f"head{stage}"] = F.softplus(head).clone()
    state["epsilon"] = torch.tensor(epsilons)
    return {key: value.contiguous() for key, value in state.items()}


@torch.no_grad()
def import_student(file: Path) -> Student:
    """Return a student with the features and distances of a weight file; its projections are untrained.

    The last convolution of each stage has the scale at which its epsilon is that of training; a convolution before it
    has the geometric mean of the neighbouring scales.
    """
    state, student = load_file(file), Student()
    scales = [(EPSILON / each) ** 0.5 for each in state["epsilon"].tolist()]
    previous_scale, parameters = 1.0, iter(zip(student.kernels, student.biases, strict=True))
    for index, step in enumerate(student.steps):
        if isinstance(step, Conv):
            kernel, bias = next(parameters)
            scale = scales[int(step.name[4]) - 1]
            if step.name.replace("conv", "relu") not in EMBEDDED_LAYERS:
                scale = (previous_scale * scale) ** 0.5
            kernel.copy_(state[f"{index}.weight"].float().flatten(1) * (scale / previous_scale))
            bias.copy_(state[f"{index}.bias"].float() * scale)
            previous_scale = scale
    for stage, head in enumerate(student.heads, start=1):
        head.copy_(state[f"head{stage}"].expm1().log())
    return student


def save_weights(state: dict[str, Tensor], file: Path, **metadata: str) -> str:
    """Write the weight file and return its SHA-256, which lossmith.pretrained.locate must list."""
    save_file(state, file, metadata={"version": VERSION, "licence": "that of lossmith", **metadata})
    return hashlib.sha256(file.read_bytes()).hexdigest()
