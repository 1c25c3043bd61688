"""The floors of the house: a file imports only downwards, and some arrows never."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import lossmith

ROOT = Path(lossmith.__file__).parent
FLOORS = {
    **dict.fromkeys(("citations", "spelling", "image", "weight", "schedule", "gate", "processes", "models", "data"), 0),
    **dict.fromkeys(("guard", "lens", "lenses", "looks", "text"), 1),
    **dict.fromkeys(
        ("taps", "bands", "term", "views", "meter", "plan", "evaluation", "loss", "pin", "pieces", "tiles"), 2
    ),
    **dict.fromkeys(("losses", "tasks"), 3),
    **dict.fromkeys(("expression", "doctor", "metrics", "balance", "keras"), 4),
    "train": 5,
    "tune": 6,
    "report": 7,
    "cli": 8,
}
FRONT_DOOR = 4.5  # what `lossmith` itself gives is no higher than 4
ASKED = {("loss", "doctor"), ("loss", "balance")}  # `loss.check()`: whoever calls it asks for the floor above
FORBIDDEN = [("losses", "tasks"), ("tasks", "losses"), ("balance", "losses")]
OPTIONAL = {
    "torchvision",
    "lightning",
    "spandrel",
    "matplotlib",
    "lpips",
    "skimage",
    "optuna",
    "diffusers",
    "tensorboard",
    "timm",
    "transformers",
    "mkdocs",
    "keras",
}


def imports(path: Path, *, everywhere: bool = True) -> Iterator[str]:
    """What a file imports, in full; without `everywhere`, only what importing it runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else [*tree.body]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    """The file or folder of the house that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


FILES = [path for path in sorted(ROOT.rglob("*.py")) if room(path) not in ("__init__", "__main__")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_downwards(path):
    here = room(path)
    assert here in FLOORS, f"give {here} a floor"
    for name in imports(path):
        there = name.split(".")[1] if name.startswith("lossmith.") else here
        if there != here:
            assert (here, there) not in FORBIDDEN, f"{here} never imports {there}"
            low = FLOORS.get(there, FRONT_DOOR) <= FLOORS[here]
            assert low or (here, there) in ASKED, f"{here} imports {name}, which is higher"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_optional_library_is_asked_for_where_it_is_used(path):
    if room(path) not in ("train", "tune", "keras"):  # which nothing imports that does not want them
        assert not OPTIONAL & {name.split(".")[0] for name in imports(path, everywhere=False)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_statement_names_torchvision_which_its_networks_load_by_name(path):
    assert "torchvision" not in {name.split(".")[0] for name in imports(path)}
