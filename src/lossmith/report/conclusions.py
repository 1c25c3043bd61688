"""The results of a group of runs in sentences."""

from lossmith._format import format_duration
from lossmith.metrics import METRICS, MetricInfo
from lossmith.report.folder import Run, finite_float
from lossmith.report.groups import Group, format_count
from lossmith.report.plot.axis import Points

__all__ = ["conclusions", "format_result"]

RANKINGS = {"psnr_y": "is the most accurate", "lpips_alex": "is perceptually closest to the ground truth"}
"""The metrics that runs are ranked by, and what the sentence says of the best run."""


def conclusions(group: Group) -> list[str]:
    """Return what the metrics of the runs say, one sentence each."""
    validated = {run.name: run for run in group.runs.values() if run.validation}
    sentences = []
    for run in group.runs.values():
        if len(group.runs) > 4 and run.name in validated and not _is_unfinished(run):
            continue  # the table shows many runs more clearly
        text = _summarize(run, group)
        sentences.append(f"{run.name}: {text}" if len(group.runs) > 1 else text[:1].upper() + text[1:])
    for metric in METRICS.values():
        if metric.key in RANKINGS:
            last = {name: points[-1][1] for name, run in validated.items() if (points := run.metric(metric.key))}
            sentences += _rank(metric, last, group)
    return sentences


def _rank(metric: MetricInfo, values: dict[str, float], group: Group) -> list[str]:
    """Return a sentence on the two best runs, if there are two, or on the baseline if it surpasses every run."""
    ranked = sorted(values.items(), key=lambda item: -metric.quality(item[1]))
    if len(ranked) < 2:
        return []
    (first, best), (second, next_best) = ranked[:2]
    baseline = group.baseline.get(metric.key)
    if baseline is not None and metric.quality(baseline) > metric.quality(best):
        name, value = group.baseline_name, metric.format(baseline)
        return [
            f"{name} surpasses every run in {metric.name}: {value}; the best run, {first}, has {metric.format(best)}."
        ]
    gap = metric.format(abs(best - next_best))
    if float(gap.split()[0]) == 0:
        return [f"{first} and {second} have the same {metric.name} ({metric.format(best)})."]
    side = "above" if best > next_best else "below"
    return [f"{first} {RANKINGS[metric.key]}: {metric.name} {metric.format(best)}, {gap} {side} {second}."]


def _summarize(run: Run, group: Group) -> str:
    """Return the progress and the headline metrics of a run."""
    took = f" in {format_duration(run.seconds)}" if run.seconds else ""
    done = f"{format_count(run.step)} steps{took}"
    if _is_unfinished(run):
        done = f"{format_count(run.step)} of {format_count(run.config['steps'])} steps{took} (not finished)"
    if not run.step:
        return "no step has been logged yet."
    if not run.validation:
        return f"{done}; no validation yet, so there are no metrics."
    clauses = []
    for metric in group.metrics:
        points = run.metric(metric.key)
        if points and metric.is_headline:
            clauses.append(f"{metric.name} {metric.format(points[-1][1])}{_compare(metric, points, group)}")
    knobs = f"with {run.validated_knobs}, " if run.validated_knobs and clauses else ""
    return f"{done}; {knobs}{'; '.join(clauses) or 'the validation has no known metric'}."


def _is_unfinished(run: Run) -> bool:
    return run.step < (finite_float(run.config.get("steps")) or 0)


def _compare(metric: MetricInfo, points: Points, group: Group) -> str:
    """Return how the last value compares with the baseline and with the best value, in parentheses."""
    last, remarks = points[-1][1], []
    if (baseline := group.baseline.get(metric.key)) is not None:
        gap, name = last - baseline, group.baseline_name
        verdict = "better" if metric.quality(last) > metric.quality(baseline) else "worse"
        is_equal = not round(gap, metric.digits)
        remarks.append(f"equal to {name}" if is_equal else f"{metric.format(abs(gap))} {verdict} than {name}")
    step, best = metric.best_point(points)
    if round(abs(best - last), metric.digits):
        remarks.append(f"best was {metric.format(best)} at step {format_count(step)}")
    return f" ({', '.join(remarks)})" if remarks else ""


def format_result(points: Points, metric: MetricInfo) -> tuple[str, str]:
    """Return the last value of a metric, and its first and best value with their steps."""
    (first_step, first), (best_step, best) = points[0], metric.best_point(points)
    if len(points) == 1:
        return metric.format(points[-1][1]), f"at step {format_count(first_step)}"
    return metric.format(points[-1][1]), (
        f"first {first:.{metric.digits}f} at {format_count(first_step)}; "
        f"best {best:.{metric.digits}f} at {format_count(best_step)}"
    )
