"""The help of every command: no text is lost as markup, and the examples of a task are valid commands of that task."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from rich.markup import render

from lossmith import parse
from lossmith.cli import app, main
from lossmith.tasks import TASKS


def commands(command: Any, name: str = "lossmith") -> Iterator[tuple[str, Any]]:
    """Yield a command and all commands below, with the words that call them."""
    yield name, command
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for word in command.list_commands(context):
            yield from commands(command.get_command(context, word), f"{name} {word}")


ALL = dict(commands(typer.main.get_command(app)))


def test_commands_are_found_at_all_levels():
    assert {"lossmith sample", "lossmith train text-to-image", "lossmith knob verify"} <= ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_no_bracket_in_a_help_text_is_taken_for_markup(name):
    command = ALL[name]
    texts = [command.help, command.epilog, *(getattr(parameter, "help", None) for parameter in command.params)]
    for text in filter(None, texts):
        shown = render(text).plain
        assert shown.count("[") == text.count("["), f"escape the bracket, \\\\[: {text}"


def test_text_in_brackets_is_shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", "denoising", "--help"]) == 0
    assert "a checkpoint to fine-tune [the task's]." in capsys.readouterr().out


@pytest.mark.parametrize("task", TASKS)
def test_an_example_of_a_task_gives_the_required_options_and_no_unknown_ones(task):
    command = ALL[f"lossmith train {task}"]
    lines = [line for line in command.epilog.splitlines() if line.startswith("  ")]
    assert lines
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["lossmith", "train", task]
        context = command.make_context(task, words[3:])  # raises for an invalid command line
        parse(context.params["loss"])


@pytest.mark.parametrize("task", ["text-to-image", "direct-text-to-image"])
def test_validation_data_of_captions_are_captioned_images(task):
    val = [parameter for parameter in ALL[f"lossmith train {task}"].params if parameter.name == "val"]
    assert [parameter.help.partition(" \\[")[0] for parameter in val] == ["Captioned validation images"]


def test_an_unknown_task_suggests_a_similar_one(capsys):
    assert main(["train", "denoisin"]) == 2
    assert "Did you mean 'denoising'?" in capsys.readouterr().err
