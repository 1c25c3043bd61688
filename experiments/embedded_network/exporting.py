"""From the network that learnt to the file in the package."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from networks import EPSILON, MEAN, STD, Student
from pictures import crop
from safetensors.torch import load_file, save_file
from torch import Tensor

from lossmith.engine.layers import Conv
from lossmith.lenses.embedded import EMBEDDED_LAYERS

VERSION = "3"


@torch.no_grad()
def exported(student: Student, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
    """The network's tensors with torchvision's kind of keys, every convolution's mean square 1 over photographs.

    Convolutions, ReLUs and max-pools scale as their input does, so what a layer is divided by can be multiplied back
    in the next; epsilon goes along with the squared features that it is added to. No distance changes.

    Args:
        student: The trained network.
        pictures: Photographs (3, H, W), bytes.
    """
    random = np.random.default_rng(0)
    x = (torch.stack([crop(picture, 128, random) for picture in pictures]) - MEAN) / STD
    state: dict[str, Tensor] = {}
    epsilons = []
    before = 1.0
    rows = iter(zip(student.kernels, student.biases, strict=True))
    for place, step in enumerate(student.plan):
        if isinstance(step, Conv):
            kernel, bias = next(rows)
            kernel = kernel.view(step.weight.shape)
            x = F.conv2d(x, kernel * before, bias, padding=step.padding)
            size = x.square().mean().sqrt().item()
            state[f"{place}.weight"] = (kernel * before / size).half()
            state[f"{place}.bias"] = (bias / size).half()
            x, before = x / size, size
        else:
            x = step(x)
            if step.name in EMBEDDED_LAYERS:
                epsilons.append(EPSILON / before**2)
    for stage, head in enumerate(student.heads, start=1):
        state[f"head{stage}"] = F.softplus(head).clone()
    state["epsilon"] = torch.tensor(epsilons)
    return {key: value.contiguous() for key, value in state.items()}


@torch.no_grad()
def imported(file: Path) -> Student:
    """A student that sees and judges as a file of an earlier version does; its projections know nothing yet.

    Each stage's last convolution has the scale at which its epsilon is that of training, one before it the mean scale.
    """
    state, student = load_file(file), Student()
    scales = [(EPSILON / each) ** 0.5 for each in state["epsilon"].tolist()]
    before, rows = 1.0, iter(zip(student.kernels, student.biases, strict=True))
    for place, step in enumerate(student.plan):
        if isinstance(step, Conv):
            kernel, bias = next(rows)
            scale = scales[int(step.name[4]) - 1]
            if step.name.replace("conv", "relu") not in EMBEDDED_LAYERS:
                scale = (before * scale) ** 0.5
            kernel.copy_(state[f"{place}.weight"].float().flatten(1) * (scale / before))
            bias.copy_(state[f"{place}.bias"].float() * scale)
            before = scale
    for stage, head in enumerate(student.heads, start=1):
        head.copy_(state[f"head{stage}"].expm1().log())
    return student


def written(state: dict[str, Tensor], file: Path, **about: str) -> str:
    """Writes the package's file; its SHA-256, which lossmith.pretrained.locate wants to know."""
    save_file(state, file, metadata={"version": VERSION, "licence": "that of lossmith", **about})
    return hashlib.sha256(file.read_bytes()).hexdigest()
