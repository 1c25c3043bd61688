"""The report's section on guidance: metrics on held-out captions by guidance scale."""

from collections.abc import Sequence
from html import escape

from lossmith.report.groups import Group
from lossmith.report.table import table_element, table_row
from lossmith.text_to_image.report.caption_evaluations import (
    CaptionEvaluation,
    get_number,
    load_caption_evaluations,
    metric_label,
)
from lossmith.text_to_image.report.guidance_plot import plot_guidance

__all__ = ["guidance_section"]

DISTANCE_COLUMNS = {
    "KID ↓": (("kid", "value"), 4),
    "Vendi score ↑": (("diversity", "vendi"), 2),
    "train/held → 1": (("memorisation", "ratio"), 2),
    "copies ↓": (("memorisation", "copies"), 3),
}
"""The columns after the alignment metrics: head, keys in the record and digits."""
NO_VALUE, MINUS = "\u2013", "\u2212"


def guidance_section(group: Group) -> str:
    """Return the section with plots and tables of the runs that were evaluated on captions; "" without such runs."""
    evaluations = load_caption_evaluations(group)
    if not evaluations:
        return ""
    by_protocol: dict[str, list[CaptionEvaluation]] = {}
    for evaluation in evaluations:
        if evaluation.points:
            by_protocol.setdefault(evaluation.protocol, []).append(evaluation)
    plots = "".join(_format_plot(members) for members in by_protocol.values())
    if len(by_protocol) > 1:
        plots = f'<p class="lead">Evaluations with different protocols have separate plots.</p>{plots}'
    tables = "".join(_format_table(evaluation, is_alone=len(evaluations) == 1) for evaluation in evaluations)
    return f"<section><h2>Guidance</h2>{plots}{tables}{_explain_columns(evaluations)}</section>"


def _format_plot(evaluations: Sequence[CaptionEvaluation]) -> str:
    """Return the plot and its explanation."""
    first = evaluations[0].points[0]
    text = (
        "Each point is a guidance scale; lines connect the scales in increasing order. Points further to the right "
        "match their captions more often; points further up are more similar to real images."
    )
    if first.error or first.kid_std:
        text += " Horizontal bars are standard errors, vertical bars the standard deviation over subsets."
    return f'<div class="beside">{plot_guidance(evaluations)}<p class="lead">{escape(text)}</p></div>'


def _describe_best(evaluation: CaptionEvaluation) -> list[str]:
    """Return a sentence on the best guidance scales, if there are several scales."""
    if len(evaluation.points) < 2:
        return []
    aligned = max(evaluation.points, key=lambda point: point.alignment)
    similar = min(evaluation.points, key=lambda point: point.kid)
    is_judged = evaluation.alignment_metric == "r_precision"
    metric = "R-precision" if is_judged else "The fraction of images that match their caption"
    kid = _format_number(similar.kid, 4)
    return [
        f"{metric} is highest at guidance {aligned.scale:g} ({aligned.alignment:.3f}), and KID is lowest at "
        f"{similar.scale:g} ({kid})."
    ]


def _format_table(evaluation: CaptionEvaluation, *, is_alone: bool) -> str:
    """Return the table of the metrics by guidance scale, with their bounds, and the remarks."""
    columns: list[tuple[str, tuple[str, ...], int]] = [
        (f"{metric_label(name)} ↑", (name,), 3) for name in evaluation.metric_names
    ]
    columns += [(head, keys, digits) for head, (keys, digits) in DISTANCE_COLUMNS.items()]
    body = []
    for row in evaluation.rows:
        scale = get_number(row, "guidance")
        cells = [_format_number(get_number(row, *keys), digits) for _, keys, digits in columns]
        body.append(table_row(NO_VALUE if scale is None else f"{scale:g}", cells))
    names = evaluation.metric_names
    for line in ("ceiling", "chance"):
        if names:
            cells = [_format_number(evaluation.bound(line, name), 3) for name in names]
            body.append(table_row(line, cells + [""] * len(DISTANCE_COLUMNS)))
    floor = _format_number(evaluation.bound("floor", "value"), DISTANCE_COLUMNS["KID ↓"][1])
    body.append(table_row("real images", [""] * len(names) + [floor] + [""] * (len(DISTANCE_COLUMNS) - 1)))
    lead = f"{evaluation.record.get('n', 0)} images of captions that were held out from {evaluation.run.name}."
    remarks = [*_describe_best(evaluation), *_describe_missing(evaluation), *evaluation.remarks]
    lead += "".join(f" {remark}" for remark in remarks)
    head = ["guidance", *(name for name, _, _ in columns)]
    kind = "" if is_alone else f"c{evaluation.colour % 8}"
    return f'<p class="lead">{escape(lead)}</p>{table_element(body, head=head, kind="score", body_kind=kind)}'


def _describe_missing(evaluation: CaptionEvaluation) -> list[str]:
    """Return a sentence on a missing plot or on missing points."""
    if evaluation.alignment_metric is None:
        command = "lossmith evaluate RUN --captions DIR --judge FILE"
        return [f"There is no plot because alignment with the captions was not measured; run {command}."]
    if not evaluation.has_metric("kid", "value"):
        return ["There is no plot because KID was not measured."]
    plotted = {point.scale for point in evaluation.points}
    scales = [get_number(row, "guidance") for row in evaluation.rows]
    missing = [NO_VALUE if scale is None else f"{scale:g}" for scale in scales if scale not in plotted]
    if not missing:
        return []
    return [f"Scales without alignment or KID are not in the plot: guidance {', '.join(missing)}."]


def _format_number(value: float | None, digits: int) -> str:
    return NO_VALUE if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def _explain_columns(evaluations: Sequence[CaptionEvaluation]) -> str:
    """Return the explanation of the columns."""
    text = (
        "KID: kernel distance to real images; the distance between two sets of real images is its floor. Vendi score: "
        "effective number of distinct images per caption. "
    )
    if any(evaluation.has_metric("memorisation", key) for evaluation in evaluations for key in ("ratio", "copies")):
        text += (
            "train/held: distance to the nearest training image over the distance to the nearest held-out image; "
            "values below 1 indicate memorization. copies: fraction of samples as near to a training image as the "
            "nearest 1 % of training images are to each other; 0.01 for real images."
        )
    return f'<p class="hint">{escape(text)}</p>'
