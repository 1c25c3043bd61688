"""Command groups with one command per task, whose options are the annotated fields of dataclasses."""

import warnings
from collections.abc import Callable, Collection
from dataclasses import MISSING, fields, make_dataclass
from dataclasses import field as dataclass_field
from typing import Any

import typer

from lossmith.cli.help_format import CommandApp, HelpGroup
from lossmith.cli.options_command import OptionsCommand
from lossmith.tasks import TASKS, task_options
from lossmith.tasks.options import option_annotations
from lossmith.train.settings import DATA, MACHINE, NETWORK, OPTIMIZER, RUN, Settings

__all__ = ["build_command", "merge_options", "task_group", "task_settings"]

PANELS = ("Search", RUN, DATA, "Task", NETWORK, OPTIMIZER, MACHINE)
"""The panels of the help, in their order."""


def task_group(build: Callable[[str], Any]) -> type[HelpGroup]:
    """Return the class of a group whose commands are the tasks; a task is imported when its command is requested.

    Args:
        build: Returns the command of a task's name.
    """

    class TaskGroup(HelpGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.commands = dict.fromkeys(TASKS)  # type: ignore[assignment]  # the names, for suggestions

        def list_commands(self, ctx: Any) -> list[str]:
            working, broken = [], dict(TASKS.refused)
            for name in TASKS:
                try:
                    task_options(name)
                    working.append(name)
                except ValueError as error:
                    broken.setdefault(name, str(error))
            for reason in broken.values():
                warnings.warn(f"{reason} The other tasks are listed.", stacklevel=2)
            return working

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return build(cmd_name) if cmd_name in TASKS else None

    return TaskGroup


def merge_options(*sources: type, without: Collection[str] = (), execute: Callable[[Any], object]) -> type:
    """Return a dataclass with the options of several dataclasses.

    A field of a later class replaces the field of the same name: with an annotation the whole option, without one its
    default.

    Args:
        sources: The dataclasses. Fields without an annotation by :func:`lossmith.tasks.options.option` that replace no
            option are left out.
        without: Names of options that are left out.
        execute: The method ``execute`` of the dataclass.
    """
    merged: dict[str, tuple[Any, Any]] = {}
    for source in sources:
        annotations = option_annotations(source)
        for field in fields(source):
            if field.name in annotations or field.name in merged:
                annotation = annotations.get(field.name) or merged[field.name][0]
                merged[field.name] = annotation, field.default
    named = [(name, *each) for name, each in merged.items() if name not in without]
    named.sort(key=lambda each: (_panel_order(each[1]), each[2] is not MISSING))
    return make_dataclass(
        "Options",
        [(name, annotation, dataclass_field(default=default)) for name, annotation, default in named],
        kw_only=True,
        frozen=True,
        namespace={"execute": lambda options: execute(options)},
    )


def _panel_order(annotation: Any) -> int:
    panel = annotation.__metadata__[0].rich_help_panel
    return PANELS.index(panel) if panel in PANELS else len(PANELS)


def build_command(name: str, options: type, *, help: str, epilog: str) -> Any:
    """Return a command of a dataclass of options with a method ``execute``."""
    app = CommandApp()
    app.command(name, cls=OptionsCommand, help=help, epilog=epilog)(options)
    return typer.main.get_command(app)


def task_settings(name: str, options: Any) -> dict[str, Any]:
    """Return the settings of a task's own options among those of a merged dataclass."""
    kind, shared = task_options(name), option_annotations(Settings)
    settings = kind(**{field.name: getattr(options, field.name) for field in fields(kind)}).settings()
    own = {key: value for key, value in settings["options"].items() if key not in shared}
    return {**settings, "options": own}
