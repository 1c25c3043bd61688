"""The help of every command: no text is cut or lost as markup, and the examples of a task are valid commands."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

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


def shown_help(name, capsys, monkeypatch, columns=80):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([*name.split()[1:], "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ALL)
def test_a_help_of_80_columns_cuts_no_option_metavar_or_default(name, capsys, monkeypatch):
    shown = shown_help(name, capsys, monkeypatch)
    lines, epilog = shown.splitlines(), ALL[name].epilog or ""
    assert "…" not in shown
    assert all(len(line) <= 80 for line in lines if line.strip() and line.strip() not in epilog)
    words = " ".join(shown.split())
    for parameter in ALL[name].params:
        row, text = parameter.get_help_record(typer.Context(ALL[name]))
        assert row in shown
        for default in re.findall(r"default: [^;\]]*", text):
            assert default in words


@pytest.mark.parametrize("name", ALL)
def test_no_bracket_in_a_help_text_is_escaped_twice_or_lost(name, capsys, monkeypatch):
    shown = "".join(shown_help(name, capsys, monkeypatch).split())
    assert "\\" not in shown
    for parameter in ALL[name].params:
        assert "".join((parameter.help or "").replace("\\[", "[").split()) in shown


def test_options_are_grouped_by_panel_and_help_is_one_of_the_unnamed(capsys, monkeypatch):
    shown = shown_help("lossmith evaluate", capsys, monkeypatch)
    headings = re.findall(r"^(\w.*):$", shown, re.M)
    assert headings == ["Arguments", "Options", "Samples", "Text-to-image networks", "Examples"]
    assert shown.index("--device") < shown.index("-h, --help") < shown.index("Text-to-image networks:")


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
