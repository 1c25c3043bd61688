"""`lossmith models`: the networks that can be trained."""

import json
from typing import Any

import typer

from lossmith._format import print_table
from lossmith.cli.common_options import AsJson

__all__ = ["register"]

EPILOG = """Examples:

  lossmith models

  lossmith train super-resolution --model spandrel:RealPLKSR --model-option dim=32 ...

  lossmith train super-resolution --init 4xSomebody.pth --loss "L1 + 0.002*perceptual" ..."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("models", epilog=EPILOG, rich_help_panel="Networks")(print_networks)


def print_networks(as_json: AsJson = False) -> None:
    """List the networks: those of lossmith, its trained networks, and all architectures of spandrel.

    To fine-tune a published checkpoint of a spandrel architecture, give the file as --init.
    """
    from rich.console import Console
    from rich.table import Table

    rows = list_networks()
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    table = Table("--model", "description")
    table.add_column("--model-option", max_width=60)
    last = [row["name"] for row in rows if ":" not in row["name"]][-1]
    for row in rows:
        table.add_row(row["name"], row["description"], ", ".join(row["options"]), end_section=row["name"] == last)
    print_table(console, table)


def list_networks() -> list[dict[str, Any]]:
    """Return each network: its name, a short description and its arguments."""
    import inspect
    import warnings

    from lossmith.models.files import NETWORKS
    from lossmith.models.shipped import SHIPPED_NETWORKS
    from lossmith.models.spandrel_model import SPANDREL_PREFIX, load_architectures

    rows = []
    networks, broken = NETWORKS.load_all()
    for reason in broken.values():
        warnings.warn(f"{reason} The other networks are listed.", stacklevel=2)
    for name, network in networks.items():
        options = [p for p in inspect.signature(network).parameters if p != "scale"]
        first = inspect.cleandoc(network.__doc__ or "").split("\n")[0].rstrip(".")
        rows.append({"name": name, "description": first, "options": options})
    rows += [{"name": name, "description": describe_shipped(name), "options": []} for name in SHIPPED_NETWORKS]
    for name, network in sorted(load_architectures().items(), key=lambda pair: pair[0].lower()):
        parameters = inspect.signature(network).parameters.values()
        kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        options = [p.name for p in parameters if p.kind in kinds and p.name != "self"]
        rows.append({"name": SPANDREL_PREFIX + name, "description": "architecture of spandrel", "options": options})
    return rows


def describe_shipped(name: str) -> str:
    """Return what a trained network of the package is, its size, its SHA-256 and its licence."""
    from lossmith.models.shipped import LICENCE, SHIPPED_NETWORKS, find_shipped_file
    from lossmith.pretrained.locate import compute_sha256

    try:
        file = find_shipped_file(name)
    except ValueError:
        return f"{SHIPPED_NETWORKS[name]}; its file is missing, reinstall lossmith"
    size = file.stat().st_size / 1e6
    return f"{SHIPPED_NETWORKS[name]}, trained; {size:.2f} MB, SHA-256 {compute_sha256(file)[:16]}, {LICENCE}"
