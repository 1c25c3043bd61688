"""The report of one or several runs, as one self-contained HTML page."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from lossmith._files import write_text_atomically
from lossmith.report import appendix, sections
from lossmith.report.comparison import comparison_section
from lossmith.report.diagnostics import diagnostics_section
from lossmith.report.folder import read_run, unique_runs
from lossmith.report.groups import Group, group_runs
from lossmith.report.images import ImageComparison, collect_images, embed_images
from lossmith.tasks import TASKS

__all__ = ["write_document", "write_report"]

ASSETS = "lossmith.report"
"""The package of the page template and of the style sheets and scripts that all pages share."""
IMAGE_BUDGET = 7_500_000
"""The largest size of all images in bytes; the page then stays below 8 MB, which mail and chat programs accept."""


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    lead: str = "",
    scripts: Sequence[tuple[str, str]] = (),
    styles: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write one self-contained HTML page about one or several runs.

    The page has the formulas and settings, the results in words and numbers, the validation images with a wipe, a loupe
    and a slider over the steps, the perception-distortion trade-off, the curves, and the cost of a step and the
    citations if the folders record them. Runs that were validated under different protocols (scale, validation images,
    border) are never drawn in one plot: each protocol has its own part of the page. An unfinished run is shown up to
    its last step.

    Args:
        runs: Run folders of ``lossmith train``; their order decides their colours.
        out: The file to write; its folder is created.
        lead: A section to put before those of the runs.
        scripts: The scripts of that section, each as package and file name.
        styles: The style sheets of that section, likewise.

    Returns:
        The file that was written.

    Raises:
        ValueError: There is no run, a folder is not a run folder, or `out` is a folder.
    """
    if not runs:
        raise ValueError("runs must have at least one run folder; got none. Give the --out of a training run.")
    if out.is_dir():
        raise ValueError(
            f"out must be a file to write the page to; {str(out)!r} is a folder. Give a file in the folder."
        )
    members = unique_runs([read_run(Path(folder)) for folder in runs])
    groups = group_runs(members)
    collected = [comparison for group in groups for comparison in collect_images(group.runs)]
    comparisons, notes = embed_images(collected, IMAGE_BUDGET)
    body = [lead, sections.heading(members)]
    if len(groups) > 1:
        body.append(sections.protocol_note(groups))
    for group in groups:
        body += _group_sections(group, comparisons, notes, is_only=len(groups) == 1)
    body += [
        appendix.cost_section(members),
        appendix.citations_section(members),
        appendix.settings_section(members),
    ]
    title = " · ".join(run.name for run in members)
    scripts = [(ASSETS, "charts.js"), (ASSETS, "compare.js"), *scripts]
    body_text = "\n".join(filter(None, body))
    return write_document(f"{title} \u00b7 lossmith", body_text, out, scripts=scripts, styles=styles)


def _group_sections(
    group: Group, comparisons: Sequence[ImageComparison], notes: Sequence[str], *, is_only: bool
) -> list[str]:
    """Return the sections on the runs of one protocol."""
    own = [each for each in comparisons if any(variant.run in group.runs for variant in each.variants)]
    return [
        "" if is_only else f'<div class="part"><h2>{escape(group.protocol)}</h2></div>',
        sections.results_section(group, has_protocol=is_only),
        comparison_section(group, own, notes),
        sections.tradeoff_section(group),
        sections.validation_section(group),
        *(section for name in group.tasks for section in TASKS[name].report_sections(group)),
        sections.terms_section(group),
        diagnostics_section(group),
    ]


def write_document(
    title: str,
    body: str,
    out: Path,
    *,
    scripts: Sequence[tuple[str, str]],
    styles: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write a self-contained page from the page template.

    The content security policy of the page admits no script but the given ones, whatever the texts of a run contain.

    Args:
        title: The title of the browser window.
        body: The sections.
        out: The file to write.
        scripts: The scripts, each as package and file name.
        styles: Style sheets besides page.css and compare.css, likewise.

    Returns:
        The file that was written.
    """
    script = "\n".join(f"{{\n{_read_asset(*asset)}}}" for asset in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    text = Template(_read_asset(ASSETS, "page.html")).substitute(
        title=escape(title),
        css="\n".join(_read_asset(*asset) for asset in ((ASSETS, "page.css"), (ASSETS, "compare.css"), *styles)),
        body=body,
        script=script,
        script_hash=f"'sha256-{digest}'",
    )
    write_text_atomically(out, text)  # which keeps the line ends that the hash was computed of
    return out


def _read_asset(package: str, name: str) -> str:
    return (files(package) / name).read_text(encoding="utf-8")
