"""Count how many public configurations of other trainers `lossmith import` carries over, and list them.

    python bench/import_recipes.py CLONES > docs/imported_recipes.md

CLONES is a folder of clones, CLONES/OWNER/NAME with the configurations in any subfolder. A file COMMIT in a clone names
its commit, for an export without git. The printed page lists the files by path and has none of their content.
"""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from typer.core import TyperCommand

from lossmith.cli.train import build_train_command, settings_from_options
from lossmith.importer import ImportedRecipe, read_recipe

SUFFIXES = (".yml", ".yaml", ".toml", ".json")
STATUSES = {
    "whole": "Whole: values and gradients of the loss are equal",
    "with deviations": "With deviations: each term is there, and differs in what is named",
    "in part": "In part: a term is left out",
    "none": "Not at all",
}
HEAD = """# Public recipes that are imported

The configurations of five projects, read by `lossmith import`; `bench/import_recipes.py` prints this page. "Whole"
speaks of the loss; networks, data and schedules that have no counterpart are named by the command. Files that test a
network, and hold no training, are not counted.
"""


def read_all(clone: Path) -> tuple[dict[Path, ImportedRecipe], dict[Path, str]]:
    """Return the recipes of a clone by file, and the errors of files that cannot be read."""
    recipes: dict[Path, ImportedRecipe] = {}
    errors: dict[Path, str] = {}
    for file in sorted(path for path in clone.rglob("*") if path.suffix.lower() in SUFFIXES):
        try:
            recipes[file.relative_to(clone)] = read_recipe(file)
        except ValueError as error:
            if "is no configuration of a training" not in str(error):
                errors[file.relative_to(clone)] = str(error).replace(str(file), file.name)
    return recipes, errors


def check_command(recipe: ImportedRecipe) -> None:
    """Parse the command of a recipe as the command line would, without a training."""
    if recipe.command:
        _, task, *words = recipe.command
        command = build_train_command(task)
        with command.make_context("train", words) as context:
            settings_from_options(task, TyperCommand.invoke(command, context))


def find_commit(clone: Path) -> str:
    """Return the commit of a clone."""
    if (clone / "COMMIT").is_file():
        return (clone / "COMMIT").read_text().strip()[:12]
    return subprocess.check_output(["git", "-C", str(clone), "rev-parse", "HEAD"], text=True).strip()[:12]


def explain(recipe: ImportedRecipe) -> str:
    """Return why a recipe is not whole."""
    left_out = [f"{name}: {reason}" for name, reason in recipe.left_out.items()]
    deviations = [f"{term.source}: {deviation}" for term in recipe.terms for deviation in term.deviations]
    return "; ".join([*(f"left out {each}" for each in left_out), *deviations])


def compress(files: list[Path]) -> str:
    """Return paths in few words, those of one folder in braces."""
    folders: dict[str, list[str]] = defaultdict(list)
    for file in files:
        folders[file.parent.as_posix()].append(file.name)
    texts = []
    for folder, names in folders.items():
        suffix = Path(names[0]).suffix
        if len(names) > 1 and all(name.endswith(suffix) for name in names):
            texts.append(f"`{folder}/{{{', '.join(name.removesuffix(suffix) for name in names)}}}{suffix}`")
        else:
            texts += [f"`{folder}/{name}`" for name in names]
    return ", ".join(texts)


def main(folder: str) -> None:
    """Print the page."""
    print(HEAD)
    print("| project | commit | configurations | whole | with deviations | in part | not at all | unreadable |")
    print("|---|---|---|---|---|---|---|---|")
    sections = []
    for clone in sorted(path for path in Path(folder).glob("*/*") if path.is_dir()):
        name = clone.relative_to(folder).as_posix()
        recipes, errors = read_all(clone)
        for recipe in recipes.values():
            check_command(recipe)
        count = {status: sum(recipe.status == status for recipe in recipes.values()) for status in STATUSES}
        cells = [name, find_commit(clone), len(recipes) + len(errors), *count.values(), len(errors)]
        print("| " + " | ".join(map(str, cells)) + " |")
        lines = [f"\n## {name}"]
        for status, title in STATUSES.items():
            groups: dict[str, list[Path]] = defaultdict(list)
            for file, recipe in recipes.items():
                if recipe.status == status:
                    groups[explain(recipe)].append(file)
            lines += [f"\n### {title}\n"] if groups else []
            for reason, files in groups.items():
                lines.append(f"- {len(files)}{f' ({reason})' if reason else ''}: {compress(files)}")
        lines += ["\n### Unreadable\n"] if errors else []
        lines += [f"- `{file.as_posix()}`: {reason}" for file, reason in errors.items()]
        sections += lines
    print("\n".join(sections))


if __name__ == "__main__":
    main(sys.argv[1])
