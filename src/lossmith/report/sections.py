"""The main sections of the report: heading, results, trade-off, validation metrics and loss terms."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lossmith._format import format_duration
from lossmith.metrics import METRICS, MetricInfo
from lossmith.report.conclusions import conclusions, format_result
from lossmith.report.folder import Run, finite_float
from lossmith.report.groups import Group, format_count, model_name, path_tail, task_name
from lossmith.report.plot.charts import Curve, line_chart, path_chart, share_chart
from lossmith.report.table import table_element

__all__ = ["heading", "protocol_note", "results_section", "terms_section", "tradeoff_section", "validation_section"]

ACCURACY = METRICS["psnr_y"]
PERCEPTUAL = [metric for metric in METRICS.values() if metric.kind == "perceptual"]
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
    facts = [
        task_name(config) if config.get("task") else "",
        model_name(config),
        *(f"knob {name} from {low:g} to {high:g}" for name, (low, high) in run.knobs.items()),
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
    return f"{text}{_results_table(group) if group.metrics else ''}</section>"


def _results_table(group: Group) -> str:
    metrics, best = group.metrics, _best_values(group)
    rows = [_plain_row(group.baseline_name, group.baseline, metrics, best)] if group.baseline else []
    for index, run in group.runs.items():
        cells = "".join(_result_cell(run, metric, best.get(metric.key)) for metric in metrics)
        knobs = f"<small>{escape(run.validated_knobs)}</small>" if run.validated_knobs else ""
        rows.append(f'<tr class="c{index % 8}"><th>{escape(run.name)}{knobs}</th>{cells}</tr>')
        for i, end in enumerate(("low", "high")):
            if at := {
                m.key: value for m in metrics if (value := finite_float(run.metrics_at(end).get(m.key))) is not None
            }:
                name = ", ".join(f"{knob} = {ends[i]:g}" for knob, ends in run.knobs.items())
                rows.append(_plain_row(name, at, metrics))
    return table_element(rows, head=["", *(f"{m.name} {m.arrow}" for m in metrics)], kind="score")


def _best_values(group: Group) -> dict[str, float]:
    """Return the best last value of each metric that at least two runs have, the baseline included."""
    best = {}
    for metric in group.metrics:
        last = [points[-1] for run in group.runs.values() if (points := run.metric(metric.key))]
        if len(last) > 1:
            baseline = [(0.0, group.baseline[metric.key])] if metric.key in group.baseline else []
            best[metric.key] = metric.best_point([*last, *baseline])[1]
    return best


def _plain_row(
    name: str, values: Mapping[str, float], metrics: Sequence[MetricInfo], best: Mapping[str, float] | None = None
) -> str:
    """Return the row of the baseline, or of a run at one end of its knobs."""
    cells = []
    for metric in metrics:
        value = values.get(metric.key)
        kind = ' class="best"' if value is not None and value == (best or {}).get(metric.key) else ""
        cells.append("<td>&ndash;</td>" if value is None else f"<td><b{kind}>{metric.format(value)}</b></td>")
    return f'<tr><th class="plain">{escape(name)}</th>{"".join(cells)}</tr>'


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
    baseline, reference = group.baseline, None
    if ACCURACY.key in baseline and perceptual.key in baseline:
        reference = (group.baseline_name, baseline[ACCURACY.key], -perceptual.quality(baseline[perceptual.key]))
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
        value = group.baseline.get(metric.key)
        reference = None if value is None else (group.baseline_name, value)
        unit = f", {metric.unit}" if metric.unit else ""
        charts.append(line_chart(f"{metric.name}{unit}", curves, note=metric.direction, reference=reference))
    body = f'<div class="charts">{"".join(charts)}</div>' if charts else '<p class="empty">No validation yet.</p>'
    warnings = (
        f'<p class="warn">{escape(run.name)}, step {line["step"]}: {escape(line["warning"])}</p>'
        for run in group.runs.values()
        for line in run.validation
        if isinstance(line.get("warning"), str)
    )
    return f"<section><h2>Validation metrics</h2>{''.join(warnings)}{body}</section>"


def terms_section(group: Group) -> str:
    """Return the charts of the unweighted terms, of the minimized loss and of the shares of the terms."""
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
        charts.append(line_chart("Minimized loss", totals, note="with the weights in use", is_noisy=True))
    for index, run in group.runs.items():
        gradient_rows = run.gradient_shares()
        rows = gradient_rows or run.value_shares()
        if rows and len(run.terms) > 1:
            title = "Share of the gradient at the prediction" if gradient_rows else "Share of the loss value"
            title += f", {run.name}" if len(group.runs) > 1 else ""
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
