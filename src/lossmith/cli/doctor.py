"""`lossmith doctor`: is this loss sound? And are all of ours, whatever they are given?"""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from lossmith.doctor import DoctorReport
    from lossmith.doctor.table import EdgeCaseTable

__all__ = ["register"]

EPILOG = """Example:

  lossmith doctor "L1 + 0.1*perceptual('vgg19', 'conv5_4')"
  lossmith doctor --all --json"""
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
SIGNS = {"finite": "·", "refused": "r", "marked": "n", "untouched": " ", "bad": "X"}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("doctor", epilog=EPILOG, rich_help_panel="Formulas")(doctor)


def doctor(
    formula: Annotated[str | None, typer.Argument(help='The loss, such as "L1 + 0.1*perceptual".')] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the pictures, px; by default one that fits.")] = None,
    every: Annotated[bool, typer.Option("--all", help="The hostile table: every loss on every bad input.")] = False,
    trained: Annotated[bool, typer.Option(help="With --all: networks with their weights, not untrained ones.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
) -> int:
    """Examines a loss before a training is spent on it: what is wrong, and the cure.

    Ends with status 1 if something speaks against training, or if a cell of the table is bad: no number, and no clear
    line either.
    """
    from rich.console import Console

    console = Console(soft_wrap=as_json)
    if every == (formula is not None):
        raise ValueError('lossmith doctor wants a formula, such as "L1 + 0.1*perceptual", or --all.')
    if every:
        from lossmith.doctor.table import EdgeCaseTable, public_losses

        table = EdgeCaseTable.of(*public_losses(trained=trained))
        if as_json:
            print(json.dumps({"networks": "trained" if trained else "untrained", **table.as_dict()}))
        else:
            drawn(console, table, trained=trained)
        return int(bool(table.bad))

    from lossmith import parse
    from lossmith.doctor import check

    report = check(parse(formula or ""), shape=None if size is None else (2, 3, size, size))
    if as_json:
        print(json.dumps(report.as_dict()))
    else:
        findings(console, report)
    return int(bool(report.errors))


def findings(console: "Console", report: "DoctorReport") -> None:
    """One row a finding, the worst first."""
    from rich.markup import escape
    from rich.table import Table

    console.print(report.loss, markup=False, highlight=False)
    if not report.findings:
        console.print("Sound: nothing was found.")
        return
    table = Table("", "term", "found", "cure", show_lines=True)
    for each in report.findings:
        sign = f"[{COLOURS[each.severity]}]{each.severity}[/]"
        table.add_row(sign, *(escape(text) for text in (each.term or "all", each.seen, each.cure)))
    console.print(table)


def drawn(console: "Console", table: "EdgeCaseTable", *, trained: bool) -> None:
    """One row a loss, one sign an input; then what is bad, in words."""
    figures = table.as_dict()
    inputs = list(dict.fromkeys(cell.given for cell in table.cells))
    for i, given in enumerate(inputs):
        console.print("│ " * i + f"┌ {given}", highlight=False, markup=False)
    rows: dict[str, str] = {}
    for cell in table.cells:
        rows[cell.loss] = rows.get(cell.loss, "") + SIGNS[cell.outcome] + " "
    for name, signs in rows.items():
        console.print(f"{signs}{name}", highlight=False, markup=False)
    console.print(
        f"\n{figures['losses']} losses, {'trained' if trained else 'untrained'} networks, {figures['inputs']} inputs, "
        f"{figures['cells']} cells: · finite {figures['finite']}, r refused {figures['refused']}, n the NaN shows "
        f"{figures['marked']}, X bad {figures['bad']}; blank where an input leaves a loss's views as they are.",
        highlight=False,
    )
    for cell in table.bad:
        console.print(f"{cell.loss} on {cell.given}: {cell.said}", highlight=False, markup=False)
    for name, why in table.skipped.items():
        console.print(f"Left out: {name}: {why}", highlight=False, markup=False)
