"""The part of some validation images as each trial restores them, for the report of a study."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from PIL import Image, ImageChops

from lossmith.report.images import UNREADABLE, encode_webp
from lossmith.tune.findings import Findings
from lossmith.tune.report.study_plot import metric_info
from lossmith.tune.trial import TrialResult

__all__ = ["trial_images"]

SIDE = 176
"""The side of the part that is shown, in pixels."""
MAX_IMAGES, MANY_TRIALS = 3, 40
"""The number of validation images shown, and the number of trials above which one image is shown."""


def trial_images(findings: Findings) -> str:
    """Return for some validation images the output of each trial, beside the baseline and the ground truth.

    The knee is shown first; study.js shows the trial nearest to the pointer.
    """
    trials = [trial for trial in findings.trials if trial.state == "complete"]
    selected = findings.knee or (trials[0] if trials else None)
    if selected is None:
        return '<p class="empty">No trial is complete yet.</p>'
    sheets = [findings.run_folder(trial) / "sheets" for trial in (findings.front or trials)]
    names = sorted(path.name for path in sheets[0].glob("*") if path.is_dir())
    rows = []
    for name in names[: MAX_IMAGES if len(trials) <= MANY_TRIALS else 1]:
        try:
            crop = _crop_at_difference([_open_output(each, name, selected.step) for each in (sheets[0], sheets[-1])])
            outputs = [
                _trial_figure(crop(image), trial, findings)
                for trial in trials
                if (image := _read_output(findings, trial, name))
            ]
            fixed = [
                _figure(crop(_open_rgb(file)), role)
                for role in (findings.baseline_name, "truth")
                if (file := sheets[0] / name / f"{role}.png").is_file()
            ]
        except UNREADABLE:
            continue
        rows.append(f'<div class="row">{fixed[0]}<div>{"".join(outputs)}</div>{"".join(fixed[1:])}</div>')
    return f'<div class="trial-images" data-first="{selected.number}"><p class="title"></p>{"".join(rows)}</div>'


def _read_output(findings: Findings, trial: TrialResult, name: str) -> Image.Image | None:
    """Return the output of a trial at its last step; None if it is not readable."""
    try:
        return _open_output(findings.run_folder(trial) / "sheets", name, trial.step)
    except UNREADABLE:
        return None


def _open_output(sheets: Path, name: str, step: int) -> Image.Image:
    return _open_rgb(sheets / name / f"step_{step:08d}.png")


def _open_rgb(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def _crop_at_difference(images: Sequence[Image.Image]) -> Callable[[Image.Image], Image.Image]:
    """Return a function that crops images to the part in which the first and the last given image differ most."""
    width, height = images[0].size
    difference = ImageChops.difference(images[0], images[-1]).convert("L")
    cells = difference.resize((9, 9), Image.Resampling.BOX).tobytes()
    row, column = divmod(cells.index(max(cells)), 9)
    left = min(max(0, round((column + 0.5) / 9 * width - SIDE / 2)), max(0, width - SIDE))
    top = min(max(0, round((row + 0.5) / 9 * height - SIDE / 2)), max(0, height - SIDE))
    return lambda image: image.crop((left, top, min(left + SIDE, width), min(top + SIDE, height)))


def _figure(image: Image.Image, name: str, attributes: str = "") -> str:
    uri = encode_webp(image, 92)
    return f'<figure{attributes}><img src="{uri}" alt="{escape(name)}"><figcaption>{escape(name)}</figcaption></figure>'


def _trial_figure(image: Image.Image, trial: TrialResult, findings: Findings) -> str:
    """Return the output of a trial, hidden unless the trial is the knee."""
    metrics = ", ".join(m.format(trial.metrics[m.key]) for m in map(metric_info, findings.objectives))
    title = escape(f"trial {trial.number}: {trial.loss} ({metrics})")
    hidden = "" if trial is findings.knee else " hidden"
    return _figure(image, f"trial {trial.number}", f' data-of="{trial.number}" data-title="{title}"{hidden}')
