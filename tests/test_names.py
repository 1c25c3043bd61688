"""Names and words: one name has one meaning, the field's terms are used, summary lines follow one rule."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

import lossmith

ROOT = Path(lossmith.__file__).parent
REPOSITORY = Path(__file__).parents[1]
SOURCES = sorted(ROOT.rglob("*.py"))
EVERYWHERE = [*SOURCES, *(p for d in ("tests", "experiments", "bench") for p in (REPOSITORY / d).rglob("*.py"))]

SAME_ON_PURPOSE = {"register", "lpips", "dists"}
"""The function that each command's file defines for the command line; builders of losses, and metrics as functions."""

RETIRED = {
    *("Looks", "Pull", "Guard", "Post", "Quarantine", "Meter", "Foreign", "MOODY", "Learner", "Patient", "Spoilt"),
    *("SpoiltPictures", "Material", "Rival", "Judged", "Presence", "Telling", "Brush", "Moment", "Painted", "Percent"),
    *("Card", "Partner", "Stylist", "Quantised", "Knobbed", "MixedEnds", "Levels", "Pictures", "OwnCrops", "OwnPairs"),
    *(
        "settled",
        "_Settled",
        "banded",
        "worth_it",
        "sound",
        "mended",
        "bare",
        "frugal",
        "studying",
        "awake",
        "unhalved",
    ),
    *("at_liberty", "laid_out", "pack_on", "keep_on", "spoilt", "spelled", "stillborn", "revive", "pulls", "weigh"),
    *("kin", "hardness", "barred", "lonely", "crowd", "leans", "dies", "drifts", "remembers", "rivals", "anchors"),
    *("picture", "pictures", "views", "critic", "critics", "deaf", "NotFinite", "painting", "paint"),
}
"""Identifiers of the first versions that other terms have replaced (docs/terms.md, CHANGELOG.md)."""
STUDIO = {"src/lossmith/studio/image_tab.py", "src/lossmith/studio/session.py", "tests/studio/test_session.py"}
EXEMPT = {
    "critic": {"src/lossmith/losses/discriminator_objectives.py"},
    "Brush": STUDIO,
    "paint": STUDIO,
    "painting": STUDIO,
}
"""Files in which a retired identifier is the term of a paper, or of what the user does."""
ABBREVIATED_QUESTIONS = ("What ", "Whether ", "How ", "Where ", "Who ", "Whoever ", "Which ", "Why ", "When ")
"""First words of a summary line that make a riddle of it; predicates and properties may begin with "Whether"."""


def definitions(path: Path) -> list[str]:
    """Return the public classes and functions that a file defines at its top level."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [n.name for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, kinds)]
    return [name for name in names if not name.startswith("_")]


def test_no_public_class_or_function_is_defined_twice():
    where = defaultdict(list)
    for path in SOURCES:
        if "keras" not in path.parts:  # which gives the same formulas for another library, under the same names
            for name in definitions(path):
                where[name].append(str(path.relative_to(ROOT)))
    twice = {name: files for name, files in where.items() if len(files) > 1 and name not in SAME_ON_PURPOSE}
    assert not twice, "\n".join(f"{name}: {', '.join(files)}" for name, files in sorted(twice.items()))


def identifiers(tree: ast.AST) -> set[str]:
    """Return all names, attributes, parameters, definitions and imported names of a syntax tree."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.keyword(arg=str(name)):
                found.add(name)
            case ast.alias(name=name):
                found.update(name.split("."))
    return found


@pytest.mark.parametrize("path", EVERYWHERE, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_retired_identifier_is_left(path):
    if path == Path(__file__):
        return
    here = path.relative_to(REPOSITORY).as_posix()
    left = RETIRED & identifiers(ast.parse(path.read_text(encoding="utf-8")))
    assert not {name for name in left if here not in EXEMPT.get(name, ())}


def summaries(path: Path) -> list[tuple[str, str, bool]]:
    """Return the name, the summary line and whether it is a property or class, of each docstring in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (doc := ast.get_docstring(node)):
            decorators = (
                [ast.unparse(d) for d in node.decorator_list] if isinstance(node, ast.FunctionDef) else ["class"]
            )
            is_noun = any(d.endswith(("property", "class", "fixture", "setter")) for d in decorators)
            found.append((node.name, doc.split("\n", 1)[0], is_noun))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_summary_line_is_a_statement_and_ends_with_a_full_stop(path):
    for name, line, is_noun in summaries(path):
        assert line.rstrip().endswith((".", ":", "::")), f"{name}: {line}"
        riddle = line.startswith(ABBREVIATED_QUESTIONS) and not (is_noun and line.startswith("Whether "))
        assert not riddle, f"{name}: {line}"
        assert re.match(r"[A-Z`\"'(]", line), f"{name}: {line}"
