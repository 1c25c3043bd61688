"""The tab that explains a formula and measures it on images: the page's parts and what happens when they are used."""

from collections.abc import Sequence
from threading import Thread
from typing import Any

import gradio as gr

from lossmith.data.formats.files import IMAGE_SUFFIXES
from lossmith.parser import Completion, complete
from lossmith.studio.errors import user_errors
from lossmith.studio.formula import describe_formula, examine_formula, measure_gradients
from lossmith.studio.formula_rules import MAX_CHARACTERS, summarize_formula
from lossmith.studio.formula_view import (
    FINDING_HEADS,
    PASS_HEADS,
    TERM_HEADS,
    cost_html,
    error_html,
    finding_rows,
    measurement_html,
    pass_rows,
    share_table,
    summary_html,
    term_rows,
)
from lossmith.studio.settings import StudioSettings
from lossmith.studio.worker import Worker

__all__ = ["FormulaTab", "build_formula_tab"]

EXAMPLE = "L1 + 0.002*perceptual"
INTRODUCTION = (
    "<p>Type a formula and press Examine: its terms, the cost of a step, and what the doctor finds. With images, also "
    "the share of each term in the gradient, and where in the image it acts.</p>"
)
TYPING_SECONDS = 10.0
"""The time limit of a check while the formula is typed."""
MAX_SUGGESTIONS = 8
FORMULA: dict[str, Any] = {"concurrency_id": "formula", "concurrency_limit": 1, "api_visibility": "private"}
"""Arguments of events that use the worker, which runs one computation at a time."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}


def build_formula_tab(settings: StudioSettings) -> "FormulaTab":
    """Create the parts of the tab inside the current block, with their events, and return the tab.

    Args:
        settings: The settings.
    """
    tab = FormulaTab(settings)
    tab.build()
    return tab


class FormulaTab:
    """The tab that explains a formula and measures it on images.

    Args:
        settings: The settings.
    """

    def __init__(self, settings: StudioSettings) -> None:
        self.settings = settings
        self.worker = Worker(memory_gb=settings.formula_memory_gb, is_offline=not settings.is_local)

    def build(self) -> None:
        """Create the parts of the tab inside the current block, with their events."""
        with gr.Row(equal_height=False, elem_classes="studio-row"):
            with gr.Column(scale=2, min_width=300):
                self._build_inputs()
            with gr.Column(scale=5, min_width=340):
                self._build_results()
        self._connect()
        Thread(target=self.worker.start, daemon=True).start()  # imports torch before the first formula is typed

    def _build_inputs(self) -> None:
        self.formula = gr.Textbox(
            EXAMPLE, label="Formula", lines=3, max_length=MAX_CHARACTERS, buttons=["copy"], elem_id="formula-text"
        )
        self.status = gr.HTML(elem_id="formula-status", apply_default_css=False)
        self.suggestions = gr.Dataset(
            components=[gr.Textbox(render=False)],
            samples=[],
            type="index",
            samples_per_page=MAX_SUGGESTIONS,
            label="Completions",
            visible=False,
            elem_id="formula-completions",
        )
        self.completions = gr.State([])
        self.typed = gr.State(EXAMPLE)
        self.images = gr.File(
            label="Images, on which the shares are measured",
            file_count="multiple",
            file_types=sorted(IMAGE_SUFFIXES),
            height=130,
            elem_id="formula-images",
        )
        self.scale = gr.Radio([2, 3, 4], value=4, label="Prediction: bicubic enlargement by")
        self.common = gr.Checkbox(False, label="One scale for the gradients of all terms")
        self.button = gr.Button("Examine", variant="primary", elem_id="formula-examine")

    def _build_results(self) -> None:
        table: dict[str, Any] = {"wrap": True, "interactive": False, "visible": False, "buttons": ["copy"]}
        self.terms = gr.Dataframe(headers=TERM_HEADS, label="Terms and their values", **table)
        self.cost = gr.HTML(INTRODUCTION, elem_id="formula-cost", apply_default_css=False)
        widths: list[str | int] = ["110px", "80px", "260px", "130px", "110px", "110px"]
        self.passes = gr.Dataframe(headers=PASS_HEADS, label="Network passes of a step", column_widths=widths, **table)
        self.shares = gr.BarPlot(
            x="term",
            y="% of the gradient",
            y_lim=[0, 100],
            height=260,
            label="Shares of the gradient on the images",
            visible=False,
            elem_id="formula-shares",
        )
        self.measured = gr.HTML(elem_id="formula-measured", apply_default_css=False)
        self.gradients = gr.Gallery(
            label="Gradient of each term",
            columns=3,
            height=None,
            object_fit="contain",
            format="png",
            buttons=["download", "fullscreen"],
            interactive=False,
            visible=False,
            elem_id="formula-gradients",
        )
        self.findings = gr.Dataframe(
            headers=FINDING_HEADS,
            label="Findings of the doctor",
            elem_id="formula-findings",
            column_widths=["100px", "120px", "330px", "290px"],
            **table,
        )
        with gr.Accordion("Copy as Python, a command, or a configuration of BasicSR", open=False):
            code: dict[str, Any] = {"interactive": False, "wrap_lines": True, "show_line_numbers": False}
            self.python = gr.Code(label="Python", language="python", lines=3, **code)
            self.command = gr.Code(label="Command", language="shell", lines=1, **code)
            self.basicsr = gr.Code(label="BasicSR", language="yaml", lines=3, **code)

    def _connect(self) -> None:
        typed = [self.formula, self.typed]
        offered = [self.suggestions, self.completions, self.typed]
        options: dict[str, Any] = {**QUIET, "concurrency_limit": None, "api_visibility": "private"}
        self.formula.input(self.suggest, typed, offered, **options)
        self.formula.input(self.check_typed, [self.formula], [self.status], **FORMULA, **QUIET)
        inserted = [self.formula, self.suggestions, self.typed]
        self.suggestions.click(self.insert, [self.suggestions, *typed, self.completions], inserted, **options).then(
            self.check_typed, [self.formula], [self.status], **FORMULA, **QUIET
        )
        described = [self.terms, self.cost, self.passes, self.python, self.command, self.basicsr]
        measured = [self.shares, self.measured, self.gradients]
        gr.on([self.button.click, self.formula.submit], self.describe, [self.formula], described, **FORMULA).success(
            self.measure, [self.formula, self.images, self.scale, self.common], measured, **FORMULA
        ).success(self.examine, [self.formula], [self.findings], **FORMULA)

    # Events

    def suggest(self, formula: str, before: str) -> list[Any]:
        """Offer completions at the place of the last change."""
        found = complete(formula, find_cursor(before, formula), limit=MAX_SUGGESTIONS)
        return [_show_completions(found), found, formula]

    def insert(self, index: int, formula: str, _before: str, found: Sequence[Completion]) -> list[Any]:
        """Insert a completion that was clicked."""
        text = found[index].apply(formula) if index < len(found) else formula
        return [text, _show_completions([]), text]

    def check_typed(self, formula: str) -> str:
        """Return the terms of the formula, or its error with a caret."""
        if not formula.strip():
            return ""
        try:
            return summary_html(self.worker.run(TYPING_SECONDS, summarize_formula, formula))
        except ValueError as error:
            return error_html(error)

    def describe(self, formula: str) -> list[Any]:
        """Explain the formula, and write it in other languages."""
        with user_errors():
            text = self.worker.run(self.settings.formula_seconds, describe_formula, formula)
        explanation = text.explanation
        passes = gr.Dataframe(pass_rows(explanation), visible=bool(explanation["passes"]))
        terms = gr.Dataframe(term_rows(explanation), visible=True)
        return [terms, cost_html(explanation), passes, text.python, text.command, text.basicsr]

    def measure(self, formula: str, files: Sequence[str] | None, scale: int, has_common_white: bool) -> list[Any]:
        """Measure the shares of the gradient on the images."""
        if not files:
            return [gr.BarPlot(visible=False), measurement_html(None), gr.Gallery(visible=False)]
        with user_errors():
            result = self.worker.run(
                self.settings.formula_seconds,
                measure_gradients,
                formula,
                list(files),
                scale=scale,
                has_common_white=has_common_white,
                max_megapixels=self.settings.max_megapixels,
                device="cpu",  # the memory limit does not suit the drivers of accelerators
            )
        shares = share_table(result.report)
        chart = gr.BarPlot(shares, sort=list(shares["term"]), visible=True)
        return [chart, measurement_html(result), gr.Gallery(result.images, visible=True)]

    def examine(self, formula: str) -> gr.Dataframe:
        """Return the findings of the doctor."""
        with user_errors():
            report = self.worker.run(self.settings.formula_seconds, examine_formula, formula)
        return gr.Dataframe(finding_rows(report), visible=True)


def find_cursor(before: str, after: str) -> int:
    """Return the position after the last change of a text, where the cursor is.

    Example:
        >>> find_cursor("L1 + TV", "L1 + SSTV")
        7
    """
    start = _common_length(before, after)
    return len(after) - _common_length(before[start:][::-1], after[start:][::-1])


def _common_length(one: str, other: str) -> int:
    """Return the number of characters that are equal at the beginning of two texts."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _show_completions(found: Sequence[Completion]) -> gr.Dataset:
    labels = [each.signature or each.text for each in found]
    return gr.Dataset(samples=[[each.text] for each in found], sample_labels=labels, visible=bool(found))
