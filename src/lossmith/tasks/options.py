"""Options of the command line as annotated fields of dataclasses, so that an option is written once."""

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, get_origin, get_type_hints

import typer

__all__ = ["TaskOptions", "option", "option_annotations", "parse_number_or_range"]


def option(help: str, *flags: str, panel: str = "Task", **limits: Any) -> Any:
    """Return the annotation that makes a dataclass field an option of a command.

    Args:
        help: The help text.
        flags: The flags; by default the field's name with dashes.
        panel: The heading under which the help shows the option.
        limits: Further arguments of :func:`typer.Option`, such as ``min`` and ``max``.

    Example:
        >>> @dataclass
        ... class Noise:
        ...     sigma: Annotated[float, option("Standard deviation in 1/255.", min=0)] = 25.0
    """
    return typer.Option(*flags, help=help, rich_help_panel=panel, **limits)


def option_annotations(options: type) -> dict[str, Any]:
    """Return the annotations of the fields of a dataclass that are options, by field name."""
    hints = get_type_hints(options, include_extras=True)
    return {f.name: hints[f.name] for f in fields(options) if get_origin(hints[f.name]) is Annotated}


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """Base class of the options that a task adds to ``lossmith train`` and ``lossmith tune``.

    A field annotated with :func:`option` is an option of the task. A field with the name of a field of
    :class:`lossmith.train.Settings` is no argument of the task, but replaces the setting's default; with an annotation
    also its flags and help.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class DehazingOptions(TaskOptions):
        ...     help = "Train a network that removes haze."
        ...     density: Annotated[float, option("Optical density of the haze.", min=0)] = 0.5
        >>> DehazingOptions(density=0.7).settings()
        {'scale': 1, 'options': {'density': 0.7}}
    """

    help: ClassVar[str] = "Train a network."
    """The first sentence of the command's help."""

    examples: ClassVar[tuple[str, ...]] = ()
    """Arguments of example commands, shown below the help."""

    folders: ClassVar[tuple[str, ...]] = ()
    """The options that are folders of files, which a study stores as absolute paths."""

    def settings(self) -> dict[str, Any]:
        """Return the settings that the options stand for.

        The default passes every field that is not a setting to the task's constructor, at scale 1.

        Returns:
            ``scale``, ``options`` (the arguments of the task's constructor) and, if the task decides arguments of its
            network, ``model``.
        """
        return {"scale": 1, "options": {f.name: getattr(self, f.name) for f in fields(self)}}


def parse_number_or_range(flag: str, text: str) -> float | list[float]:
    """Return the number, or the two ends of the range, in the value of an option.

    Raises:
        ValueError: The text is neither a number nor ``low:high``.

    Example:
        >>> parse_number_or_range("--sigma", "25"), parse_number_or_range("--sigma", "5:50")
        (25.0, [5.0, 50.0])
    """
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ValueError(f"{flag} must be a number or a range such as 10:60; got {text!r}.")
    return numbers[0] if len(numbers) == 1 else numbers
