"""The layers of the package: imports run downwards only, without a circle; one name has one meaning."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import lossmith

ROOT = Path(lossmith.__file__).parent
LAYERS = (
    (
        "_checks",
        "_files",
        "_filters",
        "_format",
        "_lazy",
        "_plugin_files",
        "_plugins",
        "_repr",
        "citations",
        "device",
        "distributed",
        "image",
        "noise_levels",
        "resize",
    ),
    ("pretrained",),
    ("backbone",),
    ("lens",),
    ("engine",),
    ("lenses",),
    ("formula",),
    ("losses", "balance"),
    ("adapters", "parser"),
    ("doctor", "monitor"),
    ("lossmith",),  # the package's face
    ("integrations", "keras"),
    ("data", "models"),
    ("export", "metrics", "tasks"),
    ("train",),
    ("importer", "report"),
    ("style_transfer", "tune"),
    ("knob",),
    ("inference", "text_to_image"),
    ("studio",),
    ("cli",),
    ("__main__",),
)
"""Files and folders of the package from the bottom to the top; those of one layer do not import each other."""
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
WITHIN = {("resize", "image"), ("noise_levels", "_checks")}
"""Imports within the lowest layer."""
OPTIONAL = {
    *("onnx", "onnxruntime", "onnxscript", "schedulefree"),
    *("torchvision", "lightning", "spandrel", "matplotlib", "lpips", "skimage", "optuna", "diffusers", "tensorboard"),
    *("timm", "transformers", "mkdocs", "keras", "moocore", "scipy", "torchmetrics"),
    *("accelerate", "wandb", "trackio", "mlflow"),
    *("tifffile", "imagecodecs", "OpenEXR", "pydicom"),
    *("fastapi", "gradio", "starlette", "uvicorn"),
}
LOADED_WITH_ITS_USER = ("integrations", "train", "tune", "keras", "studio", "text_to_image.sample_callback")
"""What nobody imports without their optional library."""


def module_name(path: Path) -> str:
    """Return the dotted name of a file's module."""
    return ".".join(("lossmith", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(path: Path, *, everywhere: bool = True) -> Iterator[str]:
    """Yield the modules that a file imports; without `everywhere`, only what importing it runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relatively"
            assert node.module
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in FILES and not _has_face(node.module, alias.name) else node.module


def _has_face(package: str, name: str) -> bool:
    """Return whether a package's ``__init__`` imports the name, which then is not the module of that name."""
    nodes = [n for n in ast.walk(ast.parse(FILES[package].read_text("utf-8"))) if isinstance(n, ast.ImportFrom)]
    return any(name in (alias.asname or alias.name for alias in node.names) for node in nodes)


def own_imports(name: str) -> set[str]:
    """Return the package's modules that a module imports anywhere, under TYPE_CHECKING and in functions included."""
    return {each for each in imports(FILES[name]) if each.split(".")[0] == "lossmith"} - {name}


def room(module: str) -> str:
    """Return the file or folder below the package that a module belongs to."""
    return [*module.split("."), "lossmith"][1]


every_file = pytest.mark.parametrize("name", FILES)


@every_file
def test_a_file_imports_only_from_lower_layers(name):
    here = room(name)
    assert here in LEVEL, f"give {here} a layer"
    for imported in own_imports(name):
        there = room(imported)
        assert there == here or LEVEL[there] < LEVEL[here] or (here, there) in WITHIN, f"{name} imports {imported}"


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Return the nodes from which a path leads back to themselves."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        ahead = list(graph[start])
        while ahead:
            node = ahead.pop()
            if node not in found:
                found.add(node)
                ahead += graph.get(node, ())
        return found

    return sorted(node for node in graph if node in reached(node))


def test_no_files_import_each_other_in_a_circle():
    assert not circles({name: own_imports(name) & FILES.keys() for name in FILES})


@pytest.mark.slow
def test_no_folders_import_each_other_in_a_circle():
    folders: dict[str, set[str]] = {}
    for name, path in FILES.items():
        folder = path.parent
        targets = {FILES[each].parent for each in own_imports(name) if each in FILES}
        apart = {each for each in targets if each not in folder.parents and folder not in each.parents}
        folders.setdefault(str(folder), set()).update(str(each) for each in apart - {folder})
    assert not circles(folders)


@every_file
def test_an_optional_library_is_imported_where_it_is_used(name):
    if not name.startswith(tuple(f"lossmith.{each}" for each in LOADED_WITH_ITS_USER)):
        assert not OPTIONAL & {each.split(".")[0] for each in imports(FILES[name], everywhere=False)}


@every_file
def test_no_import_statement_names_torchvision_which_its_networks_load_by_name(name):
    assert "torchvision" not in {each.split(".")[0] for each in imports(FILES[name])}
