"""Completion of formulas: the names, arguments, choices and layers that fit at a position of an unfinished text."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Union, final, get_args, get_origin

from lossmith.backbone import Backbone, get_backbone
from lossmith.formula.loss import Loss
from lossmith.formula.weight import Factor
from lossmith.lens import Lens
from lossmith.lenses.alexnet import AlexNetNetwork
from lossmith.lenses.embedded import EmbeddedNetwork
from lossmith.lenses.squeezenet import SqueezeNetNetwork
from lossmith.lenses.vgg import VGGNetwork
from lossmith.parser.vocabulary import BUILTINS, FORMULA_PLUGINS, OTHER_NAMES

__all__ = ["Completion", "complete"]

Kind = Literal["loss", "lens", "weight", "argument", "text"]

WORD = re.compile(r"\w*$")
SUMMARY_LENGTH = 160
"""The largest number of characters of a description."""
NETWORKS: Mapping[str, Callable[[], Backbone]] = {
    "vgg16": lambda: get_backbone(VGGNetwork, "vgg16", None),
    "vgg19": lambda: get_backbone(VGGNetwork, "vgg19", None),
    "alexnet": lambda: get_backbone(AlexNetNetwork, None),
    "squeezenet": lambda: get_backbone(SqueezeNetNetwork, None),
    "embedded": lambda: get_backbone(EmbeddedNetwork, None),
}
"""The networks of this package, whose layers are known without a library or a file of weights."""
COMMON = {*("L1", "L2", "Charbonnier", "SSIM", "TV", "perceptual", "style", "lpips", "Adversarial", "VGG", "Gram")}
"""The names that come first where several fit."""
NETWORK_OF_LENS = {"AlexNet": "alexnet", "SqueezeNet": "squeezenet", "Embedded": "embedded"}


@final
@dataclass(frozen=True)
class Completion:
    """A text that can stand at a position of a formula.

    Args:
        text: The text that is inserted.
        start: The position of the first character that it replaces.
        end: The position after the last character that it replaces.
        kind: "loss" for distances and recipes, "lens", "weight" for knobs and schedules, "argument" for the name of an
            argument, "text" for one of its choices.
        signature: The name with its arguments, or the values of the argument.
        summary: The first sentence of the description.
    """

    text: str
    start: int
    end: int
    kind: Kind
    signature: str = ""
    summary: str = ""

    def apply(self, formula: str) -> str:
        """Return the formula with the text inserted."""
        return formula[: self.start] + self.text + formula[self.end :]


@final
@dataclass
class _Call:
    """An open bracket: the function before it, and the arguments so far, as text."""

    function: str
    arguments: list[str]

    @property
    def keyword(self) -> str:
        """The name of the argument at the position; "" for a positional one."""
        name, equals, _ = self.arguments[-1].partition("=")
        return name.strip() if equals and name.strip().isidentifier() else ""

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """The parameters of the function; none for brackets without one."""
        found = _find(self.function)
        return list(inspect.signature(found).parameters.values()) if found is not None else []

    @property
    def parameter(self) -> inspect.Parameter | None:
        """The parameter at the position."""
        if self.keyword:
            return next((each for each in self.parameters if each.name == self.keyword), None)
        positional = [each for each in self.parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
        index = len(self.arguments) - 1
        return positional[index] if index < len(positional) else None


def complete(formula: str, position: int | None = None, *, limit: int = 12) -> list[Completion]:
    """Return the texts that can stand at a position of a formula, the most likely first.

    Names of losses, lenses and weights are completed where a term stands; lenses alone after ``@``; names of arguments
    and choices in brackets; layers of the networks of this package in quotes. Names that other libraries use are
    completed too, such as "mse".

    Args:
        formula: The formula, which may be unfinished.
        position: The position of the cursor, from 0; None for the end.
        limit: The largest number of completions.

    Example:
        >>> [each.text for each in complete("L1 + 0.1*percep")]
        ['perceptual']
        >>> [each.text for each in complete("perceptual('vgg19', 'relu5")]
        ['relu5_1', 'relu5_2', 'relu5_3', 'relu5_4']
    """
    position = len(formula) if position is None else max(0, min(position, len(formula)))
    before = formula[:position]
    stack, quote, quoted = _scan(before)
    if quote:
        start, end = position - len(quoted), _end_of_word(formula, position, quote)
        texts: Iterator[Completion] = (
            Completion(text, start, end, "text", *_describe_argument(stack)) for text in _choices(stack)
        )
        return _rank(texts, quoted, limit)
    word = WORD.search(before)
    prefix = word[0] if word else ""
    if prefix[:1].isdigit():
        return []
    start, end = position - len(prefix), _end_of_word(formula, position, "")
    call = next((each for each in reversed(stack) if each.function), None) if stack else None
    if call is not None:
        return _rank(_complete_argument(call, start, end), prefix, limit)
    kinds: tuple[Kind, ...] = ("lens",) if before[:start].rstrip().endswith("@") else ("loss", "lens", "weight")
    return _rank(_complete_name(kinds, start, end), prefix, limit)


def _scan(text: str) -> tuple[list[_Call], str, str]:
    """Return the open brackets before a position, the open quote, and the text in it; "" without a quote."""
    stack: list[_Call] = []
    quote = quoted = name = ""
    for char in text:
        if quote:
            if char == quote:
                quote = ""
            else:
                quoted += char
        elif char in "\"'":
            quote, quoted = char, ""
        elif char in "([{":
            stack.append(_Call(name if char == "(" else "", [""]))
            name = ""
            continue
        elif char in ")]}" and stack:
            stack.pop()
        elif char == "," and stack:
            stack[-1].arguments.append("")
            name = ""
            continue
        name = name + char if char.isalnum() or char == "_" else name if char == " " else ""
        if stack:
            stack[-1].arguments[-1] += char
    return stack, quote, quoted if quote else ""


def _end_of_word(formula: str, position: int, quote: str) -> int:
    """Return the end of the word, or of the quoted text, in which a position is."""
    rest = formula[position:]
    length = rest.find(quote) if quote else len(rest) - len(rest.lstrip("abcdefghijklmnopqrstuvwxyz_0123456789"))
    return position + max(0, length)


def _find(name: str) -> Callable[..., Any] | None:
    if name in BUILTINS:
        return BUILTINS[name]
    with suppress(ValueError):  # a broken name of another package
        return FORMULA_PLUGINS.get(name)
    return None


def _complete_name(kinds: tuple[Kind, ...], start: int, end: int) -> Iterator[Completion]:
    for name in [*BUILTINS, *FORMULA_PLUGINS]:
        found = _find(name)
        if found is not None and (kind := _kind(found)) in kinds:
            yield Completion(name, start, end, kind, name + _format_signature(found), _summary(found))


def _kind(found: Callable[..., Any]) -> Kind:
    if isinstance(found, type) and issubclass(found, Factor):
        return "weight"
    return "lens" if isinstance(found, type) and issubclass(found, Lens) and not issubclass(found, Loss) else "loss"


def _complete_argument(call: _Call, start: int, end: int) -> Iterator[Completion]:
    """Yield the names of the arguments that are not given yet, and the choices of the present one, in quotes."""
    given = [argument.partition("=")[0].strip() for argument in call.arguments]
    if not call.keyword:
        positional = sum("=" not in each for each in call.arguments[:-1])
        for parameter in call.parameters[positional:]:
            is_named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if is_named and parameter.name not in given[:-1]:
                signature = str(parameter.replace(annotation=parameter.empty))
                yield Completion(f"{parameter.name}=", start, end, "argument", signature)
    if call.keyword or not call.arguments[-1].strip():
        for text in _choices([call]):
            yield Completion(f'"{text}"', start, end, "text", *_describe_argument([call]))


def _choices(stack: list[_Call]) -> list[str]:
    """Return the texts that an argument can have: its choices, a network, or layers of the network before it."""
    call = next((each for each in reversed(stack) if each.function), None)
    parameter = call.parameter if call is not None else None
    if call is None or parameter is None:
        return []
    if choices := _literals(parameter.annotation):
        return choices
    if parameter.name == "net":
        return list(NETWORKS)
    if parameter.name == "weights":
        return ["random"]
    if parameter.name != "layers":
        return []
    network = NETWORK_OF_LENS.get(call.function) or call.arguments[0].partition("=")[2] or call.arguments[0]
    network = network.strip().strip("\"'")
    return list(NETWORKS[network]().layers) if network in NETWORKS else []


def _literals(annotation: Any) -> list[str]:
    """Return the texts of the Literal types in an annotation."""
    if get_origin(annotation) is Literal:
        return [each for each in get_args(annotation) if isinstance(each, str)]
    is_union = get_origin(annotation) is Union or type(annotation).__name__ == "UnionType"
    return [text for part in get_args(annotation) for text in _literals(part)] if is_union else []


def _describe_argument(stack: list[_Call]) -> tuple[str, str]:
    call = next((each for each in reversed(stack) if each.function), None)
    if call is None or call.parameter is None:
        return "", ""
    return str(call.parameter.replace(annotation=inspect.Parameter.empty)), f"The argument of {call.function}."


def _format_signature(found: Callable[..., Any]) -> str:
    parameters = inspect.signature(found).parameters.values()
    return "(" + ", ".join(str(each.replace(annotation=each.empty)) for each in parameters) + ")"


def _summary(found: Callable[..., Any]) -> str:
    first = (inspect.getdoc(found) or "").partition("\n")[0]
    return first if len(first) <= SUMMARY_LENGTH else f"{first[: SUMMARY_LENGTH - 3]}..."


def _rank(completions: Iterator[Completion], prefix: str, limit: int) -> list[Completion]:
    """Return the completions that begin with a prefix, in any case, then those with the name of another library."""
    plain = prefix.lower().replace("_", "")

    def rank(completion: Completion) -> int | None:
        text = completion.text.strip('"')
        if text == prefix:
            return None
        if text.startswith(prefix):
            return 0
        if text.lower().replace("_", "").startswith(plain):
            return 1
        if plain and any(other.startswith(plain) for other in OTHER_NAMES.get(text, ())):
            return 2
        return 3 if len(plain) > 2 and plain in text.lower().replace("_", "") else None

    ranked = [(order, each) for each in completions if (order := rank(each)) is not None]
    return [each for _, each in sorted(ranked, key=lambda pair: (pair[0], pair[1].text not in COMMON))][:limit]
