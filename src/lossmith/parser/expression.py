"""The parser of formulas: a walk over Python's syntax tree that calls only known names with literal arguments.

Names can be written without brackets, ``L1 + 0.002*perceptual``. A free lower-case name is a knob, and ``30%`` is a
share of the gradient.
"""

import ast
import inspect
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, get_args

from lossmith.formula.loss import Loss
from lossmith.formula.weight import Factor, GradientShare, Knob, Weight
from lossmith.lens import Lens
from lossmith.parser.vocabulary import BUILTINS, find_name, suggest_name

__all__ = ["ExpressionError", "parse"]

OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.MatMult: operator.matmul,
}
SYMBOLS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.MatMult: "@"}

SHARE = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?<![\w.])([0-9]+\.?[0-9]*|\.[0-9]+)([ \t]*)%(?=\s*(?:[-+*/)]|$))"""
)
"""A quoted text, which is kept; or a number with a percent sign."""

TOO_DEEP = "The formula cannot be parsed: it is nested too deeply, or has too many terms"
RULES = "losses are added, weights multiply losses, and @ applies a lens to a loss or lens"

SHOWN_WIDTH = 200
"""The largest number of characters of a formula in an error message."""


class ExpressionError(ValueError):
    """A formula that cannot be parsed: one line with the reason, then the formula with a caret at the position.

    Args:
        reason: The reason, one line.
        shown: The line of the formula, or its part around the position; "" for an empty formula.
        column: The position of the caret in `shown`, from 0.
        position: The position in the whole formula without surrounding whitespace, from 0.
    """

    def __init__(self, reason: str, shown: str = "", column: int = 0, position: int = 0) -> None:
        super().__init__(f"{reason}\n    {shown}\n    {' ' * column}^" if shown else reason)
        self.reason, self.shown, self.column, self.position = reason, shown, column, position

    def __reduce__(self) -> tuple[type["ExpressionError"], tuple[str, str, int, int]]:
        """Return the arguments, so that another process receives them too."""
        return type(self), (self.reason, self.shown, self.column, self.position)


def parse(text: str) -> Loss:
    """Build the loss that a formula describes.

    Args:
        text: A formula such as ``L1 + 0.002 * perceptual("vgg19")``; ``parse(repr(loss))`` is the same loss.

    Raises:
        ExpressionError: A wrong name, argument or character; with its position and the most similar known name.

    Example:
        >>> parse("L1 + lam * perceptual('vgg19', 'conv5_4')")
        L1() + Knob("lam") * L1() @ VGG("vgg19", "conv5_4")
    """
    text = "\n".join(text.splitlines()).strip()
    if not text:
        raise ExpressionError('The formula is empty; write one such as "L1 + 0.002*perceptual".')
    shares: dict[tuple[int, int], float] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of `1if`; the error below gives the reason
            tree = ast.parse(_replace_shares(text, shares), mode="eval")
    except (MemoryError, RecursionError):
        _fail(text, TOO_DEEP)
    except (SyntaxError, ValueError) as error:
        line, column = (getattr(error, "lineno", None) or 1), (getattr(error, "offset", None) or 1)
        _fail(text, f"The formula cannot be parsed: {getattr(error, 'msg', None) or error}", line, column - 1)
    try:
        loss = _ExpressionReader(text, shares).read(tree.body)
    except RecursionError:
        _fail(text, TOO_DEEP)
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, Lens):
        _fail(text, f"{loss!r} is a lens without a distance; write L1 @ {loss!r}.")
    what = f"the weight {loss!r}" if isinstance(loss, Factor | Weight | int | float) else repr(loss)
    return _fail(text, f"The formula is not a loss but {what}; add a loss such as L1.")


def _replace_shares(text: str, shares: dict[tuple[int, int], float]) -> str:
    """Replace each share by a name of the same length, since ``30% *`` is no Python; record the positions."""

    def replace_in_line(line: str, number: int) -> str:
        def replace(match: re.Match[str]) -> str:
            if match[1]:
                return match[1]
            column = match.start() if line.isascii() else len(line[: match.start()].encode())
            shares[number, column] = float(match[2])
            return f"_{match[2].replace('.', '_')}{match[3]}"

        return SHARE.sub(replace, line)

    return "\n".join(replace_in_line(line, number) for number, line in enumerate(text.split("\n"), start=1))


class _ExpressionReader:
    """Evaluates the syntax tree of one formula.

    Args:
        text: The formula, for error messages.
        shares: The shares of the gradient by line and byte, where the tree has names in their place.
    """

    def __init__(self, text: str, shares: Mapping[tuple[int, int], float]) -> None:
        self.text, self.shares = text, shares

    def read(self, node: ast.expr) -> Any:
        """Return the loss, lens, weight or literal of a node."""
        match node:
            case ast.Constant(value=value) if isinstance(value, int | float | str | bool | None):
                return value
            case ast.Name():
                return self.read_name(node)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return [self.read_literal(part) for part in parts]
            case ast.Dict(keys=keys, values=values) if all(keys):
                return {self.read_literal(k): self.read_literal(v) for k, v in zip(keys, values, strict=True) if k}
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                part = self.read(operand)
                self.check_operand(operand, part)
                if isinstance(part, Lens):
                    self.fail(operand, f"a lens has no sign; {RULES}")
                return -part
            case ast.BinOp(op=op) if type(op) in OPERATORS:
                left, right = self.read(node.left), self.read(node.right)
                return self.attempt(node.right, lambda: self.combine(op, left, right, node))
            case ast.Call(func=ast.Name() as function):
                arguments = [self.read_literal(argument) for argument in node.args]
                return self.call(function, arguments, self.read_keywords(node))
            case ast.Call(func=ast.Attribute(value=inner, attr="on"), args=[]):
                inputs = self.read_keywords(node)
                loss = self.read(inner)
                if isinstance(loss, Loss):
                    return self.attempt(node, lambda: loss.on(**inputs))
        return self.fail(
            node, "This is not part of a formula, which has names, numbers, + - * / @, brackets and .on(...)"
        )

    def read_literal(self, node: ast.expr) -> Any:
        """Return the value of a literal argument."""
        if self.find_share(node) is not None:
            self.fail(
                node, "A share of the gradient multiplies a loss, as in 30% * L1; an argument is a number or text"
            )
        if isinstance(node, ast.Name):
            self.fail(node, f"An argument is a number or text; write '{node.id}' in quotes if it is text")
        value = self.read(node)
        if not isinstance(value, int | float | str | list | dict | None):
            self.fail(node, f"An argument is a number or text; {value!r} is neither")
        return value

    def read_keywords(self, node: ast.Call) -> dict[str, Any]:
        """Return the keyword arguments of a call."""
        keywords: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                self.fail(keyword.value, "'**' is not part of a formula; give each argument by its name")
            if keyword.arg in keywords:
                self.fail(keyword.value, f"'{keyword.arg}' is given twice")
            keywords[keyword.arg] = self.read_literal(keyword.value)
        return keywords

    def read_name(self, node: ast.Name) -> Any:
        """Return what a bare name stands for: a loss or lens with its defaults, a knob, or a share."""
        if (percent := self.find_share(node)) is not None:
            return self.attempt(node, lambda: GradientShare(percent))
        if self.attempt(node, lambda: find_name(node.id)) is not None:
            return self.call(node, [], {})
        if suggest_name(node.id, 0.75) or node.id != node.id.lower():
            self.fail_unknown(node, 0.75)
        return self.attempt(node, lambda: Knob(node.id))

    def find_share(self, node: ast.expr) -> float | None:
        """Return the share in percent that a name stands for; None for other nodes."""
        return self.shares.get((node.lineno, node.col_offset)) if isinstance(node, ast.Name) else None

    def call(self, function: ast.Name, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """Call a known name with literal arguments."""
        found = self.attempt(function, lambda: find_name(function.id))
        if found is None:
            self.fail_unknown(function, 0.6)
        signature = inspect.signature(found)
        try:
            signature.bind(*arguments, **keywords)
        except TypeError as error:
            hint = _suggest_layer_list(function.id, signature, arguments)
            self.fail(function, f"Wrong arguments of {function.id}{_format_parameters(signature)}: {error}{hint}")
        try:
            return self.attempt(function, lambda: found(*arguments, **keywords))
        except TypeError as error:
            self.fail(function, f"Wrong arguments of {function.id}: {error}")
        except ExpressionError:
            raise
        except Exception as error:
            if function.id in BUILTINS:
                raise
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            self.fail(function, f"{function.id}, which is no part of lossmith, raised {reason}")

    def combine(self, op: ast.operator, left: Any, right: Any, node: ast.BinOp) -> Any:
        """Apply an operator to two operands."""
        for side, part in ((node.left, left), (node.right, right)):
            self.check_operand(side, part)
        if isinstance(left, Loss) and isinstance(right, Knob) and isinstance(op, ast.Add | ast.Sub):
            self.fail(node.right, f"'{right.name}' is a knob, which multiplies a loss: {right.name} * L1")
        try:
            return OPERATORS[type(op)](left, right)
        except TypeError:
            operation = f"{_describe(left)} {SYMBOLS[type(op)]} {_describe(right)}"
            return self.fail(node.right, f"{operation} is not defined; {RULES}")

    def check_operand(self, node: ast.expr, part: Any) -> None:
        """Raise if an operand is a literal other than a number."""
        if isinstance(part, str | list | dict | bool | None):
            self.fail(node, f"{part!r} is not a loss, lens or weight")

    def attempt(self, node: ast.expr, make: Callable[[], Any]) -> Any:
        """Return the result of a function; add the position in the formula to its errors."""
        try:
            return make()
        except ExpressionError:
            raise
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            return self.fail(node, str(error))

    def fail_unknown(self, node: ast.Name, cutoff: float) -> NoReturn:
        """Raise for an unknown name, with the most similar known name or all names."""
        near = suggest_name(node.id, cutoff)
        hint = f"did you mean '{near}'?" if near else f"the names are {', '.join(BUILTINS)}."
        self.fail(node, f"Unknown name '{node.id}'; {hint}")

    def fail(self, node: ast.expr, message: str) -> NoReturn:
        """Raise with a caret at the node's position."""
        line = self.text.split("\n")[node.lineno - 1]
        _fail(self.text, message, node.lineno, len(line.encode()[: node.col_offset].decode()))


