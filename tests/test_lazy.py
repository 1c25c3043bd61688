"""Names that are imported on first use: help and version without torch, and packages that look like eager ones."""

import ast
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import lossmith
from lossmith import L1

PACKAGES = ["lossmith", "lossmith.tasks", "lossmith.train", "lossmith.style_transfer", "lossmith.text_to_image"]

EVERY_HELP = """
import contextlib, io, sys, typer
from lossmith.cli import app, main

def lines(command, words):
    yield words
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for word in command.list_commands(context):
            yield from lines(command.get_command(context, word), [*words, word])

for words in [["--version"], *([*words, "--help"] for words in lines(typer.main.get_command(app), []))]:
    with contextlib.redirect_stdout(io.StringIO()):
        status = main(words)
    assert status == 0 and "torch" not in sys.modules, words
    print(*words)
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_help_and_no_version_imports_torch():
    shown = run(EVERY_HELP).splitlines()
    assert {"--version", "--help", "evaluate --help", "train --help", "tune style --help"} <= {*shown}


def test_the_package_and_its_settings_are_imported_without_torch():
    run("import sys, lossmith, lossmith.tasks, lossmith.train.settings; assert 'torch' not in sys.modules")


def imports_for_type_checkers(package: str) -> dict[str, str]:
    """Return the module of each name that a package imports under TYPE_CHECKING."""
    tree = ast.parse(Path(importlib.import_module(package).__file__).read_text("utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return {alias.name: node.module for block in blocks for node in block.body for alias in node.names}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_lazy_package_has_the_names_that_type_checkers_see(name):
    package = importlib.import_module(name)
    found = imports_for_type_checkers(name)
    for attribute, module in found.items():
        assert getattr(package, attribute) is getattr(importlib.import_module(module), attribute)
    assert {*package.__all__} <= {*dir(package)}
    assert {*found} <= {*package.__all__}
    assert all(hasattr(package, attribute) for attribute in package.__all__)


@pytest.mark.parametrize("name", PACKAGES)
def test_no_name_of_a_lazy_package_is_that_of_a_module(name):
    package = importlib.import_module(name)
    modules = {path.stem for path in Path(package.__file__).parent.iterdir()}
    assert not modules & {*package.__all__}


def test_an_unknown_name_raises_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'lossmith' has no attribute 'L3'"):
        lossmith.L3  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'L3'"):
        from lossmith import L3  # noqa: F401


def test_subpackages_are_attributes_after_the_import_of_the_package():
    run("import lossmith; lossmith.losses.L1; lossmith.lenses.VGG; lossmith.formula.weight.Knob; lossmith.image.to_pil")


def test_a_loss_survives_pickling():
    assert repr(pickle.loads(pickle.dumps(L1()))) == "L1()"


def test_the_declared_options_of_a_task_are_its_options():
    from lossmith.tasks import TASK_OPTIONS, TASKS, task_options

    assert {*TASK_OPTIONS} <= {*TASKS}
    for name, task in TASKS.items():
        assert task_options(name) is task.options


def test_the_choices_of_text_to_image_are_those_of_noise_levels():
    from typing import get_args

    from lossmith.noise_levels import NoiseScheduleName, PredictionType
    from lossmith.tasks import task_options
    from lossmith.tasks.options import option_annotations

    annotations = option_annotations(task_options("text-to-image"))
    for name, choices in (("prediction", PredictionType), ("noise_schedule", NoiseScheduleName)):
        assert get_args(get_args(annotations[name])[0]) == get_args(choices)
