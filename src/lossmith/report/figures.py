"""The figures that judge a run, under which protocol they were taken, and the verdict in words."""

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lossmith.report.folder import Points, Run, number

__all__ = ["METRICS", "Group", "Metric", "duration", "figure", "grouped", "tail", "thousands", "verdict"]


@dataclass(frozen=True)
class Metric:
    """A figure of the validation: how it is called, written and read."""

    key: str
    name: str
    unit: str
    digits: int
    ideal: float | None  # the best value there is; None: the higher the better
    network: str = ""  # the network that it looks through

    @property
    def reading(self) -> str:
        """How to read it, in words."""
        return "higher is better" if self.ideal is None else "lower is better" if self.ideal == 0 else "1 is right"

    @property
    def arrow(self) -> str:
        """How to read it, as a sign."""
        return "↑" if self.ideal is None else "↓" if self.ideal == 0 else "→ 1"

    def worth(self, value: float) -> float:
        """The value turned so that more is better."""
        return value if self.ideal is None else -abs(value - self.ideal)

    @property
    def distance(self) -> str:
        """What the worth is the negative of, in words."""
        return self.name if not self.ideal else f"{self.name} off {self.ideal:g}"

    def write(self, value: float) -> str:
        """The value with the digits that mean something, and its unit."""
        return f"{value:.{self.digits}f}{self.unit and ' ' + self.unit}".replace("-", "\u2212")

    def best(self, points: Iterable[tuple[float, float]]) -> tuple[float, float]:
        """The point with the best value, the earliest of equals."""
        return max(points, key=lambda point: self.worth(point[1]))


METRICS = (
    Metric("psnr_y", "PSNR-Y", "dB", 2, None),
    Metric("psnr_rgb", "PSNR-RGB", "dB", 2, None),
    Metric("ssim_y", "SSIM", "", 4, None),
    Metric("lpips_alex", "LPIPS", "", 3, 0.0, "alex"),
    Metric("dists", "DISTS", "", 3, 0.0, "vgg16"),
    Metric("texture", "Texture", "", 3, 1.0),
    Metric("joint", "Pictures that show their caption", "", 3, None),
    Metric("colour", "Right colour", "", 3, None),
    Metric("shape", "Right shape", "", 3, None),
    Metric("position", "Right place", "", 3, None),
    Metric("denoising", "Denoising error", "", 4, 0.0),
)
PSNR_Y, LPIPS, JOINT, DENOISING = METRICS[0], METRICS[3], METRICS[6], METRICS[-1]


@dataclass(frozen=True)
class Group:
    """Runs whose figures were taken in one way, with the index (and so the colour) of each on the page."""

    protocol: str
    runs: dict[int, Run]

    @property
    def metrics(self) -> list[Metric]:
        """The figures that at least one of the runs has."""
        return [metric for metric in METRICS if any(run.metric(metric.key) for run in self.runs.values())]

    @property
    def bicubic(self) -> dict[str, float]:
        """The figures of plain bicubic enlargement under this protocol, where a run recorded them."""
        records = [run.bicubic for run in self.runs.values() if run.bicubic]
        pairs = {m.key: number(records[0].get(m.key)) for m in METRICS} if records else {}
        return {key: value for key, value in pairs.items() if value is not None}


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Part the runs by protocol: figures of two protocols are never drawn in one plot."""
    counts: dict[str, Any] = {}
    for run in runs:
        for line in run.validation[-1:]:
            counts.setdefault(_protocol(run), line.get("n"))
    groups: dict[tuple[str, Any], dict[int, Run]] = {}
    for index, run in enumerate(runs):
        protocol = _protocol(run)
        n = run.validation[-1].get("n") if run.validation else counts.get(protocol)  # no validation yet: joins the rest
        groups.setdefault((protocol, n), {})[index] = run
    short = [_protocol(next(iter(members.values())), 2) for members in groups.values()]
    names = short if len(set(short)) == len(short) else [protocol for protocol, _ in groups]
    return [
        Group(name if n is None else f"{name}, {n} picture{'s' * (n != 1)}", members)
        for name, ((_, n), members) in zip(names, groups.items(), strict=True)
    ]


def _protocol(run: Run, parts: int = 0) -> str:
    """How the figures were taken; of the folder's path the last parts, or all of it."""
    config = run.config
    task, scale = str(config.get("task", "unknown task")), config.get("scale")
    held = "" if config.get("val") else "pictures held out of "
    folder = tail(config.get("val") or config.get("images") or "an unknown folder", parts)
    border = config.get("border", scale)
    words = [f"{task} \u00d7{scale}" if scale is not None else task, held + folder]
    return ", ".join(words + ([f"{border} px border left out"] if border is not None else []))


