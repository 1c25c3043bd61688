"""The main sections of the report: heading, results, trade-off, validation metrics and loss terms."""

from collections.abc import Sequence
from html import escape
from typing import Any

from lossmith._format import format_duration
from lossmith.report.conclusions import conclusions, format_result
from lossmith.report.folder import Run
from lossmith.report.groups import Group, format_count, path_tail
from lossmith.report.metric_info import METRIC_INFOS, MetricInfo
from lossmith.report.plot.charts import Curve, line_chart, path_chart, share_chart

__all__ = ["heading", "protocol_note", "results_section", "terms_section", "tradeoff_section", "validation_section"]

ACCURACY, PERCEPTUAL = METRIC_INFOS[0], METRIC_INFOS[3:]
"""The accuracy metric and the candidates for the perceptual metric of the trade-off, the preferred one first."""


def heading(runs: Sequence[Run]) -> str:
    """Return the heading of the page: formulas, tasks, networks, data, durations and hardware."""
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
    task = " ".join(str(part) for part in (config.get("task"), _prefix("\u00d7", config.get("scale"))) if part)
    facts = [
        task,
        name,
        f"trained on {path_tail(config['images'])}" if config.get("images") else "",
        f"{format_count(run.step)} steps",
    ]
    facts += [format_duration(run.seconds) if run.seconds else "", _prefix("seed ", config.get("seed"))]
    for key in ("hardware", "versions"):
        value = config.get(key)
        facts.append(", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value or ""))
    return " · ".join(filter(None, facts))


def _prefix(prefix: str, value: Any) -> str:
    return "" if value is None else f"{prefix}{value}"


def protocol_note(groups: Sequence[Group]) -> str:
    """Return the note that metrics of different protocols are not comparable."""
    return (
        f'<p class="warn">These runs were validated under {len(groups)} protocols. Metrics at another scale, on other '
        "images or with another border are not comparable, so each protocol has its own tables and plots.</p>"
    )


def results_section(group: Group, *, has_protocol: bool) -> str:
    """Return the results of the runs in sentences and as a table.

    Args:
        group: The runs.
        has_protocol: Whether the section states the protocol.
    """
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in conclusions(group))
    lead = f'<p class="lead">Validated on {escape(group.protocol)}.</p>' if has_protocol else ""
    text = f'<section><h2>Results</h2>{lead}<ul class="sentences">{sentences}</ul>'
    table = f'<div class="scroll">{_results_table(group)}</div>' if group.metrics else ""
    return f"{text}{table}</section>"


def _results_table(group: Group) -> str:
    metrics, bicubic = group.metrics, group.bicubic
    last = {m.key: [p[-1] for run in group.runs.values() if (p := run.metric(m.key))] for m in metrics}
    best = {m.key: m.best_point(last[m.key])[1] if len(last[m.key]) > 1 else None for m in metrics}
    head = "".join(f"<th>{escape(m.name)} {m.arrow}</th>" for m in metrics)
    rows = []
    if bicubic:
        cells = (
            f"<td><b>{m.format(bicubic[m.key])}</b></td>" if m.key in bicubic else "<td>&ndash;</td>" for m in metrics
        )
        rows.append(f'<tr><th class="plain">bicubic</th>{"".join(cells)}</tr>')
    for index, run in group.runs.items():
        cells = (_result_cell(run, metric, best[metric.key]) for metric in metrics)
        rows.append(f'<tr class="c{index % 8}"><th>{escape(run.name)}</th>{"".join(cells)}</tr>')
    return f'<table class="score"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _result_cell(run: Run, metric: MetricInfo, best: float | None) -> str:
    points = run.metric(metric.key)
    if not points:
        return "<td>&ndash;</td>"
    value, history = format_result(points, metric)
    kind = ' class="best"' if points[-1][1] == best else ""
    return f"<td><b{kind}>{value}</b><small>{history.replace('; ', '<br>')}</small></td>"


