"""The sections that judge: heading, verdict, plane and curves; one with nothing to show says so, or is left out."""

from collections.abc import Sequence
from html import escape
from typing import Any

from lossmith.report.charts import Curve, curves, plane, shares
from lossmith.report.figures import METRICS, Group, Metric, duration, figure, tail, thousands, verdict
from lossmith.report.folder import Run

__all__ = ["apart", "heading", "over_time", "realism", "terms", "verdict_of"]


def heading(runs: Sequence[Run]) -> str:
    """The formulas, what was trained with them, on what, how long, on which machine."""
    kicker = '<p class="kicker">lossmith · training report</p>'
    if len(runs) == 1:
        formula = f'<h1><code class="formula">{escape(runs[0].formula)}</code></h1>'
        return f'<header>{kicker}{formula}<p class="facts">{escape(_facts(runs[0]))}</p></header>'
    rows = "".join(
        f'<div class="c{i % 8}"><span>{escape(run.name)}</span><code class="formula">{escape(run.formula)}</code>'
        f'<p class="facts">{escape(_facts(run))}</p></div>'
        for i, run in enumerate(runs)
    )
    return f'<header>{kicker}<h1 hidden>Comparison of {len(runs)} runs</h1><div class="formulas">{rows}</div></header>'


def _facts(run: Run) -> str:
    config = run.config
    model = config.get("model")
    name = str(model.get("name", "")) if isinstance(model, dict) else str(model or "")
    task = " ".join(str(part) for part in (config.get("task"), _prefixed("\u00d7", config.get("scale"))) if part)
    facts = [
        task,
        name,
        f"trained on {tail(config['images'])}" if config.get("images") else "",
        f"{thousands(run.step)} steps",
    ]
    facts += [duration(run.seconds) if run.seconds else "", _prefixed("seed ", config.get("seed"))]
    for key in ("hardware", "versions"):
        value = config.get(key)
        facts.append(", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value or ""))
    return " · ".join(filter(None, facts))


def _prefixed(prefix: str, value: Any) -> str:
    return "" if value is None else f"{prefix}{value}"


def apart(groups: Sequence[Group]) -> str:
    """Why the runs are not drawn together."""
    return (
        f'<p class="warn">These runs were judged in {len(groups)} different ways. A PSNR at another scale, on other '
        "pictures or with another border is another quantity: their figures are shown apart and never share a plot.</p>"
    )


def verdict_of(group: Group, *, alone: bool) -> str:
    """The verdict in words, and the table of figures; alone on the page it also says how these were taken."""
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in verdict(group))
    lead = f'<p class="lead">Judged on {escape(group.protocol)}.</p>' if alone else ""
    metrics, bicubic = group.metrics, group.bicubic
    text = f'<section><h2>What came of it</h2>{lead}<ul class="sentences">{sentences}</ul>'
    if not metrics:
        return f"{text}</section>"
    last = {m.key: [p[-1] for run in group.runs.values() if (p := run.metric(m.key))] for m in metrics}
    best = {m.key: m.best(last[m.key])[1] if len(last[m.key]) > 1 else None for m in metrics}
    arrows = "".join(f"<th>{escape(m.name)} {m.arrow}</th>" for m in metrics)
    rows = []
    if bicubic:
        cells = (
            f"<td><b>{m.write(bicubic[m.key])}</b></td>" if m.key in bicubic else "<td>&ndash;</td>" for m in metrics
        )
        rows.append(f'<tr><th class="plain">bicubic</th>{"".join(cells)}</tr>')
    for index, run in group.runs.items():
        cells = (_cell(run, metric, best[metric.key]) for metric in metrics)
        rows.append(f'<tr class="c{index % 8}"><th>{escape(run.name)}</th>{"".join(cells)}</tr>')
    table = f'<table class="score"><thead><tr><th></th>{arrows}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'{text}<div class="scroll">{table}</div></section>'


def _cell(run: Run, metric: Metric, best: float | None) -> str:
    points = run.metric(metric.key)
    if not points:
        return "<td>&ndash;</td>"
    value, origin = figure(points, metric)
    origin = origin.replace("; ", "<br>")
    kind = ' class="best"' if points[-1][1] == best else ""
    return f"<td><b{kind}>{value}</b><small>{origin}</small></td>"


