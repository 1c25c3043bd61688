"""Groups of runs that were validated under one protocol, so that their metrics can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

from lossmith.metrics import METRICS, MetricInfo
from lossmith.report.folder import Run, finite_float
from lossmith.tasks import TASKS

__all__ = ["Group", "format_count", "group_runs", "model_name", "path_tail", "task_name"]


@dataclass(frozen=True)
class Group:
    """Runs that were validated under one protocol.

    Args:
        protocol: The protocol in words.
        runs: The runs by their index on the page, which decides their colour.
    """

    protocol: str
    runs: dict[int, Run]

    @property
    def tasks(self) -> list[str]:
        """The names of the runs' tasks, as far as the tasks are installed."""
        return [
            name for name in dict.fromkeys(str(run.config.get("task")) for run in self.runs.values()) if name in TASKS
        ]

    @property
    def metrics(self) -> list[MetricInfo]:
        """The metrics that at least one of the runs has."""
        return [metric for metric in self._known_metrics if any(run.metric(metric.key) for run in self.runs.values())]

    @property
    def baseline_name(self) -> str:
        """The name of the method without a network, such as "bicubic"."""
        return next(iter(self.runs.values())).baseline_name

    @property
    def baseline(self) -> dict[str, float]:
        """The metrics of the method without a network under this protocol, if a run recorded them."""
        records = [run.baseline for run in self.runs.values() if run.baseline]
        pairs = {m.key: finite_float(records[0].get(m.key)) for m in self._known_metrics} if records else {}
        return {key: value for key, value in pairs.items() if value is not None}

    @property
    def _known_metrics(self) -> list[MetricInfo]:
        own = {metric.key: metric for name in self.tasks for metric in TASKS[name].report_metrics()}
        return [*{**METRICS, **own}.values()]  # a task's "colour" is not that of images


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Return the runs grouped by protocol: task, scale, validation images and border.

    A run without a validation joins the first group of its protocol.
    """
    counts: dict[str, Any] = {}
    for run in runs:
        for line in run.validation[-1:]:
            counts.setdefault(_protocol(run), line.get("n"))
    groups: dict[tuple[str, Any], dict[int, Run]] = {}
    for index, run in enumerate(runs):
        protocol = _protocol(run)
        count = run.validation[-1].get("n") if run.validation else counts.get(protocol)
        groups.setdefault((protocol, count), {})[index] = run
    short = [_protocol(next(iter(members.values())), 2) for members in groups.values()]
    names = short if len(set(short)) == len(short) else [protocol for protocol, _ in groups]
    return [
        Group(name if count is None else f"{name}, {count} image{'s' * (count != 1)}", members)
        for name, ((_, count), members) in zip(names, groups.items(), strict=True)
    ]


def _protocol(run: Run, parts: int = 0) -> str:
    """Return the protocol in words, with the last `parts` parts of the folder's path, or with the whole path if 0."""
    config = run.config
    task, scale = str(config.get("task")), config.get("scale")
    held_out = "" if config.get("val") else "images held out of "
    folder = path_tail(config.get("val") or config.get("images") or "an unknown folder", parts)
    border = config.get("border", metric_border(task, scale))
    return ", ".join([task_name(config), held_out + folder] + ([f"{border} px border left out"] if border else []))


def metric_border(task: str, scale: Any) -> int:
    """Return the width of the border that the metrics of a task leave out; 0 for a task that is not installed."""
    is_known = task in TASKS and isinstance(scale, int) and not isinstance(scale, bool)
    return TASKS[task].metric_border(scale) if is_known else 0


def task_name(config: Mapping[str, Any]) -> str:
    """Return the name of a run's task, with the scale if the network changes the size of images.

    Example:
        >>> task_name({"task": "super-resolution", "scale": 4}), task_name({"task": "denoising", "scale": 1})
        ('super-resolution ×4', 'denoising')
    """
    task, scale = str(config.get("task") or "unknown task"), config.get("scale")
    return task if scale in (None, 1) else f"{task} \u00d7{scale}"


def model_name(config: Mapping[str, Any]) -> str:
    """Return the name of a run's network, or of the file whose weights the training started from, without its folders.

    Example:
        >>> model_name({"model": {"name": "edsr"}}), model_name({"model": {"name": "/runs/start/model.safetensors"}})
        ('edsr', 'initialized from start/model.safetensors')
    """
    model = config.get("model")
    name = str(model.get("name", "")) if isinstance(model, dict) else str(model or "")
    kind, _, file = name.rpartition(":")
    if "/" not in file and "\\" not in file:
        return name
    return f"{kind}:{path_tail(file, 1)}" if len(kind) > 1 else f"initialized from {path_tail(name)}"


def path_tail(path: Any, parts: int = 2) -> str:
    r"""Return the last parts of a path of any system, with slashes between them; the whole path if `parts` is 0.

    Example:
        >>> path_tail("/data/benchmark/Set5/HR/"), path_tail(r"D:\\data\\Set5")
        ('Set5/HR', 'data/Set5')
    """
    whole = PureWindowsPath(str(path))  # which splits at slashes and at backslashes
    return "/".join(whole.parts[1 if whole.anchor else 0 :][-parts:]) if parts and whole.name else str(path)


def format_count(value: float) -> str:
    """Return an integer with narrow no-break spaces between its thousands."""
    return f"{round(value):,}".replace(",", "\u202f")
