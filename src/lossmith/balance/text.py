"""Text to balance: ``share``, ``share(ema=0.9)``, ``torchjd("UPGrad")``."""

import ast
import difflib
import inspect

from lossmith.balance.adaptive import Adaptive
from lossmith.balance.base import Balance, Fixed
from lossmith.balance.gradnorm import GradNorm
from lossmith.balance.share import Share
from lossmith.balance.torchjd import TorchJD
from lossmith.balance.uncertainty import Uncertainty

__all__ = ["KINDS", "parse"]

KINDS: dict[str, type[Balance]] = {
    "fixed": Fixed,
    "share": Share,
    "uncertainty": Uncertainty,
    "gradnorm": GradNorm,
    "adaptive": Adaptive,
    "torchjd": TorchJD,
}
"""Every balance by its name in text."""


def parse(text: str) -> Balance:
    """The balance that a text describes; nothing but the names above is called, and with literals alone.

    Args:
        text: Such as "share" or "share(ema=0.9, every=1)"; ``parse(repr(balance))`` is the same balance.

    Raises:
        ValueError: No such balance or option, with the nearest right name; or an option is not what it should be.

    Example:
        >>> parse("share(ema=0.9)")
        share(ema=0.9)
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        name = call.func.id  # type: ignore[attr-defined]
        arguments = [ast.literal_eval(each) for each in call.args]
        named = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    except (SyntaxError, ValueError, AttributeError, TypeError, MemoryError, RecursionError):
        raise ValueError(f"A balance is a name with options, such as share(ema=0.9); got {text!r}.") from None
    if name not in KINDS:
        raise ValueError(f"There is no balance {name!r}{_nearest(name, list(KINDS))}")
    options = inspect.signature(KINDS[name]).parameters
    if wrong := [option for option in named if option not in options]:
        raise ValueError(f"{name} has no option {wrong[0]!r}{_nearest(wrong[0], list(options))}")
    most = [o.name for o in options.values() if o.kind is o.POSITIONAL_OR_KEYWORD]
    if len(arguments) > len(most) or set(most[: len(arguments)]) & named.keys():
        raise ValueError(f"{name} takes its options by name, once each, as in {name}(ema=0.9); got {text!r}.")
    return KINDS[name](*arguments, **named)


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known) or 'none'}."
