"""`--config`: the options of a command from a TOML file, or from the config.json of a run."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

from lossmith.cli.words import expand_home
from lossmith.train.settings import Settings

__all__ = ["use_config_file"]

TABLES = {"knobs": "knob", "model_options": "model_option", "optimizer_options": "optimizer_option"}
"""Keys of tables, and the repeatable options that they stand for."""
NOT_OPTIONS = {"config", "help"}


def use_config_file(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a file the defaults of the other options, as the callback of ``--config``.

    Raises:
        ValueError: The file cannot be read, is for another task, or has a key that is no option.
    """
    if path is not None and not context.resilient_parsing:
        known = {str(param.name) for param in context.command.params} - NOT_OPTIONS
        context.default_map = options_of(read_record(path), known, task=str(context.info_name), source=str(path))
    return path


def read_record(path: Path) -> dict[str, Any]:
    """Return the content of a TOML or JSON file, or of the config.json in a run folder.

    Raises:
        ValueError: There is no such file, or it cannot be parsed.
    """
    path = path / "config.json" if path.is_dir() else path
    try:
        text = path.read_text(encoding="utf-8")
        record = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"The --config {str(path)!r} cannot be read: {reason}.") from error
    if not isinstance(record, dict):
        raise ValueError(f"The --config {str(path)!r} must be a table of options; got a {type(record).__name__}.")
    return record


def options_of(record: Mapping[str, Any], known: set[str], *, task: str, source: str) -> dict[str, Any]:
    """Return the value of each option by its name.

    Args:
        record: The content of the file; keys are written with ``-`` or ``_``.
        known: The names of the options of the command.
        task: The name of the command's task.
        source: Name of the file in error messages.

    Raises:
        ValueError: The file is for another task, or has a key that is no option or has no value.

    Example:
        >>> record = {"steps": 100, "model": {"name": "edsr", "channels": 32}, "options": {"sigma": [5, 50]}}
        >>> options_of(record, {"steps", "model", "model_option", "sigma"}, task="denoising", source="run.toml")
        {'steps': 100, 'model': 'edsr', 'model_option': ['channels=32'], 'sigma': '5:50'}
    """
    if (other := record.get("task", task)) != task:
        raise ValueError(f"The --config {source!r} is for the task {other}; use lossmith train {other}.")
    is_run = "lossmith" in record  # the config.json of a run, which has settings that are no options, such as plugins
    settings = {field.name for field in fields(Settings)} | {"lossmith"} if is_run else set()
    options: dict[str, Any] = {}
    for written, value in _flatten(record):
        key = TABLES.get(name := written.replace("-", "_"), name)
        if name == "task" or value is None:
            continue
        if key not in known:
            if name in settings or (is_run and value is False):
                continue
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" The options are {', '.join(sorted(known))}."
            raise ValueError(f"The --config {source!r} has the key {written!r}, which is no option.{hint}")
        if value == "":
            raise ValueError(f"The --config {source!r} has no value for {written!r}; the working folder is '.'.")
        options[key] = _to_option(key, value)
    return options


def _flatten(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the keys and values of a record, with the network's arguments and the task's options as own keys."""
    pairs: list[tuple[str, Any]] = []
    for key, value in record.items():
        if key == "options" and isinstance(value, Mapping):
            pairs += value.items()
        elif key == "model" and isinstance(value, Mapping):
            arguments = {name: each for name, each in value.items() if name != "name"}
            pairs += [("model", value.get("name")), *([("model_options", arguments)] if arguments else [])]
        else:
            pairs.append((key, value))
    return pairs


def _to_option(name: str, value: Any) -> Any:
    """Return a value as a command line gives it: a table as ``name=value``, two numbers as a range."""
    if name == "milestones" and isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        return [f"{key}={_to_range(each) if name == 'knob' else _to_json(each)}" for key, each in value.items()]
    return _to_range(value)


def _to_json(value: Any) -> str:
    return expand_home(value) if isinstance(value, str) else json.dumps(value)


def _to_range(value: Any) -> Any:
    """Return two numbers as ``low:high``, and another value as it is, with its home folder for ``~``."""
    if isinstance(value, str):
        return expand_home(value)
    return ":".join(f"{number:g}" for number in value) if _is_range(value) else value


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(each) in (int, float) for each in value)
