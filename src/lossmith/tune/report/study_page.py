"""The page of a study: the plane with its front, pictures of each trial beside it, and what was found in words."""

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from PIL import Image, ImageChops

from lossmith._format import format_duration
from lossmith.report.document import write_document
from lossmith.report.groups import path_tail
from lossmith.report.images import UNREADABLE
from lossmith.tune.findings import Findings, read_findings
from lossmith.tune.report.study_plot import metric_of, plane
from lossmith.tune.summary import describe_findings
from lossmith.tune.trial import TrialResult

__all__ = ["write_study_report"]

SIDE = 176  # pixels of the part of a picture that is shown
FEW, MANY = 3, 40  # pictures of each trial; with more trials than that, one


def write_study_report(folder: Path, out: Path) -> Path:
    """Writes the page of a study, which needs nothing else.

    Args:
        folder: The study's folder.
        out: The file to write.

    Returns:
        The file that was written.

    Raises:
        ValueError: The folder holds no study.
    """
    found = read_findings(folder)
    body = [heading(found), verdict(found), planes(found), front(found), importance(found), everything(found)]
    return write_document(
        f"{folder.resolve().name} · lossmith",
        "\n".join(filter(None, body)),
        ("charts.js", "study.js"),
        out,
        ("study.css",),
    )


def heading(found: Findings) -> str:
    """The formula, and what was asked."""
    search = found.search
    settings = search.settings(search.middle)
    ranges = [f"{name} from {low:g} to {high:g}" for name, (low, high) in search.record["ranges"].items()]
    ranges += [f"{name} of {', '.join(texts)}" for name, texts in search.record["choices"].items()]
    took = format_duration(sum(trial.seconds for trial in found.trials))
    facts = [
        f"{settings.task} \u00d7{settings.scale}",
        str(settings.model["name"]).split("/")[-1],
        f"{len(found.trials)} trials of {search.steps} steps, {took} of training",
        f"trained on {tail(search.images)}",
        f"judged on {found.judges} pictures of {tail(search.val)}",
        *ranges,
        "weights in units of equal gradient norms" if settings.calibrate else "weights as written",
    ]
    kicker = '<p class="kicker">lossmith · study</p>'
    formula = f'<h1><code class="formula">{escape(search.loss)}</code></h1>'
    return f'<header>{kicker}{formula}<p class="facts">{escape(" · ".join(facts))}</p></header>'


def verdict(found: Findings) -> str:
    """What was found, in sentences."""
    sentences = "".join(f"<li>{escape(text)}</li>" for text in describe_findings(found))
    return f'<section><h2>What came of it</h2><ul class="sentences">{sentences}</ul></section>'


def front(found: Findings) -> str:
    """The trials that no other beats, as a table."""
    lead = "Any of these is a fair choice; what it costs on one axis it brings on another."
    rows = f'<div class="scroll">{table(found, found.front)}</div>' if found.front else ""
    return f'<section><h2>The front</h2><p class="lead">{lead}</p>{rows}</section>' if rows else ""


def table(found: Findings, trials: Sequence[TrialResult]) -> str:
    """Trials with what they drew and their figures."""
    metrics = [metric_of(axis) for axis in found.axes]
    heads = ["trial", *found.search.space, *(f"{m.name} {m.arrow}" for m in metrics), "knee in", "run"]
    rows = []
    for trial in trials:
        cells = [str(value) for value in found.search.values(trial.drawn).values()]
        cells += [m.write(trial.figures[m.key]) if m.key in trial.figures else "\u2013" for m in metrics]
        share = found.shares.get(trial.number)
        cells += ["" if share is None else f"{share:.0%}", trial.run if trial.state == "complete" else trial.why]
        remark = f"{trial.number}{', knee' if trial is found.knee else ''}"
        line = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr data-trial="{trial.number}"><th>{remark}</th>{line}</tr>')
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def planes(found: Findings) -> str:
    """The first axis against each of the others, and the pictures."""
    first, *others = found.axes
    published, why = found.anchors
    beside = [[a for a in published if {first.metric, other.metric} <= a.figures.keys()] for other in others]
    drawings = "".join(plane(found, first, other, those) for other, those in zip(others, beside, strict=True))
    words = (
        "Further right and further up is better. The front is joined by a line: no trial beats one of these on all "
        "figures. Hollow points are below a floor. Point at a trial to see its pictures."
    )
    source = f" Published figures: {published[0].source}." if any(beside) else f" {why}" if why else ""
    lead = f'<p class="lead">{escape(words + source)}</p>'
    return f'<section><h2>The plane</h2>{lead}<div class="beside"><div>{drawings}</div>{shelf(found)}</div></section>'