def _fail(text: str, message: str, line: int = 1, column: int = 0) -> NoReturn:
    """Raise ExpressionError with a line of the formula and a caret at a column."""
    lines = text.split("\n")
    position = sum(len(each) + 1 for each in lines[: line - 1]) + column
    shown = "".join(c if c.isprintable() else " " for c in lines[line - 1])
    if len(shown) > SHOWN_WIDTH:
        start = max(0, min(column - SHOWN_WIDTH // 2, len(shown) - SHOWN_WIDTH))
        shown, column = shown[start : start + SHOWN_WIDTH], column - start
    end = "" if message.endswith((".", "?")) else "."
    raise ExpressionError(f"{message}{end}", shown, column, position) from None


def _describe(part: Any) -> str:
    kinds = ((Loss, "a loss"), (Lens, "a lens"), (Factor, "a weight"), (Weight, "a weight"), (int | float, "a number"))
    return next((kind for type_, kind in kinds if isinstance(part, type_)), "something")  # type: ignore[arg-type]


def _suggest_layer_list(name: str, signature: inspect.Signature, arguments: list[Any]) -> str:
    """Return a hint if several layers were given as separate arguments, else an empty text."""
    parameters = list(signature.parameters)
    choices = [choice for each in signature.parameters.values() for choice in get_args(each.annotation)]
    given = arguments[parameters.index("layers") :] if "layers" in parameters else []
    layers = [each for each in given if not isinstance(each, str) or each not in choices]  # 'l1' is a distance
    if len(layers) < 2 or not all(isinstance(each, str) for each in layers):
        return ""
    before = "".join(f"{each!r}, " for each in arguments[: parameters.index("layers")])
    return f"; several layers go in a list, as in {name}({before}{layers!r})"


def _format_parameters(signature: inspect.Signature) -> str:
    return "(" + ", ".join(str(p.replace(annotation=p.empty)) for p in signature.parameters.values()) + ")"