def tail(path: Any, parts: int = 2) -> str:
    """The last parts of a path; with 0 all of it.

    Example:
        >>> tail("/data/benchmark/Set5/HR/")
        'Set5/HR'
    """
    return "/".join(posixpath.normpath(str(path)).split("/")[-parts:])


def figure(points: Points, metric: Metric) -> tuple[str, str]:
    """The last value, and where it came from: the first value and the best one."""
    (first_step, first), (best_step, best) = points[0], metric.best(points)
    if len(points) == 1:
        return metric.write(points[-1][1]), f"at step {thousands(first_step)}"
    return metric.write(points[-1][1]), (
        f"first {first:.{metric.digits}f} at {thousands(first_step)}; "
        f"best {best:.{metric.digits}f} at {thousands(best_step)}"
    )


def verdict(group: Group) -> list[str]:
    """What the figures say, a sentence each."""
    judged = {run.name: run for run in group.runs.values() if run.validation}
    sentences = []
    for run in group.runs.values():
        if len(group.runs) > 4 and run.name in judged and not _unfinished(run):
            continue  # of many runs the table tells this better
        words = _single(run, group.bicubic)
        sentences.append(f"{run.name}: {words}" if len(group.runs) > 1 else words[:1].upper() + words[1:])
    for metric, praise in ((PSNR_Y, "is the most accurate"), (LPIPS, "looks closest to the truth")):
        last = {name: points[-1][1] for name, run in judged.items() if (points := run.metric(metric.key))}
        ranked = sorted(last.items(), key=lambda item: -metric.worth(item[1]))
        if len(ranked) > 1:
            (winner, most), (second, next_best) = ranked[:2]
            gap = metric.write(abs(most - next_best))
            if float(gap.split()[0]) == 0:
                sentences.append(f"On {metric.name}, {winner} and {second} are level ({metric.write(most)}).")
            else:
                side = "above" if most > next_best else "below"
                sentences.append(f"{winner} {praise}: {metric.name} {metric.write(most)}, {gap} {side} {second}.")
    return sentences


def _single(run: Run, bicubic: dict[str, float]) -> str:
    took = f" in {duration(run.seconds)}" if run.seconds else ""
    done = f"{thousands(run.step)} steps{took}"
    if _unfinished(run):
        done = f"{thousands(run.step)} of {thousands(run.config['steps'])} steps{took} (not finished)"
    if not run.step:
        return "no step has been logged yet."
    if not run.validation:
        return f"{done}; no validation yet, so there is nothing to judge it by."
    clauses = []
    for metric in (PSNR_Y, LPIPS, JOINT, DENOISING):
        points = run.metric(metric.key)
        if points:
            clauses.append(f"{metric.name} {metric.write(points[-1][1])}{_against(metric, points, bicubic)}")
    return f"{done}; {'; '.join(clauses) or 'its validation holds no known figure'}."


def _unfinished(run: Run) -> bool:
    return run.step < (number(run.config.get("steps")) or 0)


def _against(metric: Metric, points: Points, bicubic: dict[str, float]) -> str:
    last, remarks = points[-1][1], []
    if metric.key in bicubic:
        gap = last - bicubic[metric.key]
        judged = "better" if metric.worth(last) > metric.worth(bicubic[metric.key]) else "worse"
        remarks.append(f"{metric.write(abs(gap))} {judged} than bicubic" if round(gap, metric.digits) else "as bicubic")
    step, best = metric.best(points)
    if round(abs(best - last), metric.digits):
        remarks.append(f"best was {metric.write(best)} at step {thousands(step)}")
    return f" ({', '.join(remarks)})" if remarks else ""


def thousands(value: float) -> str:
    """A count with thin spaces between its thousands."""
    return f"{round(value):,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """A time in the two units that matter.

    Example:
        >>> duration(3725)
        '1 h 2 min'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
