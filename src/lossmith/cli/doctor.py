"""`lossmith doctor`: checks of a loss before a training, or of all built-in losses on invalid inputs."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from lossmith._format import print_table, print_text
from lossmith.cli.common_options import AsJson, Device

if TYPE_CHECKING:
    from rich.console import Console

    from lossmith.doctor import DoctorReport
    from lossmith.doctor.edge_case_table import EdgeCaseTable

__all__ = ["register"]

EPILOG = """Example:

  lossmith doctor "L1 + 0.002*perceptual"
  lossmith doctor --all --json"""
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
SYMBOLS = {"finite": "·", "rejected": "r", "nan": "n", "unaffected": " ", "failed": "X"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", epilog=EPILOG, rich_help_panel="Formulas")(check_formula)


def check_formula(
    formula: Annotated[str | None, typer.Argument(help='Loss formula, such as "L1 + 0.002*perceptual".')] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Side of the test images in pixels \\[one that fits the loss].")
    ] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, help="Number of bands of the test images \\[3, or as many as a lens needs].")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Run every built-in loss on every edge case.")] = False,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="With --all: use pretrained networks instead of untrained ones.")
    ] = False,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> int:
    """Check a loss for problems before a training, and print a remedy for each problem.

    The exit status is 1 if the loss has an error, or if a cell of the table of edge cases is bad: a non-finite value
    without a clear error message.
    """
    from rich.console import Console

    from lossmith.device import resolve_device

    console = Console(soft_wrap=as_json)
    if every == (formula is not None):
        raise ValueError('lossmith doctor needs a formula, such as "L1 + 0.002*perceptual", or --all.')
    place = resolve_device(device)
    if every:
        from lossmith.doctor.edge_case_table import EdgeCaseTable, public_losses

        table = EdgeCaseTable.of(*public_losses(trained=pretrained), device=place)
        networks = "trained" if pretrained else "untrained"
        if as_json:
            print(json.dumps({"networks": networks, **table.as_dict()}))
        else:
            print_edge_cases(console, table, networks)
        return int(bool(table.failed))

    from lossmith import parse
    from lossmith.doctor import check

    loss = parse(formula or "")
    bands = channels or max(3, loss.min_channels)
    report = check(loss, shape=None if size is None else (2, bands, size, size), channels=bands, device=place)
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        print_findings(console, report)
    return int(bool(report.errors))


def print_findings(console: "Console", report: "DoctorReport") -> None:
    """Print one row per finding, errors first."""
    from rich.table import Table
    from rich.text import Text

    print_text(console, report.loss)
    if not report.findings:
        console.print("No problems found.")
        return
    table = Table("", "term", show_lines=True)
    for head in ("finding", "remedy"):
        table.add_column(head, max_width=60)
    for each in report.findings:
        severity = Text(each.severity, style=COLOURS[each.severity])
        table.add_row(severity, each.term or "all", each.message, each.suggestion)
    print_table(console, table)


def print_edge_cases(console: "Console", table: "EdgeCaseTable", networks: str) -> None:
    """Print one row per loss and one symbol per edge case, then the failed cells with their reasons."""
    counts = table.as_dict()
    cases = list(dict.fromkeys(cell.case for cell in table.cells))
    for i, case in enumerate(cases):
        print_text(console, "│ " * i + f"┌ {case}")
    rows: dict[str, str] = {}
    for cell in table.cells:
        rows[cell.loss] = rows.get(cell.loss, "") + SYMBOLS[cell.outcome] + " "
    for name, symbols in rows.items():
        print_text(console, f"{symbols}{name}")
    console.print(
        f"\n{counts['losses']} losses, {networks} networks, {counts['cases']} edge cases, {counts['cells']} cells: "
        f"· finite {counts['finite']}, r clear error {counts['rejected']}, n NaN in the affected image only "
        f"{counts['nan']}, X failed {counts['failed']}; blank if an edge case does not change the inputs of a loss.",
        highlight=False,
    )
    for cell in table.failed:
        print_text(console, f"{cell.loss} on {cell.case}: {cell.message}")
    for name, reason in table.skipped.items():
        print_text(console, f"Skipped {name}: {reason}")
