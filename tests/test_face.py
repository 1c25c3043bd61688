"""The public names: complete, sorted, and each with the docstring that the house asks for."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import lossmith
from lossmith import Lens, Loss, lenses, losses

PACKAGES = ["lossmith.losses", "lossmith.lenses"]
MEMBERS = [(room, name) for room in (losses, lenses) for name in room.__all__ if not name.endswith("Weights")]
every_member = pytest.mark.parametrize(("room", "name"), MEMBERS, ids=[name for _, name in MEMBERS])


def as_ruff_sorts(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_sorted_and_given_once(package):
    names = importlib.import_module(package).__all__
    assert names == sorted(set(names), key=as_ruff_sorts)


def test_the_front_door_has_every_loss_and_lens_and_nothing_twice():
    names = lossmith.__all__
    assert len(names) == len(set(names))
    assert set(names) >= {*losses.__all__, *lenses.__all__}


def test_every_name_is_there():
    for name in lossmith.__all__:
        assert hasattr(lossmith, name), name


@pytest.mark.parametrize("package", PACKAGES)
def test_every_loss_and_lens_of_a_file_is_public(package):
    rooms = importlib.import_module(package)
    for module in pkgutil.iter_modules([str(Path(rooms.__file__).parent)]):
        found = importlib.import_module(f"{package}.{module.name}")
        for name, part in inspect.getmembers(found, inspect.isclass):
            if part.__module__ == found.__name__ and issubclass(part, Loss | Lens) and not name.startswith("_"):
                assert name in rooms.__all__, f"{name} of {found.__name__}"


@every_member
def test_a_docstring_says_what_it_computes_and_what_it_takes(room, name):
    part = getattr(room, name)
    doc = inspect.getdoc(part) or ""
    summary = doc.split("\n\n")[0]
    assert summary.rstrip().endswith((".", ":")), "it begins with a sentence"
    assert ".. math::" in doc
    assert f">>> {name}(" in doc or f"{name}(" in doc.partition("Example:")[2]
    signature = inspect.signature(part.__init__ if inspect.isclass(part) else part)
    arguments = [p for p in signature.parameters.values() if p.name != "self" and p.kind is not p.VAR_KEYWORD]
    for argument in arguments:
        if argument.kind is not argument.VAR_POSITIONAL:
            assert f"    {argument.name}: " in doc.partition("Args:")[2], f"{name} says nothing of {argument.name}"
    sections = [
        section for section in ("References:", "Args:", "Returns:", "Raises:", "Example:") if f"\n{section}\n" in doc
    ]
    assert [doc.index(f"\n{section}\n") for section in sections] == sorted(
        doc.index(f"\n{section}\n") for section in sections
    )


@every_member
def test_what_can_be_raised_is_said(room, name):
    part = getattr(room, name)
    if "raise ValueError" in inspect.getsource(part.__init__ if inspect.isclass(part) else part):
        assert "Raises:" in (inspect.getdoc(part) or "")


@every_member
def test_options_past_the_second_are_keyword_only_but_layers_and_norms(room, name):
    part = getattr(room, name)
    signature = inspect.signature(part.__init__ if inspect.isclass(part) else part)
    places = [p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
    assert len(places) <= (3 if {"distance", "norm"} & set(places) else 2)