def tradeoff_section(group: Group) -> str:
    """Return the plot of accuracy against a perceptual metric; "" if no run has both."""
    measured = (
        m for m in PERCEPTUAL if any(run.metric(m.key) and run.metric(ACCURACY.key) for run in group.runs.values())
    )
    perceptual = next(measured, None)
    if perceptual is None:
        return ""
    paths = []
    for index, run in group.runs.items():
        costs = {step: -perceptual.quality(value) for step, value in run.metric(perceptual.key)}
        points = [(value, costs[step], step) for step, value in run.metric(ACCURACY.key) if step in costs]
        if points:
            paths.append(Curve(run.name, index, [(a, b) for a, b, _ in points], [step for *_, step in points]))
    bicubic = group.bicubic
    has_reference = ACCURACY.key in bicubic and perceptual.key in bicubic
    reference = (bicubic[ACCURACY.key], -perceptual.quality(bicubic[perceptual.key])) if has_reference else None
    names = (f"{ACCURACY.name} ({ACCURACY.unit}), higher →", f"{perceptual.cost_name}, lower ↑")
    text = (
        "Each path leads from the first validation to the last one, which has the large dot. A loss trades one axis "
        "for the other: further right, pixels are closer to the ground truth; further up, the perceptual quality is "
        "higher. " + _shared_network_note(group, perceptual)
    )
    chart = path_chart("", paths, axis_names=names, reference=reference)
    lead = f'<p class="lead">{escape(text)}</p>'
    return f'<section><h2>Perception-distortion trade-off</h2><div class="beside">{chart}{lead}</div></section>'


def _shared_network_note(group: Group, metric: MetricInfo) -> str:
    """Return the note that a metric uses a network that a loss uses too; "" if none does."""
    names = [run.name for run in group.runs.values() if metric.network and run.uses_network(metric.network)]
    if not names:
        return ""
    return f"{metric.name} uses a network that the loss of {' and '.join(names)} uses too, so it is not independent."


def validation_section(group: Group) -> str:
    """Return one chart over the steps for each validation metric."""
    charts = []
    for metric in group.metrics:
        curves = [Curve(run.name, index, run.metric(metric.key)) for index, run in group.runs.items()]
        reference = ("bicubic", group.bicubic[metric.key]) if metric.key in group.bicubic else None
        unit = f", {metric.unit}" if metric.unit else ""
        charts.append(line_chart(f"{metric.name}{unit}", curves, note=metric.direction, reference=reference))
    body = f'<div class="charts">{"".join(charts)}</div>' if charts else '<p class="empty">No validation yet.</p>'
    return f"<section><h2>Validation metrics</h2>{body}</section>"


def terms_section(group: Group) -> str:
    """Return the charts of the unweighted terms, of the total and of the shares of the weighted terms."""
    head = "<section><h2>Loss terms</h2>"
    notes = _term_notes(group)
    curves: dict[str, tuple[str, list[Curve]]] = {}  # by formula: one name may mean two networks in two runs
    for index, run in group.runs.items():
        for name in run.terms:
            if points := run.term_values(name):
                _, lines = curves.setdefault(run.term_formulas.get(name, name), (name, []))
                lines.append(Curve(run.name, index, points))
    if not curves:
        return f'{head}<p class="empty">No step has been logged yet.</p>{notes}</section>'
    charts, names = [], [name for name, _ in curves.values()]
    for name, lines in curves.values():
        title = name if names.count(name) == 1 else f"{name} ({', '.join(line.name for line in lines)})"
        charts.append(line_chart(title, lines, note="unweighted", is_noisy=True))
    totals = [Curve(run.name, index, run.total_loss()) for index, run in group.runs.items()]
    is_one_formula = len({run.formula for run in group.runs.values()}) == 1
    if is_one_formula and len(curves) > 1 and any(line.points for line in totals):
        charts.append(line_chart("Weighted total", totals, note="the minimised loss", is_noisy=True))
    for index, run in group.runs.items():
        rows = run.term_shares()
        if rows and len(run.terms) > 1:
            title = "Share of each weighted term" + (f", {run.name}" if len(group.runs) > 1 else "")
            charts.append(share_chart(title, index, run.terms, rows))
    lead = "Unweighted values on the training batches: every logged step faintly, and the running mean."
    return f'{head}<p class="lead">{lead}</p>{notes}<div class="charts">{"".join(charts)}</div></section>'


def _term_notes(group: Group) -> str:
    """Return the warnings of non-finite terms and of collapsed discriminators."""
    texts = [
        f"{run.name}: {name} was not finite at {count} of {len(run.log)} logged steps, which are left out."
        for run in group.runs.values()
        for name in run.terms
        if (count := run.count_nonfinite(name))
    ]
    texts += [f"{run.name}: {text}" for run in group.runs.values() for text in run.collapse_warnings]
    return "".join(f'<p class="warn">{escape(text)}</p>' for text in texts)
