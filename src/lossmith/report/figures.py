"""The figures that judge a run, under which protocol they were taken, and the verdict in words."""

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lossmith.report.folder import Points, Run, number

__all__ = ["METRICS", "Group", "Metric", "duration", "figure", "grouped", "thousands", "verdict"]


@dataclass(frozen=True)
class Metric:
    """A figure of the validation: how it is called, written and read."""

    key: str
    name: str
    unit: str
    digits: int
    higher: bool  # whether more is better
    network: str = ""  # the network that it looks through

    def write(self, value: float) -> str:
        """The value with the digits that mean something, and its unit."""
        return f"{value:.{self.digits}f}{self.unit and ' ' + self.unit}".replace("-", "\u2212")

    def best(self, points: Iterable[tuple[float, float]]) -> tuple[float, float]:
        """The point with the best value, the earliest of equals."""
        return (max if self.higher else min)(points, key=lambda point: point[1])


METRICS = (
    Metric("psnr_y", "PSNR-Y", "dB", 2, True),
    Metric("psnr_rgb", "PSNR-RGB", "dB", 2, True),
    Metric("ssim_y", "SSIM", "", 4, True),
    Metric("lpips_alex", "LPIPS", "", 3, False, "alex"),
    Metric("lpips_vgg", "LPIPS-VGG", "", 3, False, "vgg16"),
    Metric("dists", "DISTS", "", 3, False, "vgg16"),
)
PSNR_Y, LPIPS = METRICS[0], METRICS[3]


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
    groups: dict[str, dict[int, Run]] = {}
    for index, run in enumerate(runs):
        protocol = _protocol(run)
        n = run.validation[-1].get("n") if run.validation else counts.get(protocol)  # no validation yet: joins the rest
        plural = "" if n == 1 else "s"
        groups.setdefault(f"{protocol}{'' if n is None else f', {n} picture{plural}'}", {})[index] = run
    return [Group(protocol, members) for protocol, members in groups.items()]


def _protocol(run: Run) -> str:
    config = run.config
    task, scale = str(config.get("task", "unknown task")), config.get("scale")
    val = config.get("val") or (
        f"pictures held out of {config['images']}" if config.get("images") else "unknown pictures"
    )
    border = config.get("border", scale)
    parts = [f"{task} \u00d7{scale}" if scale is not None else task, posixpath.normpath(str(val))]
    return ", ".join(parts + ([f"{border} px border left out"] if border is not None else []))


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
        ranked = sorted(last.items(), key=lambda item: item[1], reverse=metric.higher)
        if len(ranked) > 1:
            (winner, most), (second, next_best) = ranked[:2]
            gap = metric.write(abs(most - next_best))
            if float(gap.split()[0]) == 0:
                sentences.append(f"On {metric.name}, {winner} and {second} are level ({metric.write(most)}).")
            else:
                side = "above" if metric.higher else "below"
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
    for metric in (PSNR_Y, LPIPS):
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
        judged = "better" if (gap > 0) == metric.higher else "worse"
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
