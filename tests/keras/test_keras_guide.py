"""The code in docs/keras.md and in the docstrings of `lossmith.keras` runs as shown."""

import doctest
import importlib
import pkgutil
import re
import textwrap
from pathlib import Path

import keras
import pytest

import lossmith.keras

GUIDE = Path(__file__).parents[2] / "docs" / "keras.md"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="run once, on TensorFlow")


def run(kind: str, names: dict[str, object]) -> None:
    blocks = re.findall(rf"^```{kind}\n(.*?)^```", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for block in blocks:
        test = doctest.DocTestParser().get_doctest(textwrap.dedent(block), names, "keras.md", None, None)
        assert runner.run(test, clear_globs=False).failed == 0
        names.update(test.globs)


@tensorflow
def test_the_python_in_the_guide_runs():
    run("py", {})


@tensorflow
def test_the_mean_squared_error_of_tensorflow_is_l2():
    run("pycon", {})


@pytest.mark.parametrize("name", [each.name for each in pkgutil.iter_modules(lossmith.keras.__path__)])
def test_docstring_examples_run(name):
    assert doctest.testmod(importlib.import_module(f"lossmith.keras.{name}"), optionflags=FLAGS).failed == 0


def test_the_public_names_are_sorted_and_defined():
    assert (
        sorted(lossmith.keras.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n)) == lossmith.keras.__all__
    )
    assert all(hasattr(lossmith.keras, name) for name in lossmith.keras.__all__)
