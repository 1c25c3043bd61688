"""Saved losses: the text of a loss with the hashes of its pretrained weights."""

import json
import re
from pathlib import Path

from lossmith._files import write_text_atomically
from lossmith.formula.loss import Loss
from lossmith.parser.expression import parse

__all__ = ["load", "save", "update_formula", "update_term_name"]

RENAMED = {"Denoising": "DenoisingMSE", "Foreign": "External", "Percent": "GradientShare"}
"""Names in formulas written by lossmith 0.1 before its first release, and their present names."""

RENAMED_INPUTS = {"sketch": "prior"}
"""Inputs in such formulas, which are quoted strings, and their present names."""

_DISCRIMINATOR_ARGUMENTS = {
    "critic": "discriminator",
    "every": "penalty_every",
    "since": "discriminator_start_step",
    "spectral": "spectral_norm",
}
RENAMED_ARGUMENTS = {
    "Adversarial": _DISCRIMINATOR_ARGUMENTS,
    "FeatureMatching": _DISCRIMINATOR_ARGUMENTS,
    "Contextual": {"places": "max_points"},
    "contextual": {"places": "max_points"},
}
"""Arguments of names in such formulas, and their present names."""


def save(loss: Loss, path: str | Path) -> None:
    """Write the text of a loss and the hashes of its pretrained weights, which are searched for, to a JSON file.

    Args:
        loss: The loss.
        path: The file.

    Raises:
        ValueError: The text of the loss is no formula that :func:`load` could read, as for a callable.
        MissingWeightsError: A file of pretrained weights is not found.
        OSError: The file cannot be written; an earlier file is untouched.
    """
    try:
        is_readable = repr(parse(repr(loss))) == repr(loss)
    except ValueError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"{loss!r} cannot be saved, since its text cannot be read again: {reason}.") from error
    if not is_readable:
        raise ValueError(f"{loss!r} cannot be saved, since its text is that of another loss: {parse(repr(loss))!r}.")
    recipe = {"text": repr(loss), "weights": loss.weight_hashes}
    write_text_atomically(path, json.dumps(recipe, indent=2) + "\n")


def load(path: str | Path) -> Loss:
    """Read a loss that :func:`save` has written.

    Args:
        path: The file.

    Raises:
        ValueError: The file was not written by :func:`save`, or the pretrained weights found here have other hashes.
    """
    try:
        recipe = json.loads(Path(path).read_text(encoding="utf-8"))
        text, hashes = str(recipe["text"]), dict(recipe["weights"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not a saved loss: {error!r}.") from None
    loss = parse(update_formula(text))
    for name, digest in loss.weight_hashes.items():
        if name in hashes and digest != hashes[name]:
            raise ValueError(
                f"{str(path)!r} was saved with other weights of {name} ({hashes[name][:8]}...) than those found here "
                f"({digest[:8]}...); set LOSSMITH_WEIGHTS to the folder of the former."
            )
    return loss


def update_formula(text: str) -> str:
    """Replace names that have changed since a formula was written by their present names.

    Example:
        >>> update_formula("Percent(30) * L1() + Percent(70) * Denoising()")
        'GradientShare(30) * L1() + GradientShare(70) * DenoisingMSE()'
    """
    pattern = rf'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|(?<![\w.])(?:{"|".join(RENAMED)})\b'
    renamed = RENAMED | {f"{q}{old}{q}": f"{q}{new}{q}" for old, new in RENAMED_INPUTS.items() for q in "'\""}
    return _update_arguments(re.sub(pattern, lambda match: renamed.get(match[0], match[0]), text))


def _update_arguments(text: str) -> str:
    """Replace keyword arguments that have changed, inside the call of their name."""
    quoted = r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\''
    call = rf"(?<![\w.])({'|'.join(RENAMED_ARGUMENTS)})\((?:{quoted}|[^()\"']|\([^()]*\))*\)"

    def update_call(match: re.Match[str]) -> str:
        renamed = RENAMED_ARGUMENTS[match[1]]
        keyword = rf"{quoted}|\b(?:{'|'.join(renamed)})\b(?=\s*=)"
        return re.sub(keyword, lambda word: renamed.get(word[0], word[0]), match[0])

    return re.sub(call, update_call, text)


def update_term_name(name: str) -> str:
    """Replace the name of a term that has changed since a log was written by its present name.

    Example:
        >>> update_term_name("Denoising#2"), update_term_name("L1.filled")
        ('DenoisingMSE#2', 'L1.filled')
    """
    distance = re.split(r"[.#]", name, maxsplit=1)[0]
    return RENAMED.get(distance, distance) + name[len(distance) :]
