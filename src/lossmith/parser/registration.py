"""Names that a program adds while it runs: losses, lenses and recipes for formulas, networks for training."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from lossmith._plugins import REGISTERED, Group, Plugins
from lossmith.formula.loss import Loss
from lossmith.lens import Lens
from lossmith.parser.vocabulary import BUILTINS, FORMULA_PLUGINS

__all__ = ["register", "unregister"]

Entry = TypeVar("Entry", bound=Callable[..., Any])


def register(entry: Entry) -> Entry:
    """Add a loss, a lens, a recipe or a network under its own name, for as long as the process runs.

    Formulas then know a loss, a lens, or a recipe (a function that returns a loss); a network is known to ``train`` as
    a model name. An installed package declares its names by entry points instead (docs/extending.md); a script adds
    them with this function or decorator, and ``lossmith COMMAND --plugin my.py`` runs such a script. A definition that
    is run again, as in a notebook, replaces the former one.

    Args:
        entry: A subclass of :class:`Distance`, :class:`Loss` or :class:`Lens`; a function that returns a loss or a
            lens; or another subclass of ``torch.nn.Module``, which is a network.

    Returns:
        The given class or function.

    Raises:
        ValueError: The object is none of these, or lossmith, an installed package or an earlier call has its name.

    Example:
        >>> from lossmith import Distance, parse
        >>> @register
        ... class Cubed(Distance):
        ...     def measure(self, pred, target):
        ...         return (pred - target).abs().pow(3).flatten(1).mean(dim=1)
        ...     def __repr__(self):
        ...         return "Cubed()"
        >>> parse("L1 + 0.1*Cubed")
        L1() + 0.1 * Cubed()
        >>> unregister("Cubed")
    """
    group, name = _find_group(entry), str(getattr(entry, "__name__", ""))
    if not name.isidentifier():
        raise ValueError(f"register needs a class or a named function; got {entry!r}.")
    before = REGISTERED[group].get(name)
    is_rerun = before is not None and _definition(before) == _definition(entry)
    taken = FORMULA_PLUGINS if group != "lossmith.models" else Plugins("lossmith.models")
    if not is_rerun and (name in taken or (group != "lossmith.models" and name in BUILTINS)):
        raise ValueError(f"{name!r} cannot be registered, since another object has this name; rename the class.")
    REGISTERED[group][name] = entry
    return entry


def unregister(name: str) -> None:
    """Remove a name that :func:`register` has added.

    Args:
        name: The name.

    Raises:
        ValueError: The name was not registered.
    """
    if not [found.pop(name) for found in REGISTERED.values() if name in found]:
        raise ValueError(f"{name!r} is not registered.")


def _find_group(entry: object) -> Group:
    if isinstance(entry, type):
        if issubclass(entry, Loss):
            return "lossmith.losses"
        if issubclass(entry, Lens):
            return "lossmith.lenses"
        if issubclass(entry, nn.Module):
            return "lossmith.models"
    elif isinstance(entry, Loss | Lens | nn.Module):
        raise ValueError(f"register needs a class; got the object {entry!r}. Register {type(entry).__name__} instead.")
    elif callable(entry):
        if {"pred", "target"} & inspect.signature(entry).parameters.keys():
            raise ValueError(
                f"register needs a loss as a class: subclass lossmith.Distance and move the body of {entry!r} to "
                "measure(self, pred, target), which returns one value per image."
            )
        return "lossmith.losses"
    raise ValueError(
        f"register needs a subclass of Distance, Lens or torch.nn.Module, or a function that returns a loss; got "
        f"{entry!r}."
    )


def _definition(entry: Any) -> tuple[str, str]:
    return entry.__module__, entry.__qualname__
