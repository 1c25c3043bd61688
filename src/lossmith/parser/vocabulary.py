"""The names that a formula can call: those of this package, and those of installed packages.

Another package adds a loss, a lens or a recipe with an entry point in the group ``lossmith.losses``, see
:mod:`lossmith._plugins`. Entry points are read when a formula contains a name that this package does not define.
"""

import difflib
from collections.abc import Callable
from functools import cache
from typing import Any

from lossmith import lenses, losses
from lossmith._plugins import Plugins
from lossmith.formula import schedule, snr_gate, weight
from lossmith.formula.loss import Loss
from lossmith.formula.weight import Weight
from lossmith.lens import Lens

__all__ = ["BUILTINS", "find_name", "suggest_name"]

BUILTINS: dict[str, Callable[..., Any]] = {
    name: getattr(module, name)
    for module in (losses, lenses, weight, schedule, snr_gate)
    for name in module.__all__
    if not (isinstance(getattr(module, name), type) and issubclass(getattr(module, name), Exception | Weight))
}
"""The losses, lenses, recipes, schedules, the gate, the knob and the gradient share of this package by name."""


OTHER_NAMES = {
    "L1": ("mae", "l1loss"),
    "L2": ("mse", "rmse", "psnr", "l2loss"),
    "Huber": ("smoothl1", "smoothl1loss"),
    "Adversarial": ("gan", "lsgan", "wgan", "wgangp", "ganloss"),
    "perceptual": ("vggloss", "contentloss"),
    "style": ("gramloss",),
    "FocalFrequency": ("fftloss",),
    "InfoNCE": ("ntxent", "simclr"),
    "KL": ("kld", "kldivergence"),
}
"""The names of losses in other libraries, in lower case and without underscores, by their names here."""


def find_name(name: str) -> Callable[..., Any] | None:
    """Return the class or function with a name, from this package or from an installed one; None if there is none.

    Raises:
        ValueError: An installed package declares a name of this package or of another package, its object cannot be
            imported, is not a loss, lens or function, or is a class of another name.
    """
    if name in BUILTINS:
        return BUILTINS[name]
    return _load_plugin(name) if name in _list_plugins() else None


def suggest_name(name: str, cutoff: float) -> str | None:
    """Return the known name that means the same as an unknown name in other libraries, or is most similar to it.

    Args:
        name: The unknown name.
        cutoff: The least similarity in [0, 1]; names that differ only in case are always similar.
    """
    names = [*BUILTINS, *_list_plugins()]
    plain = _simplify(name)
    for known, others in OTHER_NAMES.items():
        if plain in others:
            return known
    if equal := [known for known in names if _simplify(known) in (plain, plain.removesuffix("loss"))]:
        return str(equal[0])
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return str(near[0]) if near else None


def _simplify(name: str) -> str:
    return name.lower().replace("_", "")


@cache
def _list_plugins() -> Plugins:
    plugins = Plugins("lossmith.losses")
    for name, point in plugins.declared.items():
        if name in BUILTINS:
            raise ValueError(
                f"The installed package of {point.value!r} declares {name!r} in lossmith.losses, which is a name of "
                "lossmith itself. Rename its entry point, or uninstall it."
            )
    return plugins


@cache
def _load_plugin(name: str) -> Callable[..., Any]:
    point = _list_plugins().declared[name]
    try:
        found = point.load()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name!r} of {point.value!r} in lossmith.losses cannot be imported: {reason}.") from error
    if isinstance(found, type):
        if not issubclass(found, Loss | Lens):
            raise ValueError(f"{point.value!r} in lossmith.losses must be a loss, a lens or a function; got {found!r}.")
        if found.__name__ != name:  # the repr of a loss contains the name of its class
            raise ValueError(
                f"The entry point of {point.value!r} in lossmith.losses must have the name of the class, "
                f"{found.__name__!r}; got {name!r}."
            )
    elif not callable(found):
        raise ValueError(f"{point.value!r} in lossmith.losses must be a loss, a lens or a function; got {found!r}.")
    return found  # type: ignore[no-any-return]
