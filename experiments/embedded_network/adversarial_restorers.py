"""Restoration networks that are trained under the student while it is trained, to find weaknesses of its distance.

A network that is trained under a perceptual loss produces artefacts that the loss ignores and that no distortion has.
Two small networks, for super-resolution and for denoising, therefore take a few steps under the current student before
each of its steps, and restart every few hundred steps. The student is trained on their outputs, and on the outputs of
networks that were trained with L1 alone and with VGG-16's perceptual loss; the teacher gives the true distances.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from networks import Student
from torch import Tensor
from training_groups import random_crops

from lossmith import L1, Loss, perceptual
from lossmith.models.edsr import EDSR
from lossmith.resize import downsample

SIGMA = 25 / 255
LAYER_WEIGHTS = ((10.0, 10.0, 10.0, 5.0, 2.5), (10.0, 10.0, 2.5, 1.0, 0.5))
"""Layer weights of the perceptual loss: the default and a gentler setting; half of the restorers perturb them."""
TASKS = {"super-resolution": (4, 8, 64, 3), "denoising": (1, 4, 48, 2)}
"""The scale, the batch size, the side in pixels and the number of steps per step of the student."""
REFERENCE_STEPS = {"super-resolution": (600, 240), "denoising": (900, 300)}
"""The number of training steps of the fixed networks: with L1, and then under VGG-16."""
RESTART_STEPS = (80, 900)
"""The minimum and maximum number of steps between two restarts."""
GRADIENT_RATIOS = (8.0, 60.0)
"""The gradient norm of the perceptual loss relative to that of L1, at the output; 0.02 of VGG-16's loss has 33."""


@dataclass
class Restorer:
    """A restoration network that is trained under the student.

    Args:
        task: "super-resolution" or "denoising".
        file: The file of the fixed networks; they are trained if it does not exist.
        images: Photographs (3, H, W), uint8.
        rng: The generator of all random numbers.
    """

    task: str
    file: Path
    images: list[Tensor]
    rng: np.random.Generator
    steps_left: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.scale, self.batch_size, self.side, self.steps = TASKS[self.task]
        self.l1_model, self.vgg_model = EDSR(self.scale), EDSR(self.scale)
        if not self.file.is_file():
            l1_steps, vgg_steps = REFERENCE_STEPS[self.task]
            self.train_fixed(self.l1_model, L1(), l1_steps, 1e-3)
            self.vgg_model.load_state_dict(self.l1_model.state_dict())
            self.train_fixed(self.vgg_model, L1() + 0.02 * perceptual("vgg16"), vgg_steps, 2e-4)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            torch.save([self.l1_model.state_dict(), self.vgg_model.state_dict()], self.file)
        states = torch.load(self.file, weights_only=True)
        for model, state in zip((self.l1_model, self.vgg_model), states, strict=True):
            model.load_state_dict(state)
            model.requires_grad_(False)

    def train_fixed(self, model: EDSR, loss: Loss, steps: int, lr: float) -> None:
        """Train a network with Adam and a cosine schedule."""
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            clean = random_crops(self.images, self.batch_size, self.side, self.rng)
            value = loss(self.restore(model, self.degrade(clean)), clean)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()

    def restart(self) -> None:
        """Reset the network to the L1 network and sample its loss and its number of steps."""
        self.model = EDSR(self.scale)
        self.model.load_state_dict(self.l1_model.state_dict())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=float(self.rng.choice([2e-4, 4e-4])))
        self.steps_left = int(np.exp(self.rng.uniform(*np.log(RESTART_STEPS))))
        self.gradient_ratio = float(np.exp(self.rng.uniform(*np.log(GRADIENT_RATIOS))))
        weights = LAYER_WEIGHTS[self.rng.integers(len(LAYER_WEIGHTS))]
        noise = self.rng.normal(size=len(weights)) * (self.rng.random() < 0.5)
        self.layer_weights = torch.tensor(weights) * torch.from_numpy(np.exp(noise)).float()

    def train_under(self, student: Student) -> None:
        """Train the network for a few steps with L1 and the student's perceptual loss."""
        for _ in range(self.steps):
            if not self.steps_left:
                self.restart()
            self.steps_left -= 1
            clean = random_crops(self.images, self.batch_size, self.side, self.rng)
            pred = self.restore(self.model, self.degrade(clean))
            pixels = pred.detach().requires_grad_()
            (perceptual_grad,) = torch.autograd.grad(self.perceptual_loss(student, pixels, clean), pixels)
            l1_grad = (pixels - clean).detach().sign() / pixels.numel()
            factor = self.gradient_ratio * l1_grad.norm() / (perceptual_grad.norm() + 1e-12)
            self.optimizer.zero_grad()
            pred.backward(l1_grad + perceptual_grad * factor)
            self.optimizer.step()

    def perceptual_loss(self, student: Student, pred: Tensor, clean: Tensor) -> Tensor:
        """Compute the perceptual loss on the student's features."""
        with torch.autocast("cpu", torch.bfloat16):
            target_features = [f.detach() for f in student.extract_features(clean)[0]]
            pred_features = student.extract_features(pred)[0]
        terms = [
            weight * (p.float() - t.float()).abs().mean() / t.float().square().mean().sqrt()
            for weight, p, t in zip(self.layer_weights, pred_features, target_features, strict=True)
        ]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def make_group(self, side: int) -> Tensor:
        """Return a clean crop and three restorations of it, (4, 3, side, side).

        The restorations are those of the L1 network, of this network, and a third: that of the VGG-16 network, or an
        interpolation or extrapolation of two of them.
        """
        clean = random_crops(self.images, 1, side, self.rng)
        degraded = self.degrade(clean)
        first, second = self.restore(self.l1_model, degraded), self.restore(self.model, degraded)
        other = self.restore(self.vgg_model, degraded) if self.rng.random() < 0.5 else second
        third = first + float(self.rng.choice([-0.5, 0.4, 0.7, 1.0, 1.5])) * (other - first)
        return torch.cat([clean, first, second, third]).clamp(0, 1)

    def degrade(self, clean: Tensor) -> Tensor:
        """Return the input of the restoration network."""
        if self.scale > 1:
            return downsample(clean, self.scale, levels=255)
        noise = self.rng.standard_normal(tuple(clean.shape), dtype=np.float32)
        return clean + SIGMA * torch.from_numpy(noise)

    def restore(self, model: EDSR, degraded: Tensor) -> Tensor:
        """Run a restoration network in bfloat16."""
        with torch.autocast("cpu", torch.bfloat16):
            return model(degraded).float().clamp(-0.2, 1.2)
