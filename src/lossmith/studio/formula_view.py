"""Tables and texts of the formula tab; every text of a user is escaped where it becomes HTML."""

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from lossmith._format import format_percent
from lossmith.doctor.explanation import PAIRS
from lossmith.parser import ExpressionError
from lossmith.studio.formula import GradientMeasurement

__all__ = [
    "FINDING_HEADS",
    "PASS_HEADS",
    "TERM_HEADS",
    "cost_html",
    "error_html",
    "finding_rows",
    "measurement_html",
    "pass_rows",
    "share_table",
    "summary_html",
    "term_rows",
]

TERM_HEADS = ["term", "weight", "reads", "range", "equal images", "noisy", "unrelated"]
PASS_HEADS = ["network", "input", "layers", "terms", "forward, GFLOP", "backward, GFLOP"]
FINDING_HEADS = ["severity", "term", "finding", "remedy"]
NO_FINDINGS = [["", "all", "No problems found.", ""]]


def summary_html(summary: Mapping[str, Any]) -> str:
    """Return the names of the terms and the knobs of a formula."""
    names, knobs = summary["names"], summary["knobs"]
    text = f"{len(names)} term{'s' * (len(names) != 1)}: {', '.join(names)}"
    text += f"; knob{'s' * (len(knobs) > 1)} {', '.join(knobs)}" if knobs else ""
    return f'<p class="formula-summary">{escape(text)}</p>'


def error_html(error: ValueError) -> str:
    """Return the reason of an error, and the formula with a caret at its position."""
    if not isinstance(error, ExpressionError) or not error.shown:
        return f'<p class="formula-error">{escape(str(error))}</p>'
    caret = f"{escape(error.shown)}\n{' ' * error.column}^"
    return f'<p class="formula-error">{escape(error.reason)}</p><pre class="formula-caret">{caret}</pre>'


def term_rows(explanation: Mapping[str, Any]) -> list[list[str]]:
    """Return one row for each term of :meth:`lossmith.doctor.FormulaExplanation.as_dict`."""
    rows = []
    for term in explanation["terms"]:
        values = ["no weights" if value is None else f"{value:.4g}" for value in term["values"].values()]
        cells = values or ["not of images"] * len(PAIRS)
        rows.append([term["name"], term["weight"], ", ".join(term["inputs"]), term["range"], *cells])
    return rows


def pass_rows(explanation: Mapping[str, Any]) -> list[list[str]]:
    """Return one row for each pass of a network."""
    return [
        [
            f"{row['network']} @ {row['preceding_lenses']}" if row["preceding_lenses"] else row["network"],
            row["input_name"],
            ", ".join(row["layers"]),
            ", ".join(row["terms"]),
            f"{row['forward_flops'] / 1e9:.1f}",
            f"{row['backward_flops'] / 1e9:.1f}",
        ]
        for row in explanation["passes"]
    ]


def cost_html(explanation: Mapping[str, Any]) -> str:
    """Return the cost of a step, the shares at made-up images, and the weights of the networks."""
    count, _, height, width = explanation["shape"]
    lines = [
        f"Cost of a step, {count} images of {height}x{width} px: {explanation['flops'] / 1e9:.1f} GFLOP in networks, "
        f"{explanation['saved_bytes'] / 1e6:.1f} MB saved for the backward pass, {explanation['peak_bytes'] / 1e6:.1f} "
        "MB at most, in float32 on a CPU."
    ]
    if explanation["mean_flops"] < explanation["flops"]:
        lines.append(f"On average over steps: {explanation['mean_flops'] / 1e9:.1f} GFLOP.")
    if shares := explanation["shares"]:
        parts = [f"{name} {format_percent(share)}" for name, share in shares.items() if share is not None]
        lines.append(f"At made-up images: {' : '.join(parts)} % of the gradient.")
    if explanation["shared"]:
        lines.append(f"One VGG-16 for all terms costs less: {explanation['shared']}")
    lines += [f"{name}: {_without_folder(where)}" for name, where in explanation["networks"].items()]
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _without_folder(where: str) -> str:
    """Return the place of a weight file without its folder, which is the server's business."""
    head, quote, path = where.partition(" in '")
    return f"{head} in {path.rstrip(chr(39)).replace(chr(92), '/').rsplit('/', 1)[-1]}" if quote else where


def share_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """Return the table of the bar chart; terms without a path to the output are left out."""
    shares = [(term["name"], round(100 * term["share"], 3)) for term in report["terms"] if term["share"] is not None]
    return pd.DataFrame(shares, columns=["term", "% of the gradient"])


def measurement_html(measurement: GradientMeasurement | None) -> str:
    """Return the shares, the formulas that follow from them, and the images that were left out."""
    if measurement is None:
        return "<p>Drop images on the left to measure the share of each term in the gradient.</p>"
    report = measurement.report
    lines = [f"{report['proportion']}, at {report['source']}, {report['num_images']} crops.", *report["notes"]]
    lines.append(
        "The images of the gradients are lighter where a step brightens the prediction, and darker where it darkens."
    )
    lines += [f"Not used: {reason}" for reason in measurement.skipped]
    formulas = {"As shares": report["shares"], "In units of equal gradient norms": report["rescaled"]}
    html = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return html + "".join(f"<p>{escape(name)}: <code>{escape(text)}</code></p>" for name, text in formulas.items())


def finding_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Return one row for each finding of the doctor."""
    keys = ("severity", "term", "message", "suggestion")
    return [[each[key] or "all" for key in keys] for each in report["findings"]] or NO_FINDINGS
