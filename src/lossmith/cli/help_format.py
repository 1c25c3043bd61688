"""The help of all commands: one list of options per panel, wrapped to the terminal, with no name or default cut.

Typer's tables by rich shorten long option names at 80 columns.
"""

import re
import textwrap
from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from lossmith.cli.words import check_no_empty_words

__all__ = ["CommandApp", "HelpCommand", "HelpGroup"]

MAX_NAME = 24
"""Characters of the longest name that stands beside its text."""
NO_BREAK = "\x00"
"""A space at which no line breaks."""
OPTIONS, ARGUMENTS, COMMANDS = "Options", "Arguments", "Commands"
"""The panels of parameters and commands that name none."""
TEXTS = {"formula", "loss", "prompts"}
"""Arguments that are no paths: an empty prompt is allowed, and the parser explains an empty formula."""


def write_panels(formatter: Any, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write rows of panel, name and text, one list per panel; a long name is on a line of its own.

    Args:
        formatter: The formatter of click.
        rows: The panel, the name and the text of each row. Texts may escape brackets as in rich markup.
    """
    panels: dict[str, list[tuple[str, str]]] = {}
    for panel, name, text in rows:
        panels.setdefault(panel, []).append((name, text.replace("\\[", "[").replace("  [", " [")))
    for panel, panel_rows in panels.items():
        column = 4 + min(MAX_NAME, max(len(name) for name, _ in panel_rows))
        formatter.write(f"\n{panel}:\n")
        for name, text in panel_rows:
            lines = wrap_description(text, max(formatter.width - column, 20))
            head, indent = f"  {name}".ljust(column), "\n" + " " * column
            formatter.write((head if len(head) == column else head + indent) + indent.join(lines) + "\n")


def wrap_description(text: str, width: int) -> list[str]:
    """Return the lines of a text, without a break after a hyphen or inside a default that fits."""
    pattern = rf"default: [^;\]]{{,{width - 12}}}(?=[;\]])"
    joined = re.sub(pattern, lambda match: match[0].replace(" ", NO_BREAK), text)
    lines = textwrap.wrap(joined, width, break_on_hyphens=False, break_long_words=False)
    return [line.replace(NO_BREAK, " ") for line in lines]


class _PlainHelp:
    """A command whose parameters are listed by panel; the epilog keeps its lines, which are commands to copy."""

    def format_help(self: Any, ctx: Any, formatter: Any) -> None:
        """Write usage, help, parameters, commands and examples."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_options(ctx, formatter)
        self.format_epilog(ctx, formatter)

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options of each panel, those without a panel first, then the commands."""
        rows = []
        for parameter in self.get_params(ctx):  # --help is the last one
            if (record := parameter.get_help_record(ctx)) is not None:
                default = ARGUMENTS if parameter.param_type_name == "argument" else OPTIONS
                rows.append((getattr(parameter, "rich_help_panel", None) or default, *record))
        write_panels(formatter, sorted(rows, key=lambda row: row[0] != ARGUMENTS))
        if isinstance(self, TyperGroup):
            self.format_commands(ctx, formatter)

    def format_epilog(self: Any, ctx: Any, formatter: Any) -> None:
        """Write the epilog as it is."""
        if self.epilog:
            lines = re.sub(r"\n\n(?=  )", "\n", self.epilog.strip("\n"))
            formatter.write(f"\n{lines}\n")


class HelpCommand(_PlainHelp, TyperCommand):
    """A command with this help, without empty options and paths."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse empty values."""
        arguments = {parameter.name for parameter in self.params if parameter.param_type_name == "argument"}
        flags = {flag for parameter in self.params if parameter.name not in arguments for flag in parameter.opts}
        check_no_empty_words(ctx.info_name, args, flags, with_arguments=not TEXTS & arguments)
        return super().parse_args(ctx, args)


class HelpGroup(_PlainHelp, TyperGroup):
    """A group of commands with this help, which a call without a command prints."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Print the help if there is no command."""
        if not args and self.no_args_is_help:
            print(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def format_commands(self: Any, ctx: Any, formatter: Any) -> None:
        """Write the first paragraph of each command's help."""
        commands = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        rows = []
        for command in filter(None, commands):
            first = " ".join((command.help or "").partition("\n\n")[0].split())
            rows.append((command.rich_help_panel or COMMANDS, command.name, first))
        write_panels(formatter, rows)


class CommandApp(typer.Typer):
    """A typer application whose commands and groups have this help."""

    def __init__(self, *, cls: type[TyperGroup] = HelpGroup, **settings: Any) -> None:
        super().__init__(cls=cls, add_completion=False, rich_markup_mode=None, **settings)

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **settings: Any) -> Any:
        """Add a command; see :meth:`typer.Typer.command`."""
        return super().command(name, cls=cls or HelpCommand, **settings)
