"""The first convolution of a module of another library, replaced for grey images."""

import copy
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lossmith.engine.grey import BorderCorrection, sum_channels

__all__ = ["find_grey_convolution", "with_grey_convolution"]


def find_grey_convolution(module: nn.Module, image_size: int) -> str | None:
    """Return the name of the convolution that takes the images themselves, at their size and one pixel more.

    Args:
        module: The network on the meta device.
        image_size: The side in pixels of images that the network takes.
    """
    names = [_find_first_convolution(module, side) for side in (image_size, image_size + 1)]
    return names[0] if names[0] == names[1] else None


def with_grey_convolution(module: nn.Module, name: str, mean: Tensor, std: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network for grey images that shares its weights with a network for RGB images.

    Args:
        module: The network for RGB images.
        name: The convolution of :func:`find_grey_convolution`.
        mean: The mean of the images that the network expects, (1, 3, 1, 1).
        std: Their standard deviation, (1, 3, 1, 1).

    Returns:
        The network, and the mean and standard deviation of grey images, (1, 1, 1, 1).
    """
    tensors = [*module.parameters(), *module.buffers()]
    module = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    parent_name, _, child = name.rpartition(".")
    convolution = module.get_submodule(name)
    assert isinstance(convolution, nn.Conv2d)
    grey_mean, grey_std = mean.mean(dim=1, keepdim=True), std.mean(dim=1, keepdim=True)
    replaced = _GreyConv2d(convolution, grey_std / std, (grey_mean - mean) / std)
    setattr(module.get_submodule(parent_name), child, replaced)
    return module, grey_mean, grey_std


def _find_first_convolution(module: nn.Module, side: int) -> str | None:
    image = torch.empty(1, 3, side, side, device="meta")
    readers: list[str] = []

    def record(name: str, part: nn.Module, args: Any) -> None:
        if args and args[0] is image and next(part.children(), None) is None:
            readers.append(name if _is_plain(part) else "")

    hooks = [part.register_forward_pre_hook(partial(record, name)) for name, part in module.named_modules() if name]
    uses = _UseCounter(image)
    try:
        with torch.no_grad(), uses:
            module(image)
    except Exception:  # a module raises anything for a size that it does not support
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return readers[0] if len(readers) == 1 and readers[0] and uses.count == 1 else None


class _UseCounter(TorchFunctionMode):
    """Counts the operations on an image; a skip connection besides the convolution would treat one channel as three."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image, self.count = image, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        is_query = getattr(func, "__name__", "") in ("__get__", "size", "dim")
        self.count += not is_query and any(each is self.image for each in args)
        return func(*args, **(kwargs or {}))


def _is_plain(part: nn.Module) -> bool:
    if type(part) is not nn.Conv2d or part.groups != 1 or part.padding_mode != "zeros":
        return False
    padding = part.padding
    is_square = all(sides[0] == sides[1] for sides in (part.kernel_size, part.stride, padding))
    return not isinstance(padding, str) and part.dilation == (1, 1) and is_square


@final
class _GreyConv2d(nn.Module):
    """A convolution of grey images that equals a convolution of normalised RGB images.

    Args:
        convolution: The convolution.
        factor: The factor from a normalised grey image to each normalised channel, (1, 3, 1, 1).
        offset: The offset, (1, 3, 1, 1).
    """

    weight: Tensor
    bias: Tensor
    border: Tensor

    def __init__(self, convolution: nn.Conv2d, factor: Tensor, offset: Tensor) -> None:
        super().__init__()
        kernel = convolution.weight.detach()
        bias = kernel.new_zeros(len(kernel)) if convolution.bias is None else convolution.bias.detach()
        for name, tensor in zip(("weight", "bias", "border"), sum_channels(kernel, bias, factor, offset), strict=True):
            self.register_buffer(name, tensor, persistent=False)
        self.stride, self.padding = int(convolution.stride[0]), int(convolution.padding[0])

    def forward(self, image: Tensor) -> Tensor:
        """Return the convolution (N, out, h, w) of normalised grey images (N, 1, H, W)."""
        output = F.conv2d(image, self.weight, self.bias, self.stride, self.padding)
        if not self.padding:
            return output
        border = BorderCorrection(self.border, self.stride, self.padding)
        return output + border(image.shape[2], image.shape[3], output.dtype)
