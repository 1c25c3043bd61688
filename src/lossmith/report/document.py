"""The page: everything that one or several runs left behind, in one HTML file that needs nothing else."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from lossmith.report import appendix, sections
from lossmith.report.comparison import comparison
from lossmith.report.figures import grouped
from lossmith.report.folder import distinct, read
from lossmith.report.images import collect, inline
from lossmith.report.warnings import noticed
from lossmith.tasks import TASKS

__all__ = ["page"]

BUDGET = 7_500_000  # bytes of pictures: with them the page stays under 8 MB, which mail and chat still carry


def page(runs: Sequence[Path], out: Path) -> Path:
    """Write one self-contained HTML page about one or several runs.

    It has the formulas and what was trained, the verdict in words and numbers, the pictures with a wipe, a loupe and a
    slider over the steps, the plane of accuracy and realism, the curves, and the plan and citations where the folders
    have them. Runs whose figures were taken in different ways (scale, validation folder, border) are never drawn in one
    plot: each protocol has its own part of the page. A run that is still training, or was killed, is shown as far as it
    got, and the page says what is missing.

    Args:
        runs: Run folders, as ``lossmith train`` writes them, one colour each, in this order.
        out: The file to write; its folder is made where it is missing.

    Returns:
        The file that was written.

    Raises:
        ValueError: If there is no run, a folder is no run, or `out` is a folder.
    """
    if not runs:
        raise ValueError("report wants at least one run folder; none was given. Name the --out of a training.")
    if out.is_dir():
        raise ValueError(f"report wants a file to write the page to; {str(out)!r} is a folder. Name a file in it.")
    members = distinct([read(Path(folder)) for folder in runs])
    groups = grouped(members)
    taken = [collect(group.runs) for group in groups]
    pictures, remarks = inline([picture for group in taken for picture in group], BUDGET)
    body = [sections.heading(members)]
    if len(groups) > 1:
        body.append(sections.apart(groups))
    for group in groups:
        if len(groups) > 1:
            body.append(f'<div class="part"><h2>{escape(group.protocol)}</h2></div>')
        body.append(sections.verdict_of(group, alone=len(groups) == 1))
        own = [picture for picture in pictures if any(shot.run in group.runs for shot in picture.shots)]
        body.append(comparison(group, own, remarks))
        body.append(sections.realism(group))
        body.append(sections.over_time(group))
        for task in dict.fromkeys(str(members[i].config.get("task")) for i in group.runs):
            body += TASKS[task].report_sections(group) if task in TASKS else []
        body.append(sections.terms(group))
        body.append(noticed(group))
    body += [appendix.plan(members), appendix.citations(members), appendix.details(members)]
    title = " · ".join(run.name for run in members)
    return bound(f"{title} \u00b7 lossmith", "\n".join(filter(None, body)), ("charts.js", "compare.js"), out)


def bound(title: str, body: str, scripts: Sequence[str], out: Path, styles: Sequence[str] = ()) -> Path:
    """Writes a page of the house's style, which needs nothing else.

    Args:
        title: Of the window.
        body: The sections.
        scripts: The package's files of scripts; no other may run, whatever a run's texts hold.
        out: The file to write.
        styles: Files of styles, after the house's own.

    Returns:
        The file that was written.
    """
    script = "\n".join(f"{{\n{_part(name)}}}" for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    text = Template(_part("page.html")).substitute(
        title=escape(title),
        css="\n".join(_part(name) for name in ("page.css", *styles)),
        body=body,
        script=script,
        script_hash=f"'sha256-{digest}'",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="\n")  # the hash above is that of these line ends
    partial.replace(out)  # a page that is being looked at is never half a page
    return out


def _part(name: str) -> str:
    return (files("lossmith.report") / name).read_text(encoding="utf-8")
