"""Text to balancer: ``share``, ``share(ema=0.9)``, ``torchjd("UPGrad")``."""

import ast
import difflib
import inspect

from lossmith.balance.adaptive import Adaptive
from lossmith.balance.base import Balance, Fixed
from lossmith.balance.gradnorm import GradNorm
from lossmith.balance.share import Share
from lossmith.balance.torchjd import TorchJD
from lossmith.balance.uncertainty import Uncertainty

__all__ = ["BALANCES", "parse_balance"]

BALANCES: dict[str, type[Balance]] = {
    "fixed": Fixed,
    "share": Share,
    "uncertainty": Uncertainty,
    "gradnorm": GradNorm,
    "adaptive": Adaptive,
    "torchjd": TorchJD,
}
"""The balancers by their names in text."""


def parse_balance(text: str) -> Balance:
    """Return the balancer that a text describes; only the names above are called, with literal arguments.

    Args:
        text: Such as "share" or "share(ema=0.9, every=1)"; ``parse_balance(repr(balance))`` equals the balancer.

    Raises:
        ValueError: If the name or an option is unknown (the message names the nearest), or an option is out of range.

    Example:
        >>> parse_balance("share(ema=0.9)")
        share(ema=0.9)
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        name = call.func.id  # type: ignore[attr-defined]
        arguments = [ast.literal_eval(argument) for argument in call.args]
        keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, AttributeError, TypeError, MemoryError, RecursionError):
        raise ValueError(f"A balancer is a name with options, such as share(ema=0.9); got {text!r}.") from None
    if name not in BALANCES:
        raise ValueError(f"Unknown balancer {name!r}{_suggest(name, list(BALANCES))}")
    options = inspect.signature(BALANCES[name]).parameters
    if unknown := [option for option in keywords if option not in options]:
        raise ValueError(f"{name} has no option {unknown[0]!r}{_suggest(unknown[0], list(options))}")
    positional = [o.name for o in options.values() if o.kind is o.POSITIONAL_OR_KEYWORD]
    if len(arguments) > len(positional) or set(positional[: len(arguments)]) & keywords.keys():
        raise ValueError(f"{name} takes options by name, each once, as in {name}(ema=0.9); got {text!r}.")
    return BALANCES[name](*arguments, **keywords)


def _suggest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known) or 'none'}."
