"""`lossmith knob`: commands about the knob of a trained network."""

import typer

from lossmith.cli import knob_sweep, knob_verify
from lossmith.cli.help_format import CommandApp

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    knob = CommandApp(no_args_is_help=True, help="Measure what the knob of a trained network does.")
    for command in (knob_sweep, knob_verify):
        command.register(knob)
    app.add_typer(knob, name="knob", rich_help_panel="Networks")
