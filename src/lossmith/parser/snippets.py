"""A loss as Python code and as a command."""

import ast
import shlex

from lossmith.formula.loss import Loss
from lossmith.formula.weight import GradientShare, Knob
from lossmith.parser.vocabulary import BUILTINS, FORMULA_PLUGINS

__all__ = ["format_command", "format_python"]


def format_python(loss: Loss) -> str:
    """Return Python code that builds the loss and evaluates it.

    Example:
        >>> from lossmith import L1, TV
        >>> print(format_python(L1() + 0.1 * TV()))
        from lossmith.losses import L1, TV
        <BLANKLINE>
        loss = L1() + 0.1 * TV()
        # loss(pred, target), with images (N, 3, H, W) in [0, 1]
    """
    called = {node.func.id for node in ast.walk(ast.parse(repr(loss))) if _is_call_of_name(node)}  # type: ignore[attr-defined]
    by_module: dict[str, list[str]] = {}
    for name in sorted(called):
        found = BUILTINS.get(name) or FORMULA_PLUGINS.get(name)
        module = str(getattr(found, "__module__", ""))
        package = ".".join(module.split(".")[:2])
        face = package if package in ("lossmith.losses", "lossmith.lenses") else "lossmith"
        by_module.setdefault(face if name in BUILTINS else module, []).append(name)
    imports = [f"from {module} import {', '.join(names)}" for module, names in sorted(by_module.items())]
    inputs = ["pred", "target"] if loss.input_names <= {"pred", "target"} else []
    words = inputs or [f"{name}={name}" for name in sorted(loss.input_names)]
    words += [f"{knob}=1.0" for knob in loss.knobs]
    changes = any(not isinstance(f, Knob | GradientShare) for weight in loss.weights for f in weight.factors)
    words += ["step=step"] if changes else []
    images = ", with images (N, 3, H, W) in [0, 1]" if inputs else ""
    return "\n".join([*imports, "", f"loss = {loss!r}", f"# loss({', '.join(words)}){images}"])


def format_command(loss: Loss, *, task: str = "super-resolution", images: str = "IMAGES", out: str = "runs/new") -> str:
    """Return the command that trains with the loss, quoted for a shell.

    Args:
        loss: The loss.
        task: The task.
        images: The folder of the images.
        out: The folder of the run.

    Example:
        >>> from lossmith import L1
        >>> print(format_command(L1(), images="photos"))
        lossmith train super-resolution --images photos --loss 'L1()' --out runs/new
    """
    return shlex.join(["lossmith", "train", task, "--images", images, "--loss", repr(loss), "--out", out])


def _is_call_of_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
