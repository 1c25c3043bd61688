"""Commands whose options are the fields of a dataclass, and the line breaks of help texts."""

import inspect
import re
from typing import Any

import typer
from typer.core import TyperCommand

__all__ = ["OptionsCommand", "join_help_lines"]


class OptionsCommand(TyperCommand):
    """A command that constructs a dataclass from its options and calls the method ``execute`` of the instance.

    Pass the class to :meth:`typer.Typer.command`:
    ``app.command("style", cls=OptionsCommand, help=HELP)(StyleOptions)``.
    """

    def invoke(self, ctx: Any) -> Any:
        """Construct the dataclass and execute it."""
        return super().invoke(ctx).execute()


def join_help_lines(app: typer.Typer) -> None:
    """Join the lines of each paragraph in the help of all commands, since the help is wrapped to the terminal."""
    for command in app.registered_commands:
        text = command.help or inspect.getdoc(command.callback) or ""
        command.help = re.sub(r"(?<!\n)\n(?!\n)", " ", text)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            join_help_lines(group.typer_instance)
