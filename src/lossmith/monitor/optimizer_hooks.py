"""Hooks on optimizers: a function before each step, when the gradients are complete, and one after it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

__all__ = ["attach_hooks"]


def attach_hooks(
    optimizers: Sequence[Optimizer],
    before_step: Callable[[Iterable[nn.Parameter]], None],
    after_step: Callable[[], None],
) -> list[RemovableHandle]:
    """Call a function with the parameters before each step of each optimizer, and one after each step of the last.

    A closure, as in Lightning's steps or with LBFGS, computes the gradients within the step; the first function is then
    called after the closure.

    Raises:
        ValueError: An argument is no optimizer of PyTorch.
    """
    if not optimizers:
        raise ValueError("LossMonitor.attach needs the optimizer of the network; got none.")
    plain = [unwrap_optimizer(optimizer) for optimizer in optimizers]

    def before(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            before_step(parameters_of(optimizer))
            return None

        def guarded_closure() -> Any:
            result = closure()
            before_step(parameters_of(optimizer))
            return result

        is_positional = len(args) > 1
        return (
            (args[0], guarded_closure, *args[2:]) if is_positional else args,
            kwargs if is_positional else {**kwargs, "closure": guarded_closure},
        )

    hooks = [optimizer.register_step_pre_hook(before) for optimizer in plain]
    return [*hooks, plain[-1].register_step_post_hook(lambda *_: after_step())]


def unwrap_optimizer(optimizer: Any) -> Optimizer:
    """Return PyTorch's optimizer in the wrappers of Accelerate and Lightning.

    Raises:
        ValueError: There is no optimizer of PyTorch.
    """
    found = optimizer
    while isinstance(inner := getattr(found, "optimizer", None), Optimizer):
        found = inner
    if not isinstance(found, Optimizer):
        raise ValueError(f"LossMonitor needs an optimizer of torch.optim; got a {type(optimizer).__name__}.")
    return found


def parameters_of(optimizer: Optimizer) -> Iterable[nn.Parameter]:
    """Yield the parameters of an optimizer."""
    return (parameter for group in optimizer.param_groups for parameter in group["params"])
