"""Packages whose names are imported on first use, so that ``--help`` and ``--version`` need no torch (PEP 562)."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package that imports its names on first use.

    Type checkers and editors read the same imports under ``TYPE_CHECKING``; tests/test_lazy.py compares both. A name
    must differ from the name of every module of the package, since Python sets imported modules as attributes.

    Args:
        package: The name of the package, ``__name__``.
        modules: The names that each module defines, separated by spaces, by the module's name below the package, or
            by its full name if it is elsewhere. Modules below the package are attributes too.

    Example:
        >>> find, names = lazy_names("lossmith", {"formula.schedule": "Ramp", "losses": ""})
        >>> find("Ramp").__name__, find("losses").__name__
        ('Ramp', 'lossmith.losses')
    """
    homes = {name: module for module, names in modules.items() for name in names.split()}
    children = {module.partition(".")[0] for module in modules} - {"lossmith"}

    def find(name: str) -> Any:
        if name in homes:
            home = homes[name]
            found = getattr(import_module(home if home.startswith("lossmith.") else f"{package}.{home}"), name)
        elif name in children:
            found = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, found)
        return found

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes, *children})

    return find, list_names
