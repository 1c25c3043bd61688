"""Restorers that train against the student while it learns: what they draw to please it, the teacher judges.

A network that is trained under a perceptual loss finds what the loss mistakes for texture, as no distortion does. So
two small ones, for super-resolution and for denoising, take a few steps under the student as it stands before each of
its own steps, and begin anew every few hundred; their outputs are among its lessons, beside what the same networks
make that were trained with L1 alone, and under VGG-16.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from distortions import Random
from networks import Student
from pictures import crops
from torch import Tensor

from lossmith import L1, Loss, perceptual
from lossmith.models.edsr import EDSR
from lossmith.resize import downsample

SIGMA = 25 / 255
LAYERS = ((10.0, 10.0, 10.0, 5.0, 2.5), (10.0, 10.0, 2.5, 1.0, 0.5))
"""Weights of the perceptual term's layers: a restorer has the defaults or gentler ones; every other changes them."""
TASKS = {"super-resolution": (4, 8, 64, 3), "denoising": (1, 4, 48, 2)}
"""Scale, batch, side in pixels and steps for each of the student's."""
ALONE = {"super-resolution": (600, 240), "denoising": (900, 300)}
"""Steps of the networks that do not change: with L1 first, then under VGG-16."""
LIFE = (80, 900)
"""How many steps a restorer takes before it begins anew."""
PULL = (8.0, 60.0)
"""The gradient of the perceptual term at the restorer's output, by that of L1: 0.02 of VGG-16 has 33."""


@dataclass
class Partner:
    """A restorer that trains under the student.

    Args:
        task: "super-resolution" or "denoising".
        file: Where the networks are kept that L1 and VGG-16 have trained; they are trained first if it is not there.
        pictures: Photographs (3, H, W), bytes.
        random: Where all chance comes from.
    """

    task: str
    file: Path
    pictures: list[Tensor]
    random: Random
    left: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.scale, self.count, self.side, self.steps = TASKS[self.task]
        self.start, self.taught = EDSR(self.scale), EDSR(self.scale)
        if not self.file.is_file():
            steps, more = ALONE[self.task]
            self.learn(self.start, L1(), steps, 1e-3)
            self.taught.load_state_dict(self.start.state_dict())
            self.learn(self.taught, L1() + 0.02 * perceptual("vgg16"), more, 2e-4)
            self.file.parent.mkdir(parents=True, exist_ok=True)
            torch.save([self.start.state_dict(), self.taught.state_dict()], self.file)
        for model, state in zip((self.start, self.taught), torch.load(self.file, weights_only=True), strict=True):
            model.load_state_dict(state)
            model.requires_grad_(False)

    def learn(self, model: EDSR, loss: Loss, steps: int, rate: float) -> None:
        """Trains a network as anybody would."""
        optimiser = torch.optim.Adam(model.parameters(), lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            clean = crops(self.pictures, self.count, self.side, self.random)
            value = loss(self.restored(model, self.degraded(clean)), clean)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()

    def begin(self) -> None:
        """A new restorer, its loss and its length of life drawn by lot."""
        self.model = EDSR(self.scale)
        self.model.load_state_dict(self.start.state_dict())
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=float(self.random.choice([2e-4, 4e-4])))
        self.left = int(np.exp(self.random.uniform(*np.log(LIFE))))
        self.pull = float(np.exp(self.random.uniform(*np.log(PULL))))
        layers = LAYERS[self.random.integers(len(LAYERS))]
        noise = self.random.normal(size=len(layers)) * (self.random.random() < 0.5)
        self.layers = torch.tensor(layers) * torch.from_numpy(np.exp(noise)).float()

    def train(self, student: Student) -> None:
        """A few steps under the student."""
        for _ in range(self.steps):
            if not self.left:
                self.begin()
            self.left -= 1
            clean = crops(self.pictures, self.count, self.side, self.random)
            pred = self.restored(self.model, self.degraded(clean))
            pixels = pred.detach().requires_grad_()
            (seen,) = torch.autograd.grad(self.perceptual(student, pixels, clean), pixels)
            plain = (pixels - clean).detach().sign() / pixels.numel()
            self.optimiser.zero_grad()
            pred.backward(plain + seen * (self.pull * plain.norm() / (seen.norm() + 1e-12)))
            self.optimiser.step()

    def perceptual(self, student: Student, pred: Tensor, clean: Tensor) -> Tensor:
        """The perceptual loss as users have it."""
        with torch.autocast("cpu", torch.bfloat16):
            wanted = [f.detach() for f in student.taps(clean)[0]]
            found = student.taps(pred)[0]
        terms = [
            weight * (f.float() - w.float()).abs().mean() / w.float().square().mean().sqrt()
            for weight, f, w in zip(self.layers, found, wanted, strict=True)
        ]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def group(self, side: int) -> Tensor:
        """A clean crop, (4, 3, H, W), and what the network of L1 makes of it, this one, and a third.

        The third is that of VGG-16, or lies between the first two or beyond.
        """
        clean = crops(self.pictures, 1, side, self.random)
        small = self.degraded(clean)
        before, now = self.restored(self.start, small), self.restored(self.model, small)
        other = self.restored(self.taught, small) if self.random.random() < 0.5 else now
        third = before + float(self.random.choice([-0.5, 0.4, 0.7, 1.0, 1.5])) * (other - before)
        return torch.cat([clean, before, now, third]).clamp(0, 1)

    def degraded(self, clean: Tensor) -> Tensor:
        """What a restorer gets to see."""
        if self.scale > 1:
            return downsample(clean, self.scale, quantize=True)
        noise = self.random.standard_normal(tuple(clean.shape), dtype=np.float32)
        return clean + SIGMA * torch.from_numpy(noise)

    def restored(self, model: EDSR, small: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(small).float().clamp(-0.2, 1.2)
