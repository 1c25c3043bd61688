"""`lossmith report`: one HTML page about runs or a study."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

EPILOG = """Examples:

  lossmith report runs/x4

  lossmith report runs/pixel runs/perceptual --out both.html"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", epilog=EPILOG, rich_help_panel="Networks")(report_runs)


def report_runs(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, compared side by side, or one study folder.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write \\[RUN/report.html; for several runs ./report.html].")
    ] = None,
) -> None:
    """Write one self-contained HTML page about one or several runs, or about a study."""
    from lossmith.report import write_report
    from lossmith.tune.findings import is_study
    from lossmith.tune.report import write_study_report

    out = out or (runs[0] / "report.html" if len(runs) == 1 else Path("report.html"))
    print(write_study_report(runs[0], out) if len(runs) == 1 and is_study(runs[0]) else write_report(runs, out))
