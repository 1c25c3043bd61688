"""Kernels that lie ready for oneDNN, which would lay them out anew in every convolution.

That takes as long as the convolution of some eighty pixels in fp32 and three hundred in bf16: little on large maps, and
most of the time on the smallest. The operator for kernels laid out before is the one that `torch.compile` puts into its
code. It is PyTorch's own affair, so it is looked for before it is used, and `F.conv2d` stays what it has to equal. It
could apply a ReLU right away; but oneDNN's makes 0 of NaN, and a broken picture would pass for a black one.
"""

from functools import cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = ["can_use_fast_path", "is_packing_faster", "pack_kernel", "packed_conv2d"]

FEW = 1280
"""The pixels that a batch's map may have: from there on a kernel laid out saves less than 5 % and takes its memory."""


def is_packing_faster(x: Tensor, kernel: Tensor) -> bool:
    """Whether the convolution of a map (N, C, H, W) gains by a kernel laid out before, and has an operator for it."""
    return x.numel() <= FEW * x.shape[1] and kernel.dtype in _precisions() and bool(torch.backends.mkldnn.enabled)


def can_use_fast_path(x: Tensor) -> bool:
    """Whether a convolution of a map may run otherwise than by the plain operator: on x86, where that was measured.

    It is asked before anything of a map's size, since a compiler would make a graph for either answer. Compilers and
    whatever else looks at operators, to count them or to run them without data, see the plain one.
    """
    return (
        not torch.compiler.is_compiling()
        and type(x) is Tensor
        and x.device.type == "cpu"
        and _measured()
        and not is_in_torch_dispatch_mode()
    )


def pack_kernel(kernel: Tensor, padding: int, stride: int = 1) -> Tensor:
    """A copy of a kernel (out, in, k, k) as oneDNN takes it; it has no storage that one could look at, copy or save."""
    window = [padding] * 2, [stride] * 2, [1, 1]
    copy: Tensor = torch._C._nn.mkldnn_reorder_conv2d_weight(kernel.to_mkldnn(), *window, 1)  # type: ignore[attr-defined]
    return copy


def packed_conv2d(x: Tensor, laid: Tensor, bias: Tensor | None, padding: int, stride: int = 1) -> Tensor:
    """The convolution of a map with a kernel that is laid out."""
    window = [padding] * 2, [stride] * 2, [1, 1]
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, laid, bias, *window, 1, "none", [], "")
    return y


@cache
def _measured() -> bool:
    return torch.backends.cpu.get_cpu_capability().startswith("AVX")


@cache
def _precisions() -> frozenset[torch.dtype]:
    """Those for which there is the operator."""
    there = hasattr(torch.ops.mkldnn, "_convolution_pointwise") and "mkldnn_reorder_conv2d_weight" in dir(torch._C._nn)
    if not there or not _measured():
        return frozenset()
    half = {torch.bfloat16} if torch.ops.mkldnn._is_mkldnn_bf16_supported() else set()
    return frozenset({torch.float32} | half)
