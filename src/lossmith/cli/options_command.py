"""Commands whose options are the fields of a dataclass."""

from typing import Any

from lossmith.cli.help_format import HelpCommand

__all__ = ["OptionsCommand"]


class OptionsCommand(HelpCommand):
    """A command that constructs a dataclass from its options and calls the method ``execute`` of the instance.

    Pass the class to :meth:`typer.Typer.command`:
    ``app.command("style", cls=OptionsCommand, help=HELP)(StyleOptions)``.
    """

    def invoke(self, ctx: Any) -> Any:
        """Construct the dataclass and execute it."""
        return super().invoke(ctx).execute()
