"""`lossmith plugins`: the losses, lenses, networks and tasks of other packages and of plugins."""

import json
from typing import TYPE_CHECKING

import typer

from lossmith._format import print_table, print_text
from lossmith.cli.common_options import AsJson

if TYPE_CHECKING:
    from lossmith._plugins import Plugins

__all__ = ["list_plugins", "register"]

EPILOG = """Examples:

  lossmith plugins

  lossmith plugins --plugin my_losses.py --json"""

KINDS = {
    "lossmith.losses": "loss",
    "lossmith.lenses": "lens",
    "lossmith.models": "network",
    "lossmith.tasks": "task",
    "lossmith.optimizers": "optimizer",
}
"""The kind of the objects of each entry-point group."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plugins", epilog=EPILOG, rich_help_panel="Formulas")(print_plugins)


def print_plugins(as_json: AsJson = False) -> None:
    """List the losses, lenses, networks and tasks that installed packages and --plugin add, and those that are broken.

    Each package is imported to find out whether its names can be used.
    """
    from rich.console import Console
    from rich.table import Table

    rows = list_plugins()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    if not rows:
        print_text(console, "No package and no plugin adds a name; docs/extending.md describes how one does.")
        return
    table = Table("kind", "name", "package", "version", "object", title_justify="left")
    for row in rows:
        table.add_row(row["kind"], row["name"], row["package"], row["version"], row["object"])
    print_table(console, table)
    for row in rows:
        if row["error"]:
            print_text(console, f"Cannot be used: {row['error']}")


def list_plugins() -> list[dict[str, str]]:
    """Return kind, name, package, version, object and error of each name that another package or a plugin adds.

    The error is empty for a name that can be used.
    """
    from lossmith.models.files import NETWORKS
    from lossmith.parser.vocabulary import FORMULA_PLUGINS
    from lossmith.tasks import TASKS
    from lossmith.train.settings import OPTIMIZERS

    rows = [row for plugins in (FORMULA_PLUGINS, NETWORKS, TASKS, OPTIMIZERS) for row in describe_plugins(plugins)]
    return sorted(rows, key=lambda row: (row["package"] == "registered", row["package"], row["name"]))


def describe_plugins(plugins: "Plugins") -> list[dict[str, str]]:
    """Return the rows of some groups."""
    from lossmith._plugins import REGISTERED

    _, broken = plugins.load_all()
    rows = []
    for point in plugins.foreign:
        package, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
        rows.append((KINDS[point.group], point.name, package, version, point.value, broken.get(point.name, "")))
    for group in plugins.groups:
        for name, found in REGISTERED[group].items():
            rows.append((KINDS[group], name, "registered", "", f"{found.__module__}:{found.__qualname__}", ""))
    return [dict(zip(("kind", "name", "package", "version", "object", "error"), row, strict=True)) for row in rows]
