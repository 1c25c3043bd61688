"""The section on captions: what a network made of those that it was not trained on, for each weight of guidance."""

from collections.abc import Sequence
from html import escape
from typing import Any

from lossmith.report.groups import Group
from lossmith.text_to_image.report.caption_evaluations import (
    CaptionEvaluation,
    load_caption_evaluations,
    get_number,
    metric_label,
)
from lossmith.text_to_image.report.guidance_plot import plot_guidance

__all__ = ["guidance_section"]

COLUMNS = {
    "KID ↓": (("kid", "value"), 4),
    "Vendi score ↑": (("diversity", "vendi"), 2),
    "train/held → 1": (("memorisation", "ratio"), 2),
    "copies ↓": (("memorisation", "copies"), 3),
}
"""The columns after the shares: where each figure lies, and its digits."""


def guidance_section(group: Group) -> str:
    """Curve and table of each run that `lossmith evaluate --captions` has looked at; nothing if it has at none."""
    found = load_caption_evaluations(group)
    if not found:
        return ""
    drawn: dict[str, list[CaptionEvaluation]] = {}
    for member in found:
        if member.points:
            drawn.setdefault(member.protocol, []).append(member)
    curves = "".join(_format_curves(members) for members in drawn.values())
    if len(drawn) > 1:
        curves = f'<p class="lead">Figures that were taken in different ways are drawn apart.</p>{curves}'
    tables = "".join(_format_table(member, alone=len(found) == 1) for member in found)
    return f"<section><h2>Guidance</h2>{curves}{tables}{_reading(found)}</section>"


def _format_curves(members: Sequence[CaptionEvaluation]) -> str:
    """The plane, and how it is read."""
    one = members[0]
    words = (
        "Each point is a weight of guidance; a line joins them in the order of the weights. Further right, more "
        "pictures show what is asked for; further up, they are more like real ones."
    )
    if one.points[0].error or one.points[0].deviation:
        words += " The bars: a standard error to the sides, the deviation over subsets up and down."
    return f'<div class="beside">{plane(members)}<p class="lead">{escape(words)}</p></div>'


def _describe_best(member: CaptionEvaluation) -> list[str]:
    """The weights at which a run is best, where there is a choice."""
    if len(member.points) < 2:
        return []
    most, least = max(member.points, key=lambda p: p.aligned), min(member.points, key=lambda p: p.kid)
    judge = "R-precision" if member.aligned == "r_precision" else "The share that shows all of its caption"
    high, low = f"{most.aligned:.3f}", _format_number(least.kid, 4)
    return [f"{judge} is highest at guidance {most.weight:g} ({high}), and KID lowest at {least.weight:g} ({low})."]


def _format_table(member: CaptionEvaluation, *, alone: bool) -> str:
    """The figures of each weight, beside the best and the least that could be."""
    columns: list[tuple[str, tuple[str, ...], int]] = [(f"{called(name)} ↑", (name,), 3) for name in member.names]
    columns += [(name, keys, digits) for name, (keys, digits) in COLUMNS.items()]
    body = []
    for row in member.rows:
        weight = get_number(row, "guidance_section")
        body.append(_format_row("\u2013" if weight is None else f"{weight:g}", [_format_number(get_number(row, *k), d) for _, k, d in columns]))
    for line in ("ceiling", "chance"):
        if member.names:
            cells = [_format_number(member.at(line, name), 3) for name in member.names]
            body.append(_format_row(line, cells + [""] * len(COLUMNS)))
    floor = _format_number(member.at("floor", "value"), COLUMNS["KID ↓"][1])
    body.append(_format_row("real pictures", [""] * len(member.names) + [floor] + [""] * (len(COLUMNS) - 1)))
    head = "".join(f"<th>{escape(name)}</th>" for name in ["guidance_section", *(name for name, _, _ in columns)])
    lead = f"{member.record.get('n', 0)} pictures of captions that {member.run.name} was not trained on."
    lead += "".join(f" {remark}" for remark in [*_describe_best(member), *_describe_missing(member), *member.remarks])
    kind = "" if alone else f' class="c{member.colour % 8}"'
    table = f'<table class="score"><thead><tr>{head}</tr></thead><tbody{kind}>{"".join(body)}</tbody></table>'
    return f'<p class="lead">{escape(lead)}</p><div class="scroll">{table}</div>'


def _describe_missing(member: CaptionEvaluation) -> list[str]:
    """Why the curve is not there, or lacks a weight."""
    if member.aligned is None:
        cure = "lossmith evaluate RUN --captions DIR --judge FILE"
        return [f"No curve is drawn, because nobody judged whether they show their captions: {cure}."]
    if not member.given("kid", "value"):
        return ["No curve is drawn, because KID was not measured."]
    lost = [row for row in member.rows if not {get_number(row, "guidance_section")} <= {p.weight for p in member.points}]
    if not lost:
        return []
    which = ", ".join("\u2013" if (weight := get_number(row, "guidance_section")) is None else f"{weight:g}" for row in lost)
    return [f"Not in the curve, because not both axes were measured: guidance {which}."]


def _format_number(value: float | None, digits: int) -> str:
    return "\u2013" if value is None else f"{value:.{digits}f}".replace("-", "\u2212")


def _format_row(name: str, cells: Sequence[Any]) -> str:
    return f"<tr><th>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _explain_columns(found: Sequence[CaptionEvaluation]) -> str:
    """What the columns are."""
    words = (
        "KID: a distance from real pictures; that of two sets of real ones is the least that can be asked for. "
        "Vendi score: how many different pictures there are among those of one caption. "
    )
    if any(member.given("memorisation", key) for member in found for key in ("ratio", "copies")):
        words += (
            "train/held: the distance to the nearest picture that was trained on, over that to the nearest that was "
            "not; below 1 it is nearer to what it knows. copies: the share that lies as near to one as the nearest "
            "hundredth of these lie to each other; real pictures give 0.01."
        )
    return f'<p class="hint">{escape(words)}</p>'
