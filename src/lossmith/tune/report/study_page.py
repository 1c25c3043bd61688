"""The report of a study: findings, Pareto front with the images of each trial, importance, and all trials."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from lossmith._format import format_duration
from lossmith.report.document import write_document
from lossmith.report.groups import model_name, path_tail, task_name
from lossmith.report.table import table_element, table_row
from lossmith.tune.findings import Findings, read_findings
from lossmith.tune.report.study_plot import metric_info, plot_objectives
from lossmith.tune.report.trial_images import trial_images
from lossmith.tune.summary import describe_findings
from lossmith.tune.trial import TrialResult

__all__ = ["write_study_report"]

ASSETS = "lossmith.tune.report"


def write_study_report(folder: Path, out: Path) -> Path:
    """Write the report of a study as one self-contained HTML page.

    Args:
        folder: The study's folder.
        out: The file to write.

    Returns:
        The file that was written.

    Raises:
        ValueError: The folder holds no study.
    """
    findings = read_findings(folder)
    body = [
        _heading(findings),
        _findings_section(findings),
        _front_section(findings),
        _table_section(findings),
        _importance_section(findings),
        _appendix(findings),
    ]
    return write_document(
        f"{folder.resolve().name} · lossmith",
        "\n".join(filter(None, body)),
        out,
        scripts=[("lossmith.report", "charts.js"), (ASSETS, "study.js")],
        styles=[(ASSETS, "study.css")],
    )


def _heading(findings: Findings) -> str:
    """Return the formula and the settings of the search."""
    search, record = findings.search, findings.search.to_record()
    settings = search.settings(search.midpoint)
    space = [f"{name} from {low:g} to {high:g}" for name, (low, high) in record["ranges"].items()]
    space += [f"{name} in {', '.join(options)}" for name, options in record["choices"].items()]
    took = format_duration(sum(trial.seconds for trial in findings.trials))
    same_cost = " of the most expensive loss, or as many operations" if search.equal_cost else ""
    facts = [
        task_name({"task": settings.task, "scale": settings.scale}),
        model_name({"model": dict(settings.model)}),
        f"{len(findings.trials)} trials of {search.steps} steps{same_cost}, {took} of training",
        f"trained on {path_tail(search.images)}",
        f"validated on {findings.image_count} images of {path_tail(search.val)}",
        *space,
        "calibrated weights" if settings.calibrate else "uncalibrated weights",
    ]
    kicker = '<p class="kicker">lossmith · study</p>'
    formula = f'<h1><code class="formula">{escape(search.loss)}</code></h1>'
    return f'<header>{kicker}{formula}<p class="facts">{escape(" · ".join(facts))}</p></header>'


def _findings_section(findings: Findings) -> str:
    sentences = "".join(f"<li>{escape(text)}</li>" for text in describe_findings(findings))
    return f'<section><h2>Results</h2><ul class="sentences">{sentences}</ul></section>'


def _front_section(findings: Findings) -> str:
    """Return plots of the first objective against each other one, beside the images of the trials."""
    first, *others = findings.objectives
    published, reason = findings.published_results()
    shown = [
        [result for result in published if {first.metric, other.metric} <= result.metrics.keys()] for other in others
    ]
    plots = "".join(
        plot_objectives(findings, first, other, results) for other, results in zip(others, shown, strict=True)
    )
    text = (
        "Further right and further up is better. A line joins the Pareto front, whose trials no other trial dominates. "
        "Hollow points violate a constraint. Move the pointer to a trial to see its images."
    )
    source = f" Published results: {published[0].source}." if any(shown) else f" {reason}" if reason else ""
    lead = f'<p class="lead">{escape(text + source)}</p>'
    body = f'<div class="beside"><div>{plots}</div>{trial_images(findings)}</div>'
    return f"<section><h2>Pareto front</h2>{lead}{body}</section>"


def _table_section(findings: Findings) -> str:
    """Return the trials on the Pareto front as a table; "" if there is none."""
    if not findings.front:
        return ""
    lead = "Each of these trials is optimal for some preference between the objectives."
    table = _trials_table(findings, findings.front)
    return f'<section><h2>Trials on the Pareto front</h2><p class="lead">{lead}</p>{table}</section>'


def _trials_table(findings: Findings, trials: Sequence[TrialResult]) -> str:
    """Return trials with their parameters and metrics."""
    infos = [metric_info(objective) for objective in findings.objectives]
    columns = ["trial", *findings.search.space, *(f"{m.name} {m.arrow}" for m in infos), "knee frequency", "run"]
    rows = []
    for trial in trials:
        cells = [str(value) for value in findings.search.literals(trial.params).values()]
        cells += [m.format(trial.metrics[m.key]) if m.key in trial.metrics else "\u2013" for m in infos]
        frequency = findings.knee_frequencies.get(trial.number)
        cells.append("" if frequency is None else f"{frequency:.0%}")
        cells.append(trial.run if trial.state == "complete" else trial.reason)
        name = f"{trial.number}{', knee' if trial is findings.knee else ''}"
        line = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr data-trial="{trial.number}"><th>{name}</th>{line}</tr>')
    return table_element(rows, head=columns)


def _importance_section(findings: Findings) -> str:
    """Return the importance of each free name; "" if it was not computed."""
    if not findings.importance:
        return ""
    names = list(findings.search.space)
    rows = (
        table_row(metric, [f"{values.get(name, 0):.0%}" for name in names])
        for metric, values in findings.importance.items()
    )
    lead = "How much each free name distinguishes the best trials of an objective (PED-ANOVA); rough for few trials."
    table = table_element(rows, head=["", *names])
    return f'<section><h2>Parameter importance</h2><p class="lead">{lead}</p>{table}</section>'


def _appendix(findings: Findings) -> str:
    """Return all trials, the protocol of the metrics, and the settings."""
    record = findings.search.to_record()
    protocol = table_element(table_row(key, [text]) for key, text in findings.protocol.items())
    settings = table_element(table_row(key, [str(value)]) for key, value in record.items())
    all_trials = f"<summary>All {len(findings.trials)} trials</summary>{_trials_table(findings, findings.trials)}"
    return (
        "<section><h2>Settings and notes</h2>"
        f"<details>{all_trials}</details>"
        f"<details><summary>Definitions of the metrics</summary>{protocol}</details>"
        f"<details><summary>Settings of the study</summary>{settings}</details></section>"
    )
