"""Second derivatives: the refusal where a backward pass keeps too little for them, and the transforms of `torch.func`.

Autograd differentiates a gradient only along the edges of its graph. A custom backward pass whose result has no edge to
an input would count as constant there, and the derivative would lack its part without an error. The refusal therefore
hangs on a link: an empty tensor whose graph leads to the inputs and which holds none of their memory.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["is_transformed", "link_to", "outside_transforms", "refuse_second_derivative"]


def is_transformed() -> bool:
    """Return whether a transform of `torch.func` runs, such as `grad`, `jvp` or `vmap`.

    Custom autograd functions give way to PyTorch's own operators then, which have all derivatives and batching rules.
    """
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


@contextmanager
def outside_transforms() -> Iterator[None]:
    """Leave the caller's inference mode and transforms of `torch.func`, to create tensors that outlive them."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        if is_transformed():
            from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack  # the import takes a while

            stack.enter_context(temporarily_clear_interpreter_stack())
        yield


def link_to(tensors: Iterable[Tensor]) -> Tensor | None:
    """Return an empty tensor whose graph leads to some tensors; None without a gradient or under torch.compile.

    Args:
        tensors: The tensors, of one dtype and device. The result does not keep their memory.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():  # a compiled backward pass refuses by itself
        return None
    empty = [(each[:0] if each.dim() else each.expand(0)).reshape(0) for each in tensors if each.requires_grad]
    return torch.cat(empty) if empty else None  # a copy, since a view would keep the memory


def refuse_second_derivative(gradient: Tensor, *origins: Tensor | None) -> Tensor:
    """Return a gradient whose own derivative raises RuntimeError; unchanged unless it is to be differentiated.

    Args:
        gradient: The result of a backward pass.
        origins: What the gradient depends on: the incoming gradients, and the link to the inputs.
    """
    if not torch.is_grad_enabled():  # without create_graph=True
        return gradient
    refused: Tensor = _Refusal.apply(gradient, *(each for each in origins if each is not None))  # type: ignore[no-untyped-call]
    return refused


class _Refusal(torch.autograd.Function):
    """The identity on a gradient, whose own backward pass raises an error with an explanation."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *_: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise RuntimeError(
            "This loss has no second derivative by autograd, since it keeps only what one backward pass needs. Use "
            "torch.func, as in torch.func.jvp(torch.func.grad(loss_of_image), (image,), (vector,))[1] for a "
            "Hessian-vector product, or a network of your own, such as a discriminator, for gradient penalties."
        )