def shelf(found: Findings) -> str:
    """Parts of some pictures as each trial restores them, beside the baseline and the truth."""
    trials = [trial for trial in found.trials if trial.state == "complete"]
    chosen = found.knee or (trials[0] if trials else None)
    if chosen is None:
        return '<p class="empty">No trial has come to its end yet.</p>'
    ends = [found.place(trial) / "sheets" for trial in (found.front or trials)]
    names = sorted(path.name for path in ends[0].glob("*") if path.is_dir())
    rows = []
    for name in names[: FEW if len(trials) <= MANY else 1]:
        try:
            cut = where([sheet(place, name, chosen.step) for place in (ends[0], ends[-1])])
            shots = [shot(cut(image), trial, found) for trial in trials if (image := taken(found, trial, name))]
            fixed = [
                shown(cut(opened(ends[0] / name / f"{role}.png")), role)
                for role in (found.baseline, "truth")
                if (ends[0] / name / f"{role}.png").is_file()
            ]
        except UNREADABLE:
            continue
        rows.append(f'<div class="row">{fixed[0]}<div>{"".join(shots)}</div>{"".join(fixed[1:])}</div>')
    return f'<div class="shelf" data-first="{chosen.number}"><p class="shown"></p>{"".join(rows)}</div>'


def taken(found: Findings, trial: TrialResult, name: str) -> Image.Image | None:
    """A picture as a trial restores it; None where it is not readable."""
    try:
        return sheet(found.place(trial) / "sheets", name, trial.step)
    except UNREADABLE:
        return None


def sheet(sheets: Path, name: str, step: int) -> Image.Image:
    """A picture of a run at a step."""
    return opened(sheets / name / f"step_{step:08d}.png")


def opened(file: Path) -> Image.Image:
    """A picture of a file."""
    with Image.open(file) as image:
        return image.convert("RGB")


def where(images: Sequence[Image.Image]) -> Callable[[Image.Image], Image.Image]:
    """What cuts out the part in which the first picture differs most from the last: what the choice is about."""
    width, height = images[0].size
    change = ImageChops.difference(images[0], images[-1]).convert("L")
    cells = change.resize((9, 9), Image.Resampling.BOX).tobytes()
    down, across = divmod(cells.index(max(cells)), 9)
    left = min(max(0, round((across + 0.5) / 9 * width - SIDE / 2)), max(0, width - SIDE))
    top = min(max(0, round((down + 0.5) / 9 * height - SIDE / 2)), max(0, height - SIDE))
    return lambda image: image.crop((left, top, min(left + SIDE, width), min(top + SIDE, height)))


def shown(image: Image.Image, name: str, attributes: str = "") -> str:
    """A picture with its name."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=92, method=4)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<figure{attributes}><img src="{uri}" alt="{escape(name)}"><figcaption>{escape(name)}</figcaption></figure>'


def shot(image: Image.Image, trial: TrialResult, found: Findings) -> str:
    """A picture of a trial, hidden unless the trial is the knee or the script says otherwise."""
    figures = ", ".join(m.write(trial.figures[m.key]) for m in map(metric_of, found.axes))
    words = f"trial {trial.number}: {trial.loss} ({figures})"
    hidden = "" if trial is found.knee else " hidden"
    return shown(image, f"trial {trial.number}", f' data-of="{trial.number}" data-words="{escape(words)}"{hidden}')


def importance(found: Findings) -> str:
    """How much each free name decides."""
    if not found.importance:
        return ""
    names = list(found.search.space)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><th>{escape(metric)}</th>{''.join(f'<td>{shares.get(name, 0):.0%}</td>' for name in names)}</tr>"
        for metric, shares in found.importance.items()
    )
    words = "What sets the good trials of each figure apart from the others (PED-ANOVA). With few trials it is rough."
    return (
        f'<section><h2>What decides</h2><p class="lead">{words}</p><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></section>"
    )


def everything(found: Findings) -> str:
    """All trials, how the figures were taken, and the settings."""
    protocol = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in found.protocol.items())
    asked = "".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in found.search.record.items())
    return (
        f"<section><h2>Settings and remarks</h2>"
        f"<details><summary>All {len(found.trials)} trials</summary>{table(found, found.trials)}</details>"
        f"<details><summary>How the figures were taken</summary><table>{protocol}</table></details>"
        f"<details><summary>What was asked</summary><table>{asked}</table></details></section>"
    )
