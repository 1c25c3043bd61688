"""The settings of a training run: the options of the command line and the content of config.json."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from lossmith._checks import MAX_SEED, check_choice, check_integer, check_number
from lossmith._plugin_files import loaded_plugins
from lossmith._plugins import Plugins
from lossmith.tasks import TASKS
from lossmith.tasks.options import option, option_annotations
from lossmith.train.schedules import parse_milestones

__all__ = ["OPTIMIZERS", "Precision", "Schedule", "Settings"]

Precision = Literal["32", "bf16-mixed", "16-mixed"]
Schedule = Literal["cosine", "constant", "multistep"]

OPTIMIZERS = Plugins("lossmith.optimizers")
"""The optimizers by name, those of installed packages included."""

RUN, DATA, NETWORK, OPTIMIZER, MACHINE = "Run", "Data", "Network", "Optimizer", "Machine"
"""The panels of the help."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a training run.

    An annotated field is an option of ``lossmith train``; its annotation holds the help text and the range. The other
    fields follow from the task's options and from ``--model``, ``--model-option``, ``--init`` and ``--knob``.

    Raises:
        ValueError: A setting is out of its range; the message names the setting.
    """

    loss: Annotated[str, option('Loss formula, such as "L1 + 0.002*perceptual"; see lossmith explain.', panel=RUN)]
    steps: Annotated[int, option("Optimizer steps of the whole run.", panel=RUN, min=1)]
    images: Annotated[
        str,
        option(
            "Folder of training images, or shards (.tar, or a URL); unreadable ones are skipped and listed.", panel=DATA
        ),
    ]

    task: str = "super-resolution"
    """The name of the task."""
    scale: int = 4
    """The upscaling factor; 1 if the task keeps the image size."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of the task's constructor, such as ``{"sigma": 25}``."""

    knobs: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The training range of each knob of the formula, such as ``{"lam": (0.03, 30.0)}``."""
    balance: Annotated[
        str | None,
        option("Balancer of the term weights: share, uncertainty, gradnorm, adaptive, ... \\[none].", panel=RUN),
    ] = None
    calibrate: Annotated[
        bool, option("Interpret weights in units of equal gradient norms, measured before the first step.", panel=RUN)
    ] = False
    seed: Annotated[int, option("Random seed for weights, crops and their order.", panel=RUN, min=0, max=MAX_SEED)] = 0
    log_every: Annotated[int, option("Steps between log lines.", panel=RUN, min=1)] = 20
    val_every: Annotated[int, option("Steps between validations.", panel=RUN, min=1)] = 500
    checkpoint_every: Annotated[int, option("Steps between checkpoints.", panel=RUN, min=1)] = 200
    metrics: Annotated[
        str | None,
        option(
            "Validation metrics, comma-separated \\[those of evaluate].",
            "--metric",
            panel=RUN,
        ),
    ] = None
    select: Annotated[
        str | None,
        option(
            'Rule of best.safetensors: the metric to optimise, then bounds, such as "lpips_alex, grid<=0.7" \\[none].',
            panel=RUN,
        ),
    ] = None

    val: Annotated[
        str | None,
        option("Folder of validation images, or shards \\[a held-out part of the training images].", panel=DATA),
    ] = None
    val_count: Annotated[int, option("Maximum number of validation images.", panel=DATA, min=1)] = 16
    channels: Annotated[
        int | None,
        option("Number of image channels, 1 to 16; alpha does not count \\[found from the files].", panel=DATA),
    ] = None
    range: Annotated[
        str | None,
        option(
            "Range of the stored values, LOW:HIGH, or auto for their percentiles; floats need it "
            "\\[that of the integer type].",
            panel=DATA,
        ),
    ] = None
    transfer: Annotated[
        str, option("Transfer function of what the network sees: linear, srgb, log, mu-law or pq.", panel=DATA)
    ] = "linear"
    no_data: Annotated[
        str | None, option("Value of samples without data, a number or nan \\[what the files declare].", panel=DATA)
    ] = None
    batch: Annotated[int, option("Images in a micro-batch, over all devices.", panel=DATA, min=1)] = 16
    crop: Annotated[int, option("Side of the training crops in pixels of the target.", panel=DATA, min=8)] = 192

    model: Mapping[str, Any] = field(default_factory=lambda: {"name": "edsr"})
    """The name of the network, or a file of weights, and the network's arguments, such as ``{"name": "edsr"}``."""

    optimizer: Annotated[
        str,
        option("Optimizer: adamw, adam, sgd, rmsprop, nadam, radam, muon or schedule-free-adamw.", panel=OPTIMIZER),
    ] = "adamw"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the optimizer, such as ``{"betas": [0.9, 0.99]}``."""
    lr: Annotated[float, option("Peak learning rate.", panel=OPTIMIZER, min=0)] = 5e-4
    schedule: Annotated[
        Schedule,
        option(
            "Learning-rate schedule: cosine decay to 0 at the last step, constant, or multistep: times --gamma at each "
            "of the --milestones.",
            panel=OPTIMIZER,
        ),
    ] = "cosine"
    milestones: Annotated[
        str | None, option("Steps of the schedule multistep, such as 50000,80000.", panel=OPTIMIZER)
    ] = None
    gamma: Annotated[float, option("Factor of the schedule multistep.", panel=OPTIMIZER, min=0, max=1)] = 0.5
    warmup: Annotated[int, option("Steps of linear learning-rate warm-up.", panel=OPTIMIZER, min=0)] = 0
    weight_decay: Annotated[float, option("Weight decay of the optimizer.", panel=OPTIMIZER, min=0)] = 0.0
    clip: Annotated[float, option("Maximum gradient norm; 0 disables clipping.", panel=OPTIMIZER, min=0)] = 0.0
    accumulate: Annotated[int, option("Gradient-accumulation steps.", panel=OPTIMIZER, min=1)] = 1
    ema: Annotated[
        float,
        option(
            "EMA decay of the weights; the averaged weights are saved; 0 disables averaging.",
            panel=OPTIMIZER,
            min=0,
            max=1,
        ),
    ] = 0.999
    plugins: Mapping[str, str] = field(default_factory=loaded_plugins)
    """The SHA-256 of each plugin by its name; a resumed run needs the same plugins."""
    precision: Annotated[Precision, option("Floating-point precision.", panel=MACHINE)] = "32"

    def __post_init__(self) -> None:
        for name, annotation in option_annotations(Settings).items():
            _check_option(name, getattr(self, name), annotation)
        check_integer("scale", self.scale, low=1)
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        if (self.schedule == "multistep") != bool(parse_milestones(self.milestones)):
            given = f"got {self.schedule} and milestones {self.milestones}"
            raise ValueError(f"milestones belong to the schedule multistep, which needs them; {given}.")
        if self.ema == 1:
            raise ValueError(f"ema must be less than 1; got {self.ema!r}.")
        if self.knobs:
            from lossmith.models.knob_values import check_knob_range

            knobs = {name: check_knob_range(name, ends) for name, ends in self.knobs.items()}
            object.__setattr__(self, "knobs", knobs)
        if self.select is not None:
            from lossmith.train.selection_rule import parse_rule

            parse_rule(self.select, self.task)
        if self.crop % self.scale:
            raise ValueError(
                f"crop must be a multiple of the scale, {self.scale}; got {self.crop}. "
                f"Use {max(self.crop // self.scale, 1) * self.scale}."
            )

    @property
    def knob_midpoints(self) -> dict[str, float]:
        """The geometric mean of each knob's range."""
        return {name: math.sqrt(low * high) for name, (low, high) in self.knobs.items()}

    def differences(self, other: "Settings") -> dict[str, tuple[Any, Any]]:
        """Return the settings whose values differ, with both values."""
        own, others = asdict(self), asdict(other)
        return {name: (own[name], others[name]) for name in own if own[name] != others[name]}

    def write(self, path: Path, version: str) -> None:
        """Write the settings as JSON, with the version of the package."""
        path.write_text(json.dumps({"lossmith": version, **asdict(self)}, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Return the settings that :meth:`write` wrote.

        Raises:
            ValueError: The file does not exist, or is not the config.json of a run.
        """
        from lossmith.models.files import update_spec
        from lossmith.parser import update_formula

        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            known = {f.name for f in fields(cls)}
            if (task := TASKS.get(record.get("task"))) is not None:
                record["options"] = task.current_options(record.get("options", {}))
            record["loss"] = update_formula(record["loss"])
            if "model" in record:
                record["model"] = update_spec(record["model"])
            return cls(**{name: value for name, value in record.items() if name in known})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{str(path)!r} holds no settings of a run: {error}.") from None


def _check_option(name: str, value: Any, annotation: Any) -> None:
    """Raise ValueError if a setting does not fit its annotation."""
    kind, info = get_args(annotation)
    if get_origin(kind) is Literal:
        check_choice(name, value, kind)
    elif kind is int:
        check_integer(name, value, low=info.min, high=info.max)
    elif kind is float:
        check_number(name, value, low=info.min, high=math.inf if info.max is None else info.max)
