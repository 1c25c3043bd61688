"""`lossmith models`: the networks that can be trained."""

import json
from typing import Annotated, Any

import typer

__all__ = ["register"]

EPILOG = """Examples:

  lossmith models

  lossmith train super-resolution --model spandrel:RealPLKSR --model-option dim=32 ...

  lossmith train super-resolution --init 4xSomebody.pth --loss "L1 + 0.1*perceptual" ..."""


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("models", epilog=EPILOG, rich_help_panel="Networks")(models)


def models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the networks that can be trained: our own, and all architectures of spandrel.

    Of the latter any published checkpoint can be fine-tuned too, under a formula of your own: give the file as --init.
    """
    from rich.console import Console
    from rich.table import Table

    found = listed()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    table = Table("--model", "what it is", "--model-option", title_justify="left")
    last = [row["name"] for row in found if ":" not in row["name"]][-1]
    for row in found:
        table.add_row(row["name"], row["what"], ", ".join(row["options"]), end_section=row["name"] == last)
    console.print(table)


def listed() -> list[dict[str, Any]]:
    """Each network: its name, what it is in a few words, and its arguments."""
    import inspect

    from lossmith.models.files import OWN
    from lossmith.models.spandrel_model import PREFIX, architectures

    rows = []
    for name, network in OWN.items():
        options = [p for p in inspect.signature(network).parameters if p != "scale"]
        first = (inspect.getdoc(network) or "").split("\n")[0].rstrip(".")
        rows.append({"name": name, "what": first, "options": options})
    for name, network in sorted(architectures().items(), key=lambda pair: pair[0].lower()):
        known = inspect.signature(network).parameters.values()
        options = [p.name for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
        rows.append({"name": PREFIX + name, "what": "of spandrel", "options": options})
    return rows
