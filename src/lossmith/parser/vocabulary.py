"""The names that a formula can call: those of this package, those of installed packages, and registered ones.

Another package adds a loss, a lens or a recipe with an entry point, see :mod:`lossmith._plugins`, and a program by
:func:`lossmith.register`. Entry points are read when a formula contains a name that this package does not define.
"""

import difflib
from collections.abc import Callable
from typing import Any

from lossmith import lenses, losses
from lossmith._plugins import Plugins
from lossmith.formula import sampling, schedule, snr_gate, weight
from lossmith.formula.loss import Loss
from lossmith.formula.weight import Weight
from lossmith.lens import Lens

__all__ = ["BUILTINS", "FORMULA_PLUGINS", "check_formula_object", "find_name", "suggest_name"]

BUILTINS: dict[str, Callable[..., Any]] = {
    name: getattr(module, name)
    for module in (losses, lenses, weight, schedule, sampling, snr_gate)
    for name in module.__all__
    if not (isinstance(getattr(module, name), type) and issubclass(getattr(module, name), Exception | Weight))
}
"""The losses, lenses, recipes and factors of weights (schedules, lazy and sparse factors, the gate, the knob, the
gradient share) of this package by name."""


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
    "SpectralAngle": ("sam", "spectralanglemapper"),
}
"""The names of losses in other libraries, in lower case and without underscores, by their names here."""


def find_name(name: str) -> Callable[..., Any] | None:
    """Return the class or function with a name, from this package, an installed or a registered one; None if none has.

    Raises:
        ValueError: Two installed packages declare the name, or the object cannot be imported, is not a loss, lens or
            function, or is a class of another name.
    """
    if name in BUILTINS:
        return BUILTINS[name]
    return FORMULA_PLUGINS.get(name)


def suggest_name(name: str, cutoff: float) -> str | None:
    """Return the known name that means the same as an unknown name in other libraries, or is most similar to it.

    Args:
        name: The unknown name.
        cutoff: The least similarity in [0, 1]; names that differ only in case are always similar.
    """
    names = [*BUILTINS, *FORMULA_PLUGINS]
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


def check_formula_object(group: str, name: str, found: Any) -> None:
    """Raise ValueError unless an object is a loss, lens or recipe that a formula can call by its name.

    Args:
        group: "lossmith.losses" for losses and recipes, "lossmith.lenses" for lenses and functions that return one.
        name: The name in formulas.
        found: The object.
    """
    kind, base = ("a loss", Loss) if group == "lossmith.losses" else ("a lens", Lens)
    if isinstance(found, type) and issubclass(found, Loss | Lens) and not issubclass(found, base):
        raise ValueError(f"it is {'a lens' if kind == 'a loss' else 'a loss'}, which belongs in the other group.")
    if not (issubclass(found, base) if isinstance(found, type) else callable(found)):
        raise ValueError(f"it must be {kind} or a function that returns {kind}; got {found!r}.")
    if isinstance(found, type) and found.__name__ != name:  # the repr of a loss contains the name of its class
        raise ValueError(f"its name must be that of the class, {found.__name__!r}.")


FORMULA_PLUGINS = Plugins("lossmith.losses", "lossmith.lenses", check=check_formula_object, reserved=BUILTINS)
"""The losses, lenses and recipes of installed packages, and registered ones, by name."""
