"""The public names: sorted, complete, and with complete docstrings."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import lossmith
from lossmith import Lens, Loss, lenses, losses
from lossmith.parser.vocabulary import BUILTINS

PACKAGES = ["lossmith", "lossmith.losses", "lossmith.lenses"]
MEMBERS = [(module, name) for module in (losses, lenses) for name in module.__all__ if not name.endswith("Error")]
every_member = pytest.mark.parametrize(("module", "name"), MEMBERS, ids=[name for _, name in MEMBERS])


def sort_key(name: str) -> tuple[int, str]:
    """Return ruff's key: constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_sorted_and_unique(package):
    names = importlib.import_module(package).__all__
    assert names == sorted(set(names), key=sort_key)


def test_the_top_level_has_about_forty_names():
    assert 35 <= len(lossmith.__all__) <= 50


def test_a_top_level_loss_or_lens_is_that_of_its_subpackage():
    for module in (losses, lenses):
        for name in {*lossmith.__all__} & {*module.__all__}:
            assert getattr(lossmith, name) is getattr(module, name)


def test_a_formula_knows_the_names_that_are_not_at_the_top_level():
    for module in (losses, lenses):
        for name in module.__all__:
            assert name in BUILTINS or name.endswith("Error")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_exists(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        assert hasattr(module, name), name


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_every_loss_and_lens_of_a_file_is_public(package):
    face = importlib.import_module(package)
    classes = [getattr(face, name) for name in face.__all__ if inspect.isclass(getattr(face, name))]
    for module in pkgutil.iter_modules([str(Path(face.__file__).parent)]):
        found = importlib.import_module(f"{package}.{module.name}")
        for name, part in inspect.getmembers(found, inspect.isclass):
            if part.__module__ == found.__name__ and issubclass(part, Loss | Lens) and not name.startswith("_"):
                is_private_base = module.name.startswith("_") and any(issubclass(public, part) for public in classes)
                assert name in face.__all__ or is_private_base, f"{name} of {found.__name__}"


@every_member
def test_a_docstring_has_a_formula_an_example_and_every_argument(module, name):
    part = getattr(module, name)
    doc = inspect.getdoc(part) or ""
    summary = doc.split("\n\n")[0]
    assert summary.rstrip().endswith((".", ":")), "the summary is a sentence"
    assert ".. math::" in doc
    assert f">>> {name}(" in doc or f"{name}(" in doc.partition("Example:")[2]
    signature = inspect.signature(part.__init__ if inspect.isclass(part) else part)
    arguments = [p for p in signature.parameters.values() if p.name != "self" and p.kind is not p.VAR_KEYWORD]
    for argument in arguments:
        if argument.kind is not argument.VAR_POSITIONAL:
            assert f"    {argument.name}: " in doc.partition("Args:")[2], f"{name} does not describe {argument.name}"
    sections = [
        section for section in ("References:", "Args:", "Returns:", "Raises:", "Example:") if f"\n{section}\n" in doc
    ]
    assert [doc.index(f"\n{section}\n") for section in sections] == sorted(
        doc.index(f"\n{section}\n") for section in sections
    )


@every_member
def test_a_docstring_has_a_section_for_raised_errors(module, name):
    part = getattr(module, name)
    if "raise ValueError" in inspect.getsource(part.__init__ if inspect.isclass(part) else part):
        assert "Raises:" in (inspect.getdoc(part) or "")


@every_member
def test_options_after_the_second_are_keyword_only_except_distances_and_norms(module, name):
    part = getattr(module, name)
    signature = inspect.signature(part.__init__ if inspect.isclass(part) else part)
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= (3 if {"distance", "norm"} & set(positional) else 2)
