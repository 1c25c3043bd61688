"""What a training was asked to do: the content of a run's config.json."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

__all__ = ["Precision", "Schedule", "Settings"]

Precision = Literal["32", "bf16-mixed", "16-mixed"]
Schedule = Literal["cosine", "constant"]

WHOLE = {"scale": 1, "steps": 1, "seed": 0, "batch": 1, "crop": 1, "accumulate": 1, "warmup": 0}
WHOLE |= {"log_every": 1, "val_every": 1, "val_count": 1, "checkpoint_every": 1}
"""The settings that are whole numbers, and their least values."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a training was asked to do.

    Args:
        images: The folder of training pictures.
        loss: The formula.
        steps: Optimiser steps of the whole run.
        task: The task's name.
        scale: By how much a super-resolver enlarges; 1 for other tasks.
        options: The task's own arguments, such as ``{"sigma": 25}``.
        val: The folder of validation pictures; None holds some of `images` out.
        seed: Of the weights, the crops and their order.
        batch: Pictures in a pass, over all devices together.
        crop: The side of a training crop in pixels of the large picture.
        accumulate: Passes in a step; their gradients are averaged.
        lr: The learning rate of AdamW, at its highest.
        schedule: "cosine" falls to zero at the last step, "constant" does not.
        warmup: Steps over which the learning rate rises from zero.
        weight_decay: AdamW's; with 0 it is Adam.
        clip: The largest norm of the gradient; 0 for any.
        ema: The decay of the averaged weights, which are those that are saved; 0 for no averaging.
        precision: "32", "bf16-mixed" or "16-mixed".
        log_every: Steps between log lines.
        val_every: Steps between validations.
        val_count: The largest number of pictures in a validation.
        checkpoint_every: Steps between checkpoints.
        model: The network's name, or a file of weights, and its arguments, such as ``{"name": "edsr"}``.
        knobs: The range over which each open weight of the formula is trained, such as ``{"lam": (0.03, 30.0)}``.
        balance: What keeps the weights in proportion, such as "share", see :mod:`lossmith.balance`; None for nothing.
        calibrate: Whether weights are in units of equal gradient norms, measured before the first step.

    Raises:
        ValueError: A setting is out of its range; the message names it.
    """

    images: str
    loss: str
    steps: int
    task: str = "super-resolution"
    scale: int = 4
    options: Mapping[str, Any] = field(default_factory=dict)
    val: str | None = None
    seed: int = 0
    batch: int = 16
    crop: int = 192
    accumulate: int = 1
    lr: float = 5e-4
    schedule: Schedule = "cosine"
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float = 0.0
    ema: float = 0.999
    precision: Precision = "32"
    log_every: int = 20
    val_every: int = 500
    val_count: int = 16
    checkpoint_every: int = 200
    model: Mapping[str, Any] = field(default_factory=lambda: {"name": "edsr"})
    knobs: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    balance: str | None = None
    calibrate: bool = False

    def __post_init__(self) -> None:
        for name, least in WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} wants a whole number of at least {least}; got {value!r}.")
        for name, low, high in (
            ("lr", 0, math.inf),
            ("weight_decay", 0, math.inf),
            ("clip", 0, math.inf),
            ("ema", 0, 1),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < high:
                raise ValueError(f"{name} wants a number from {low} to below {high}; got {value!r}.")
        for name, choice in (("precision", Precision), ("schedule", Schedule)):
            if getattr(self, name) not in get_args(choice):
                raise ValueError(f"{name} is one of {', '.join(get_args(choice))}; got {getattr(self, name)!r}.")
        for name, ends in self.knobs.items():
            if not (len(ends) == 2 and all(isinstance(end, int | float) for end in ends) and 0 < ends[0] < ends[1]):
                raise ValueError(f"The knob '{name}' wants a range of two numbers, 0 < low < high; got {ends!r}.")
        object.__setattr__(self, "knobs", {name: (float(a), float(b)) for name, (a, b) in self.knobs.items()})
        if self.crop % self.scale:
            raise ValueError(
                f"crop wants a multiple of the scale, {self.scale}; got {self.crop}. "
                f"Take {max(self.crop // self.scale, 1) * self.scale}."
            )

    @property
    def middle(self) -> dict[str, float]:
        """Each knob in the geometric middle of its range."""
        return {name: math.sqrt(low * high) for name, (low, high) in self.knobs.items()}

    def differences(self, other: "Settings") -> dict[str, tuple[Any, Any]]:
        """The settings that are not the same, with both values."""
        mine, others = asdict(self), asdict(other)
        return {name: (mine[name], others[name]) for name in mine if mine[name] != others[name]}

    def write(self, path: Path, version: str) -> None:
        """Writes them as JSON, with the package's version."""
        path.write_text(json.dumps({"lossmith": version, **asdict(self)}, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """The settings that :meth:`write` wrote.

        Raises:
            ValueError: There is no such file, or it is none of a run.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            known = {f.name for f in fields(cls)}
            return cls(**{name: value for name, value in record.items() if name in known})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{str(path)!r} holds no settings of a run: {error}.") from None
