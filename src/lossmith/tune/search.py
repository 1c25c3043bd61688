"""What a study was asked to do: the content of its study.json."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from lossmith.formula.loss import Loss
from lossmith.parser import parse
from lossmith.train import Settings
from lossmith.tune.objectives import Objective, parse_objectives
from lossmith.tune.space import Choice, Range, Space, substitute, lowercase_names

__all__ = ["SamplerName", "Search"]

SamplerName = Literal["tpe", "nsga2"]
OWN = ("images", "loss", "steps", "val", "val_every")
"""The settings of a training that the study sets itself."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a study was asked to do.

    Args:
        loss: The formula, with free names.
        images: The folder of training pictures.
        val: The folder of pictures that judge, none of which is trained on.
        steps: Optimiser steps of a whole trial.
        axes: What is judged by.
        space: What each free name may be; "lr" is the learning rate.
        rungs: The parts of a trial after which it may be given up; a 1, the whole, may be named and is left out.
        floors: For an axis, the value that a trial must not be worse than.
        grid: Steps of each range, if all combinations are wanted; 0 has the sampler choose.
        sampler: "tpe", or "nsga2" for hundreds of short trials.
        seed: Of the study; that of a training is one of its settings.
        training: Other settings of the trainings, by their names.

    Raises:
        ValueError: A free name without a range, a range without its name, or a setting out of its range.
    """

    loss: str
    images: str
    val: str
    steps: int
    parse_objectives: tuple[Objective, ...]
    space: Space
    rungs: tuple[float, ...] = (1 / 3,)
    floors: Mapping[str, float] = field(default_factory=dict)
    grid: int = 0
    sampler: SamplerName = "tpe"
    seed: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rungs", tuple(rung for rung in self.rungs if rung != 1))
        if not self.space:
            raise ValueError("A study wants something to choose; give --range NAME=LOW:HIGH, or --lr LOW:HIGH.")
        if self.sampler not in get_args(SamplerName):
            raise ValueError(f"sampler is one of {', '.join(get_args(Sampler))}; got {self.sampler!r}.")
        if any(not 0 < rung < 1 for rung in self.rungs) or sorted(set(self.rungs)) != list(self.rungs):
            raise ValueError(f"rungs want rising parts of a trial between 0 and 1; got {self.rungs}.")
        free = lowercase_names(self.loss)
        for name in self.space:
            if name != "lr" and name not in free:
                raise ValueError(f"There is a range for {name!r}, which is no free name of the formula {self.loss!r}.")
        if "lr" in self.space and "lr" in free:
            raise ValueError("'lr' is the learning rate here; call the weight in the formula otherwise.")
        if not set(self.floors) <= {axis.metric for axis in self.axes}:
            raise ValueError(f"A floor wants an axis of the study; got {', '.join(self.floors)}.")
        settings = self.settings(self.middle)
        if self.rungs and settings.schedule != "constant":
            raise ValueError(
                f"A {settings.schedule} that ends at a rung is another training than one that goes on; take "
                "--schedule constant, or --prune-at 1 to give no trial up."
            )
        loss = parse(settings.loss)
        if loss.knobs:
            raise ValueError(
                f"'{min(loss.knobs)}' is free in the formula and has no range; give --range {min(loss.knobs)}=LOW:HIGH."
            )

    @property
    def middle(self) -> dict[str, Any]:
        """What stands in the middle of everything."""
        return {name: part.at(0.5) for name, part in self.space.items()}

    @property
    def rung_steps(self) -> dict[int, float]:
        """The steps after which a trial may be given up, and which parts of it they are."""
        return {math.ceil(rung * self.steps): rung for rung in self.rungs}

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """What a trial drew, as it stands in formulas and settings."""
        return {name: part.value(drawn[name]) for name, part in self.space.items()}

    def settings(self, drawn: Mapping[str, Any]) -> Settings:
        """The training of a trial.

        Unless others are asked for, its weights are in units of equal gradient norms, and its learning rate constant,
        so that a trial which stops at a rung has done just what a whole one has done by then.

        Raises:
            ValueError: The formula or a setting cannot be.
        """
        values = self.values(drawn)
        usual = {"calibrate": True, "schedule": "constant", "checkpoint_every": max(1, self.steps // 10)}
        given = {name: value for name, value in {**usual, **self.training}.items() if name not in OWN}
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

    def formula(self, drawn: Mapping[str, Any]) -> Loss:
        """The loss of a trial."""
        return parse(substitute(self.loss, self.values(drawn)))

    @property
    def record(self) -> dict[str, Any]:
        """What :meth:`of` reads."""
        ranges = {name: [part.low, part.high] for name, part in self.space.items() if isinstance(part, Range)}
        choices = {name: list(part.texts) for name, part in self.space.items() if isinstance(part, Choice)}
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("axes", "space")}
        own |= {"rungs": list(self.rungs), "floors": dict(self.floors), "training": dict(self.training)}
        return {**own, "axes": ",".join(axis.text for axis in self.axes), "ranges": ranges, "choices": choices}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Search":
        """The search of a record.

        Raises:
            ValueError: It is none.
        """
        try:
            space: dict[str, Range | Choice] = {name: Range(*ends) for name, ends in record["ranges"].items()}
            space |= {name: Choice(tuple(texts)) for name, texts in record["choices"].items()}
            own = {one.name: record[one.name] for one in fields(cls) if one.name not in ("axes", "space", "rungs")}
            return cls(axes=parse_objectives(record["axes"]), space=space, rungs=tuple(record["rungs"]), **own)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"this is no record of a study ({error})") from None

    @property
    def digest(self) -> str:
        """What tells it from other studies."""
        return digest(self.record)

    def differences(self, other: "Search") -> dict[str, tuple[Any, Any]]:
        """What is not the same, with both values."""
        mine, others = self.record, other.record
        return {name: (mine[name], others[name]) for name in mine if mine[name] != others[name]}


def digest(record: Mapping[str, Any]) -> str:
    """Twelve digits that tell a record from others."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]


def settings_digest(settings: Settings) -> str:
    """What tells a training from others: the name of its folder."""
    return digest(asdict(settings))


def read_search(path: Path) -> Search:
    """The search that a study.json holds.

    Raises:
        ValueError: There is no such file, or it is none of a study.
    """
    try:
        return Search.of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} holds no study: {error}.") from None
