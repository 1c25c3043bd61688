"""Command groups with one command per task, whose options are the annotated fields of dataclasses."""

from collections.abc import Callable, Collection
from dataclasses import MISSING, fields, make_dataclass
from dataclasses import field as dataclass_field
from typing import Any

import typer
from typer.core import TyperGroup

from lossmith.tasks import TASKS
from lossmith.tasks.options import TaskOptions, option_annotations
from lossmith.train.settings import DATA, MACHINE, NETWORK, OPTIMIZER, RUN

__all__ = ["merge_options", "options_command", "task_group", "task_options"]

PANELS = ("Search", RUN, DATA, "Task", NETWORK, OPTIMIZER, MACHINE)
"""The panels of the help, in their order."""


def task_group(build_command: Callable[[str], Any]) -> type[TyperGroup]:
    """Return the class of a group whose commands are the tasks; a task is imported when its command is requested.

    Args:
        build_command: Returns the command of a task's name.
    """

    class TaskGroup(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.commands = dict.fromkeys(TASKS)  # type: ignore[assignment]  # the names, for suggestions

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            return build_command(cmd_name) if cmd_name in TASKS else None

    return TaskGroup


def merge_options(*sources: type, without: Collection[str] = ()) -> type:
    """Return a dataclass with the options of several dataclasses.

    A field of a later class replaces the field of the same name: with an annotation the whole option, without one its
    default.

    Args:
        sources: The dataclasses. Fields without an annotation by :func:`lossmith.tasks.options.option` that replace no
            option are left out.
        without: Names of options that are left out.
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
    )


def _panel_order(annotation: Any) -> int:
    panel = annotation.__metadata__[0].rich_help_panel
    return PANELS.index(panel) if panel in PANELS else len(PANELS)


def options_command(options: type, run: Callable[[Any], object], *, name: str, help: str, epilog: str) -> Any:
    """Return a command whose options are the fields of a dataclass.

    Args:
        options: The dataclass.
        run: Called with an instance of the dataclass.
        name: The command's name.
        help: The help text.
        epilog: The text below the options.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command(name, help=help, epilog=epilog)(options)
    command = typer.main.get_command(app)
    construct = command.callback
    assert construct is not None
    command.callback = lambda **values: run(construct(**values))
    return command


def task_options(name: str, options: Any) -> TaskOptions:
    """Return the options of a task among those of a merged dataclass."""
    kind = TASKS[name].options
    return kind(**{field.name: getattr(options, field.name) for field in fields(kind)})
