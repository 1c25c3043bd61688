"""Repair of what is non-finite in a step: gradients of the network, and images that discriminators are trained on."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from lossmith.device import is_on_host

__all__ = ["replace_nonfinite_images", "zero_nonfinite_gradients"]


def zero_nonfinite_gradients(weights: Iterable[nn.Parameter]) -> Tensor | None:
    """Set all gradients to zero if one of them is non-finite.

    A network that overflows on an image breaks its own gradient even if the gradient at its output is finite.

    Returns:
        Whether a gradient was non-finite; None without gradients.
    """
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if not gradients:
        return None
    # the 2-norm takes a tenth of the time of the maximum on a CPU, but overflows in half precision
    is_half = any(gradient.dtype == torch.float16 for gradient in gradients)
    broken = ~_whole(torch.nn.utils.get_total_norm(gradients, torch.inf if is_half else 2.0)).isfinite()
    if is_on_host(broken) and not bool(broken):
        return broken
    for gradient in gradients:
        _own_part(gradient).masked_fill_(broken, 0.0)
    return broken


def _whole(tensor: Tensor) -> Tensor:
    """Return a tensor whose parts lie on several processes, as with FSDP; all processes must call this."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _own_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that lies on this process."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def replace_nonfinite_images(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return loss inputs in which a finite image replaces each image that is non-finite in one of the inputs.

    Discriminators are trained on these inputs.
    """
    count = max((len(each) for each in inputs.values() if each.dim()), default=0)
    batched = {name: each for name, each in inputs.items() if each.dim() and len(each) == count}
    if not batched:
        return dict(inputs)
    finite = torch.stack([each.reshape(count, -1).isfinite().all(dim=1) for each in batched.values()]).all(dim=0)
    first = finite.float().argmax().view(1)

    def replace(each: Tensor) -> Tensor:
        other = each.index_select(0, first).nan_to_num(0.0, 0.0, 0.0)  # no image may be finite
        return torch.where(finite.view(-1, *(1,) * (each.dim() - 1)), each, other)

    return {**inputs, **{name: replace(each) for name, each in batched.items()}}
