"""The compared losses: for each task and each network of the term, the full term and its lazy and sparse variants."""

from dataclasses import dataclass, field
from typing import Any

from lossmith.tasks import TASKS as TASK_CLASSES
from lossmith.tasks import Task

CROP, BATCH_SIZE = 48, 4


@dataclass(frozen=True)
class TaskCase:
    """A task, the network that is trained for it, and its training with L1 before the arms."""

    name: str
    scale: int
    network: dict[str, Any]
    start_steps: int
    options: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Task:
        """Return the task."""
        return TASK_CLASSES[self.name](self.scale, **self.options)


TASKS = {
    "super-resolution": TaskCase("super-resolution", 4, {"name": "edsr", "channels": 32, "blocks": 6}, 2000),
    "denoising": TaskCase("denoising", 1, {"name": "edsr", "channels": 32, "blocks": 3}, 1500, {"sigma": 50.0}),
}


@dataclass(frozen=True)
class Arm:
    """A formula, and its learning rate relative to the others'."""

    formula: str
    relative_lr: float = 1.0


@dataclass(frozen=True)
class Group:
    """The arms that share a unit of time.

    Args:
        task: The task's name.
        steps: The number of steps of the full term's training.
        arms: The arms by name, L1 alone or the loss without the term first.
        full: The name of the full term's arm.
        metric: The metric in which a gain is measured.
    """

    task: str
    steps: int
    arms: dict[str, Arm]
    full: str = "full"
    metric: str = "lpips_alex"


FACTORS = ("Every(2)", "Every(4)", "Every(8)", "Part(0.5)", "Part(0.25)", "Window(24)")
VGG, EMBEDDED = "0.02*{}perceptual('vgg16')", "0.022*{}perceptual('embedded')"
"""The terms with equal gradient norms at the output, see experiments/embedded_network/train_restorers.json."""
VGG_DENOISING, EMBEDDED_DENOISING = "0.004*{}perceptual('vgg16')", "0.0044*{}perceptual('embedded')"
"""The terms of denoising: five times the weight costs 0.2 dB more for the same DISTS."""


def build_arms(term: str) -> dict[str, Arm]:
    """Return L1 alone, L1 with the full term, and L1 with the term and each factor."""
    lazy = {factor: Arm(f"L1 + {term.format(f'{factor}*')}") for factor in FACTORS}
    return {"L1": Arm("L1"), "full": Arm(f"L1 + {term.format('')}"), **lazy}


def build_adam_arms(term: str) -> dict[str, Arm]:
    """Return arms with another weight or learning rate: Adam divides a gradient by its root mean square."""
    full, every, part = (f"L1 + {term.format(factor)}" for factor in ("", "Every(4)*", "Part(0.25)*"))
    return {
        "full, lr x2": Arm(full, 2.0),
        "Every(4), lr x2": Arm(every, 2.0),
        "Part(0.25), lr x2": Arm(part, 2.0),
        "Every(4, gain=2)": Arm(f"L1 + {term.format('Every(4, gain=2)*')}"),
    }


def build_adversarial_arms() -> dict[str, Arm]:
    """Return the adversarial loss with a discriminator and a generator's term in each or in every fourth step."""
    base, kind = f"L1 + {EMBEDDED.format('')}", "'patch', width=48"
    return {
        "without": Arm(base),
        "full": Arm(f"{base} + 0.005*Adversarial({kind})"),
        "discriminator every 4": Arm(f"{base} + 0.005*Adversarial({kind}, discriminator_every=4)"),
        "generator every 4": Arm(f"{base} + 0.005*Every(4)*Adversarial({kind})"),
        "both every 4": Arm(f"{base} + 0.005*Every(4)*Adversarial({kind}, discriminator_every=4)"),
    }


GROUPS = {
    "sr-vgg16": Group("super-resolution", 300, build_arms(VGG) | build_adam_arms(VGG)),
    "denoising-vgg16": Group("denoising", 300, build_arms(VGG_DENOISING), metric="dists"),
    "sr-embedded": Group("super-resolution", 400, build_arms(EMBEDDED) | build_adam_arms(EMBEDDED)),
    "denoising-embedded": Group("denoising", 400, build_arms(EMBEDDED_DENOISING), metric="dists"),
    "sr-adversarial": Group("super-resolution", 300, build_adversarial_arms()),
}
