"""`lossmith report`: one page from run folders."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

EPILOG = """Examples:

  lossmith report runs/x4

  lossmith report runs/pixel runs/perceptual --out both.html"""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("report", epilog=EPILOG, rich_help_panel="Networks")(report)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are shown side by side.")],
    out: Annotated[
        Path | None, typer.Option(help="The file to write [RUN/report.html; report.html here for several].")
    ] = None,
) -> None:
    """Write one HTML page, which needs nothing else, about one or several runs."""
    from lossmith.report import page
    from lossmith.tune.report import study_page

    out = out or (runs[0] / "report.html" if len(runs) == 1 else Path("report.html"))
    is_study = len(runs) == 1 and (runs[0] / "study.json").is_file()
    print(study_page(runs[0], out) if is_study else page(runs, out))