def realism(group: Group) -> str:
    """The plane of accuracy and realism, where both were measured."""
    accuracy = METRICS[0]
    measured = (
        m for m in METRICS[3:] if any(run.metric(m.key) and run.metric(accuracy.key) for run in group.runs.values())
    )
    other = next(measured, None)
    if other is None:
        return ""
    paths = []
    for index, run in group.runs.items():
        at = {step: -other.worth(value) for step, value in run.metric(other.key)}
        points = [(value, at[step], step) for step, value in run.metric(accuracy.key) if step in at]
        if points:
            paths.append(Curve(run.name, index, [(a, b) for a, b, _ in points], [step for *_, step in points]))
    both = accuracy.key in group.bicubic and other.key in group.bicubic
    reference = (group.bicubic[accuracy.key], -other.worth(group.bicubic[other.key])) if both else None
    names = (f"{accuracy.name} (dB), more accurate →", f"{other.distance}, turned over: more like the truth ↑")
    words = (
        "Each path leads from the first validation to the last (the large dot). A loss buys one axis with the other: "
    )
    words += f"further right is closer in every pixel, further up is closer to the eye. {_shared(group, other)}"
    drawing = plane("", paths, names=names, reference=reference)
    aside = f'<p class="lead">{escape(words)}</p>'
    return f'<section><h2>Accuracy against realism</h2><div class="beside">{drawing}{aside}</div></section>'


def _shared(group: Group, metric: Metric) -> str:
    """The remark on a judge that also taught."""
    pupils = [run.name for run in group.runs.values() if metric.network and run.shares_network(metric.network)]
    if not pupils:
        return ""
    taught = " and ".join(pupils)
    return (
        f"{metric.name} looks through a network that the loss of {taught} uses too: it is no independent judge there."
    )


def over_time(group: Group) -> str:
    """The validation figures over the steps."""
    drawings = []
    for metric in group.metrics:
        lines = [Curve(run.name, index, run.metric(metric.key)) for index, run in group.runs.items()]
        level = ("bicubic", group.bicubic[metric.key]) if metric.key in group.bicubic else None
        unit = f", {metric.unit}" if metric.unit else ""
        drawings.append(curves(f"{metric.name}{unit}", lines, note=metric.reading, reference=level))
    body = f'<div class="charts">{"".join(drawings)}</div>' if drawings else '<p class="empty">No validation yet.</p>'
    return f"<section><h2>Judged over time</h2>{body}</section>"


def terms(group: Group) -> str:
    """Every term's raw value, and the share of each weighted term in the total."""
    head = "<section><h2>The terms of the loss</h2>"
    broken = [(run, name, run.broken(name)) for run in group.runs.values() for name in run.terms if run.broken(name)]
    notices = "".join(
        f'<p class="warn">{escape(run.name)}: {escape(name)} was not a finite number in {count} of '
        f"{len(run.log)} logged steps; these are left out.</p>"
        for run, name, count in broken
    )
    notices += "".join(
        f'<p class="warn">{escape(run.name)}: {escape(words)}</p>'
        for run in group.runs.values()
        for words in run.collapsed
    )
    drawn: dict[str, tuple[str, list[Curve]]] = {}  # by meaning: one name may stand for two networks in two runs
    for index, run in group.runs.items():
        for name in run.terms:
            if points := run.raw(name):
                _, lines = drawn.setdefault(run.meanings.get(name, name), (name, []))
                lines.append(Curve(run.name, index, points))
    if not drawn:
        return f'{head}<p class="empty">No step has been logged yet.</p>{notices}</section>'
    charts, titles = [], [name for name, _ in drawn.values()]
    for name, lines in drawn.values():
        title = name if titles.count(name) == 1 else f"{name} ({', '.join(line.name for line in lines)})"
        charts.append(curves(title, lines, note="raw value", noisy=True))
    totals = [Curve(run.name, index, run.total()) for index, run in group.runs.items()]
    if (
        len({run.formula for run in group.runs.values()}) == 1
        and len(drawn) > 1
        and any(line.points for line in totals)
    ):
        charts.append(curves("Weighted total", totals, note="what is minimised", noisy=True))
    for index, run in group.runs.items():
        rows = run.shares()
        if rows and len(run.terms) > 1:
            title = "Share of each weighted term" + (f", {run.name}" if len(group.runs) > 1 else "")
            charts.append(shares(title, index, run.terms, rows))
    lead = (
        "As measured, before weighting, on the training batches: every logged step faint, their running mean over it."
    )
    return f'{head}<p class="lead">{lead}</p>{notices}<div class="charts">{"".join(charts)}</div></section>'
