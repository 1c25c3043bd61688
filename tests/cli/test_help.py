"""The help of every command: it says all that was written, and its examples are of its own task."""

import shlex
from collections.abc import Iterator

import click
import pytest
import typer
from rich.markup import render

from lossmith import parse
from lossmith.cli import app, main
from lossmith.cli.tasks import COMMANDS


def commands(command: click.Command, name: str = "lossmith") -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, by what is typed."""
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {word}")


ALL = dict(commands(typer.main.get_command(app)))


def test_commands_are_found_at_all_depths():
    assert {"lossmith sample", "lossmith train text-to-image", "lossmith knob verify"} <= ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_no_bracket_of_a_help_is_taken_for_markup(name):
    command = ALL[name]
    texts = [command.help, command.epilog, *(getattr(parameter, "help", None) for parameter in command.params)]
    for text in filter(None, texts):
        shown = render(text).plain
        assert shown.count("[") == text.count("["), f"escape the bracket, \\\\[: {text}"


def test_what_stands_in_brackets_is_shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", "denoising", "--help"]) == 0
    assert "a checkpoint to fine-tune [the task's]." in capsys.readouterr().out


@pytest.mark.parametrize("task", COMMANDS)
def test_an_example_of_a_task_gives_what_it_needs_and_nothing_that_it_does_not_know(task):
    command = ALL[f"lossmith train {task}"]
    lines = [line for line in command.epilog.splitlines() if line.startswith("  ")]
    assert lines
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["lossmith", "train", task]
        context = command.make_context(task, words[3:])  # which refuses a line that cannot be
        parse(context.params["loss"])


@pytest.mark.parametrize("task", ["text-to-image", "direct-text-to-image"])
def test_captions_are_judged_by_captions(task):
    val = [parameter for parameter in ALL[f"lossmith train {task}"].params if parameter.name == "val"]
    assert [parameter.help.partition(" to judge by")[0] for parameter in val] == ["Captioned pictures"]
