"""Text to loss: the formula as it is written on the command line, in a checkpoint, in a report.

`parse` reads the same expressions that Python does, walks their syntax tree, and calls nothing but the public names of
this package's losses, lenses and weights with literal arguments. Names may stand without brackets, ``L1 +
0.1*perceptual``; a free lower-case name is a knob, and ``30%`` is a share of the gradient.
"""

import ast
import difflib
import inspect
import json
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from lossmith import lenses, losses
from lossmith.formula import schedule, snr_gate, weight
from lossmith.formula.loss import Loss
from lossmith.formula.weight import (
    Factor,
    Knob,
    GradientShare,
    Weight,
)
from lossmith.lens import Lens

__all__ = ["ExpressionError", "load", "parse", "save"]

VOCABULARY: dict[str, Callable[..., Any]] = {
    name: getattr(room, name)
    for room in (losses, lenses, weight, schedule, snr_gate)
    for name in room.__all__
    if not (isinstance(getattr(room, name), type) and issubclass(getattr(room, name), Exception | Weight))
}
"""Every name that a formula may call: the losses, lenses, recipes, schedules, the gate, the knob and the share."""

OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.MatMult: operator.matmul,
}

SHARE = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?<![\w.])([0-9]+\.?[0-9]*|\.[0-9]+)([ \t]*)%(?=\s*(?:[-+*/)]|$))"""
)
"""Quoted text, which stays; or a number with a percent sign."""

DEEP = "The loss cannot be read: it is nested too deeply, or has too many terms"


class ExpressionError(ValueError):
    """A formula that cannot be read: one line on what is wrong, then the formula with a caret under the place."""


def parse(text: str) -> Loss:
    """The loss that a formula describes.

    Args:
        text: Such as ``L1 + 0.1 * perceptual("vgg19")``; ``parse(repr(loss))`` is the same loss.

    Raises:
        ExpressionError: A wrong name, argument or character, with the place and the nearest right name.

    Example:
        >>> parse("L1 + lam * perceptual('vgg19', 'conv5_4')")
        L1() + Knob("lam") * L1() @ VGG("vgg19", "conv5_4")
    """
    text = "\n".join(text.splitlines()).strip()
    if not text:
        raise ExpressionError('The loss is empty; write one such as "L1 + 0.1*perceptual".')
    shares: dict[tuple[int, int], float] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python remarks on `1if`; our own error says what is wrong
            tree = ast.parse(without_shares(text, shares), mode="eval")
    except (MemoryError, RecursionError):
        fail(text, DEEP)
    except (SyntaxError, ValueError) as error:
        line, column = (getattr(error, "lineno", None) or 1), (getattr(error, "offset", None) or 1)
        fail(text, f"The loss cannot be read: {getattr(error, 'msg', None) or error}", line, column - 1)
    try:
        loss = Reader(text, shares).value(tree.body)
    except RecursionError:
        fail(text, DEEP)
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, Lens):
        fail(text, f"{loss!r} is a lens, with no distance before it; write L1 @ {loss!r}.")
    what = f"only a weight, {loss!r}" if isinstance(loss, Factor | Weight | int | float) else repr(loss)
    return fail(text, f"This is no loss but {what}; add a loss such as L1.")


def without_shares(text: str, shares: dict[tuple[int, int], float]) -> str:
    """The formula with a name as long in the place of each share, since Python reads no ``30% *``; notes the places."""

    def named(line: str, number: int) -> str:
        def name(found: re.Match[str]) -> str:
            if found[1]:
                return found[1]
            column = found.start() if line.isascii() else len(line[: found.start()].encode())
            shares[number, column] = float(found[2])
            return f"_{found[2].replace('.', '_')}{found[3]}"

        return SHARE.sub(name, line)

    return "\n".join(named(line, number) for number, line in enumerate(text.split("\n"), start=1))


def save(loss: Loss, path: str | Path) -> None:
    """Writes a loss as its text and the hashes of the weights that it uses; finds these weights to do so."""
    part = Path(f"{path}.part")  # a full disk then costs no older file
    part.write_text(json.dumps({"text": repr(loss), "weights": loss.weight_hashes}, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def load(path: str | Path) -> Loss:
    """The loss that :func:`save` wrote, with the same weights or none.

    Raises:
        ValueError: The file is none of :func:`save`'s, or the weights found here are not those that it names.
    """
    try:
        recipe = json.loads(Path(path).read_text(encoding="utf-8"))
        text, hashes = str(recipe["text"]), dict(recipe["weights"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} holds no loss that was saved: {error!r}.") from None
    loss = parse(text)
    for name, digest in loss.weight_hashes.items():
        if name in hashes and digest != hashes[name]:
            raise ValueError(
                f"{str(path)!r} was saved with other weights of {name} ({hashes[name][:8]}...) than are found here "
                f"({digest[:8]}...); set LOSSMITH_WEIGHTS to the folder that holds the first."
            )
    return loss


class Reader:
    """Walks the syntax tree of one formula.

    Args:
        text: The formula, for messages.
        shares: Where in it there are names that stand for shares, by line and byte.
    """

    def __init__(self, text: str, shares: Mapping[tuple[int, int], float]) -> None:
        self.text, self.shares = text, shares

    def value(self, node: ast.expr) -> Any:
        """What a node stands for: a loss, a lens, a weight, or a literal."""
        match node:
            case ast.Constant(value=value) if isinstance(value, int | float | str | bool | None):
                return value
            case ast.Name():
                return self.name(node)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return [self.literal(part) for part in parts]
            case ast.Dict(keys=keys, values=values) if all(keys):
                return {self.literal(k): self.literal(v) for k, v in zip(keys, values, strict=True) if k}
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                part = self.value(operand)
                self.expect(operand, part)
                if isinstance(part, Lens):
                    self.fail(operand, f"a lens has no sign; {_RULES}")
                return -part
            case ast.BinOp(op=op) if type(op) in OPERATORS:
                left, right = self.value(node.left), self.value(node.right)
                return self.attempt(node.right, lambda: self.combine(op, left, right, node))
            case ast.Call(func=ast.Name() as function):
                arguments = [self.literal(argument) for argument in node.args]
                return self.call(function, arguments, self.named(node))
            case ast.Call(func=ast.Attribute(value=inner, attr="on"), args=[]):
                views = self.named(node)
                loss = self.value(inner)
                if isinstance(loss, Loss):
                    return self.attempt(node, lambda: loss.on(**views))
        return self.fail(node, "This is not part of a formula; it has names, numbers, + - * / @, brackets and .on(...)")

    def literal(self, node: ast.expr) -> Any:
        """A literal argument."""
        if self.share(node) is not None:
            self.fail(
                node, "A share of the gradient multiplies a loss, as in 30% * L1; an argument is a number or text"
            )
        if isinstance(node, ast.Name):
            self.fail(node, f"An argument is a number or text; write '{node.id}' in quotes if it is text")
        value = self.value(node)
        if not isinstance(value, int | float | str | list | dict | None):
            self.fail(node, f"An argument is a number or text; {value!r} is neither")
        return value

    def named(self, node: ast.Call) -> dict[str, Any]:
        """The literal arguments that are given by name."""
        named: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                self.fail(keyword.value, "'**' is not part of a formula; give each argument by its name")
            if keyword.arg in named:
                self.fail(keyword.value, f"'{keyword.arg}' is given twice")
            named[keyword.arg] = self.literal(keyword.value)
        return named

    def name(self, node: ast.Name) -> Any:
        """A bare name: a loss or lens with its defaults, or a knob; or a share."""
        if (part := self.share(node)) is not None:
            return self.attempt(node, lambda: GradientShare(part))
        if node.id in VOCABULARY:
            return self.call(node, [], {})
        near = difflib.get_close_matches(node.id, VOCABULARY, n=1, cutoff=0.75) or [
            known for known in VOCABULARY if known.lower() == node.id.lower()
        ]
        if near or node.id != node.id.lower():
            guess = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(VOCABULARY)}."
            self.fail(node, f"Unknown name '{node.id}'; {guess}")
        return self.attempt(node, lambda: Knob(node.id))

    def share(self, node: ast.expr) -> float | None:
        """The share that a name stands for."""
        return self.shares.get((node.lineno, node.col_offset)) if isinstance(node, ast.Name) else None

    def call(self, function: ast.Name, arguments: list[Any], named: dict[str, Any]) -> Any:
        """A public name with its arguments."""
        if function.id not in VOCABULARY:
            near = difflib.get_close_matches(function.id, VOCABULARY, n=1, cutoff=0.6)
            guess = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(VOCABULARY)}."
            self.fail(function, f"Unknown name '{function.id}'; {guess}")
        made = VOCABULARY[function.id]
        signature = inspect.signature(made)
        try:
            signature.bind(*arguments, **named)
        except TypeError as error:
            self.fail(function, f"{function.id}{_shape(signature)} was called otherwise: {error}")
        try:
            return self.attempt(function, lambda: made(*arguments, **named))
        except TypeError as error:
            self.fail(function, f"{function.id} cannot take these arguments: {error}")

    def combine(self, op: ast.operator, left: Any, right: Any, node: ast.BinOp) -> Any:
        """Two parts joined by an operator."""
        for side, part in ((node.left, left), (node.right, right)):
            self.expect(side, part)
        if isinstance(left, Loss) and isinstance(right, Knob) and isinstance(op, ast.Add | ast.Sub):
            self.fail(node.right, f"'{right.name}' is a knob, which multiplies: {right.name} * a loss")
        try:
            return OPERATORS[type(op)](left, right)
        except TypeError:
            return self.fail(node.right, f"{_kind(left)} {_sign(op)} {_kind(right)} means nothing; {_RULES}")

    def expect(self, node: ast.expr, part: Any) -> None:
        """Refuses a literal that is no number where something is summed or weighed."""
        if isinstance(part, str | list | dict | bool | None):
            self.fail(node, f"{part!r} is no loss, lens or weight")

    def attempt(self, node: ast.expr, make: Callable[[], Any]) -> Any:
        """Makes something, and puts the place to whatever goes wrong."""
        try:
            return make()
        except ExpressionError:
            raise
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            return self.fail(node, str(error))

    def fail(self, node: ast.expr, message: str) -> NoReturn:
        """One line on what is wrong, and the place."""
        line = self.text.split("\n")[node.lineno - 1]
        fail(self.text, message, node.lineno, len(line.encode()[: node.col_offset].decode()))


def fail(text: str, message: str, line: int = 1, column: int = 0) -> NoReturn:
    """Raises with the line of the formula and a caret under the place."""
    shown = "".join(c if c.isprintable() else " " for c in text.split("\n")[line - 1])
    if len(shown) > WIDE:
        start = max(0, min(column - WIDE // 2, len(shown) - WIDE))
        shown, column = shown[start : start + WIDE], column - start
    end = "" if message.endswith((".", "?")) else "."
    raise ExpressionError(f"{message}{end}\n    {shown}\n    {' ' * column}^") from None


WIDE = 200
"""How many characters of a formula a message shows."""

_RULES = "losses add, weights multiply losses, and @ puts a lens behind a loss or lens"


def _kind(part: Any) -> str:
    kinds = ((Loss, "a loss"), (Lens, "a lens"), (Factor, "a weight"), (Weight, "a weight"), (int | float, "a number"))
    return next((kind for type_, kind in kinds if isinstance(part, type_)), "something")  # type: ignore[arg-type]


def _sign(op: ast.operator) -> str:
    return {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.MatMult: "@"}[type(op)]


def _shape(signature: inspect.Signature) -> str:
    return "(" + ", ".join(str(p.replace(annotation=p.empty)) for p in signature.parameters.values()) + ")"
