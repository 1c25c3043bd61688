"""The search that a study performs: the content of its study.json."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lossmith._checks import check_choice
from lossmith.formula.loss import Loss
from lossmith.parser import parse, update_formula
from lossmith.train import Settings
from lossmith.tune.cost import count_step_operations
from lossmith.tune.objectives import Objective, parse_objectives
from lossmith.tune.space import Choice, Range, Space, grid_points, lowercase_names, substitute

__all__ = ["SamplerName", "Search", "read_search", "settings_digest"]

SamplerName = Literal["tpe", "nsga2"]
STUDY_SETTINGS = ("images", "loss", "steps", "val", "val_every")
"""The settings of a training that the study sets."""
FIRST_SETTINGS = {
    *("accumulate", "balance", "batch", "calibrate", "checkpoint_every", "clip", "crop", "ema", "images", "knobs"),
    *("log_every", "loss", "lr", "model", "options", "precision", "scale", "schedule", "seed", "steps", "task", "val"),
    *("val_count", "val_every", "warmup", "weight_decay"),
}
"""The settings of a training in version 0.1."""
RENAMED_KEYS = {"axes": "objectives", "rungs": "prune_at", "floors": "constraints"}
"""Keys of study.json in version 0.1, and their names now."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """The search space and settings of a study.

    Args:
        loss: The formula with free names.
        images: The folder of training images.
        val: The folder of validation images, none of which may be a training image.
        steps: Optimizer steps of a complete trial.
        objectives: The objectives.
        space: The range or the choices of each free name; "lr" is the learning rate.
        prune_at: The fractions of a trial after which it may be pruned, increasing; 1 is removed.
        constraints: The bounds of some of the objectives' metrics.
        grid: The number of values of each range in a grid search; 0 uses the sampler.
        sampler: "tpe", or "nsga2" for hundreds of short trials.
        seed: The seed of the sampler.
        training: Other settings of the trainings.
        equal_cost: Whether a trial whose training step is cheaper than the most expensive one of the space, in
            operations, has more steps in proportion.

    Raises:
        ValueError: A free name has no range, a range has no free name, or a setting is out of its range.
    """

    loss: str
    images: str
    val: str
    steps: int
    objectives: tuple[Objective, ...]
    space: Space
    prune_at: tuple[float, ...] = (1 / 3,)
    constraints: Mapping[str, float] = field(default_factory=dict)
    grid: int = 0
    sampler: SamplerName = "tpe"
    seed: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)
    equal_cost: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "prune_at", tuple(fraction for fraction in self.prune_at if fraction != 1))
        check_choice("sampler", self.sampler, SamplerName)
        if any(not 0 < each < 1 for each in self.prune_at) or sorted(set(self.prune_at)) != list(self.prune_at):
            raise ValueError(f"prune_at must be increasing fractions between 0 and 1; got {self.prune_at}.")
        if not set(self.constraints) <= {objective.metric for objective in self.objectives}:
            raise ValueError(f"A constraint must be on a metric of the objectives; got {', '.join(self.constraints)}.")
        self._check_space()
        settings = self.settings(self.midpoint)
        if self.prune_at and settings.schedule != "constant":
            raise ValueError(
                f"With --schedule {settings.schedule} the learning rate depends on the length of the training, so that "
                "a pruned trial is no part of a complete one; give --schedule constant, or --prune-at 1."
            )
        if missing := sorted(parse(settings.loss).knobs):
            raise ValueError(f"'{missing[0]}' in the formula has no range; give --range {missing[0]}=LOW:HIGH.")

    def _check_space(self) -> None:
        """Raise ValueError unless each name of the search space is a free name of the formula, or the learning rate."""
        if not self.space:
            raise ValueError("A study needs a search space; give --range NAME=LOW:HIGH or --lr LOW:HIGH.")
        names = lowercase_names(self.loss)
        for name in self.space:
            if name != "lr" and name not in names:
                raise ValueError(f"{name!r} has a range but is not a free name of the formula {self.loss!r}.")
        if "lr" in self.space and "lr" in names:
            raise ValueError("'lr' in a search space is the learning rate; rename 'lr' in the formula.")

    @property
    def midpoint(self) -> dict[str, Any]:
        """The middle of the search space."""
        return {name: part.interpolate(0.5) for name, part in self.space.items()}

    @property
    def rung_steps(self) -> dict[int, float]:
        """The steps after which a trial may be pruned (its rungs), and the fractions of a trial that they are.

        With trials of equal cost, the steps are those of the most expensive trial; others are at the same fractions.
        """
        return {math.ceil(fraction * self.steps): fraction for fraction in self.prune_at}

    def literals(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a trial as they stand in formulas and settings."""
        return {name: part.to_literal(params[name]) for name, part in self.space.items()}

    def settings(self, params: Mapping[str, Any]) -> Settings:
        """Return the training settings of a trial.

        By default the weights are calibrated, and the learning rate is constant, so that a trial at a rung equals a
        complete trial at the same step.

        Args:
            params: The parameters of the trial.

        Raises:
            ValueError: The formula or a setting is invalid.
        """
        settings = self._equal_steps_settings(params)
        if not self.equal_cost:
            return settings
        steps = round(self.steps * self._largest_operations / count_step_operations(settings))
        return replace(settings, steps=steps, val_every=steps)

    @cached_property
    def _largest_operations(self) -> float:
        """The operations of the most expensive training step in the search space."""
        return max(count_step_operations(self._equal_steps_settings(point)) for point in grid_points(self.space, 1))

    def _equal_steps_settings(self, params: Mapping[str, Any]) -> Settings:
        """Return the training settings of a trial with the steps of the study."""
        values = self.literals(params)
        defaults = {"calibrate": True, "schedule": "constant", "checkpoint_every": max(1, self.steps // 10)}
        given = {name: value for name, value in {**defaults, **self.training}.items() if name not in STUDY_SETTINGS}
        if "lr" in values:
            given["lr"] = values.pop("lr")
        return Settings(
            images=self.images,
            val=self.val,
            loss=substitute(self.loss, values),
            steps=self.steps,
            val_every=self.steps,
            **given,
        )

    def trial_loss(self, params: Mapping[str, Any]) -> Loss:
        """Return the loss of a trial."""
        return parse(substitute(self.loss, self.literals(params)))

    def to_record(self) -> dict[str, Any]:
        """Return the search as plain values, for :meth:`from_record`."""
        ranges = {name: [part.low, part.high] for name, part in self.space.items() if isinstance(part, Range)}
        choices = {name: list(part.options) for name, part in self.space.items() if isinstance(part, Choice)}
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("objectives", "space")}
        own |= {"prune_at": list(self.prune_at), "constraints": dict(self.constraints), "training": dict(self.training)}
        return {**own, "objectives": ",".join(map(str, self.objectives)), "ranges": ranges, "choices": choices}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Search":
        """Return the search of a record, whose keys may be those of version 0.1.

        Raises:
            ValueError: The record is malformed.
        """
        try:
            record = {"equal_cost": False, **{RENAMED_KEYS.get(name, name): value for name, value in record.items()}}
            record["loss"] = update_formula(record["loss"])
            space: dict[str, Range | Choice] = {name: Range(*ends) for name, ends in record["ranges"].items()}
            space |= {name: Choice(tuple(options)) for name, options in record["choices"].items()}
            parsed = ("space", "objectives", "prune_at")
            rest: dict[str, Any] = {each.name: record[each.name] for each in fields(cls) if each.name not in parsed}
            objectives, prune_at = parse_objectives(record["objectives"]), tuple(record["prune_at"])
            return cls(space=space, objectives=objectives, prune_at=prune_at, **rest)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the record of a study ({error})") from None

    @property
    def digest(self) -> str:
        """A hash of the search, computed with the keys of version 0.1, so that studies of that version resume."""
        old_keys = {new: old for old, new in RENAMED_KEYS.items()}
        record = {old_keys.get(name, name): value for name, value in self.to_record().items()}
        return _digest(record if self.equal_cost else {n: v for n, v in record.items() if n != "equal_cost"})

    def differences(self, other: "Search") -> dict[str, tuple[Any, Any]]:
        """Return the entries of the records that differ, with both values."""
        own, others = self.to_record(), other.to_record()
        return {name: (own[name], others[name]) for name in own if own[name] != others[name]}


def settings_digest(settings: Settings) -> str:
    """Return a hash of training settings, which is the name of the trial's run folder.

    Settings that version 0.1 did not have count only if they are not the defaults, so that its studies resume.
    """
    defaults = {each.name: each.default for each in fields(Settings)}
    record = {n: v for n, v in asdict(settings).items() if n in FIRST_SETTINGS or (v != defaults[n] and v != {})}
    return _digest(record)


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]


def read_search(path: Path) -> Search:
    """Return the search of a study.json.

    Raises:
        ValueError: The file does not exist, or holds no study.
    """
    try:
        return Search.from_record(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} holds no study: {error}.") from None
