"""Convolutions and matrix products with weights in oneDNN's own layout.

`conv2d` converts kernels at every call, which takes as long as the convolution of about 80 pixels in fp32 and 300 in
bf16: little on large maps, and most of the time on the smallest. `matmul` calls MKL, which uses half of the width of
the registers of AMD's processors. The operators for packed weights are those in the code that `torch.compile`
generates. They are no public API, so that their existence is checked before use, and their results are tested against
PyTorch's own. The operators could fuse a ReLU, but oneDNN's ReLU turns NaN into 0, which would hide a broken image.
"""

from functools import cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from lossmith.engine.cpu import is_enabled

__all__ = ["can_use_fast_path", "is_packing_faster", "pack_kernel", "pack_matrix", "packed_conv2d", "packed_matmul"]

MAX_PIXELS = 1280
"""The largest number of pixels of a batch's map; above it a packed kernel saves less than 5 % and takes memory."""


def is_packing_faster(x: Tensor, kernel: Tensor) -> bool:
    """Return whether the convolution of a map (N, C, H, W) is faster with a packed kernel, and supported."""
    is_small = x.numel() <= MAX_PIXELS * x.shape[1]
    return is_small and kernel.dtype in _supported_dtypes() and bool(torch.backends.mkldnn.enabled)


def can_use_fast_path(x: Tensor) -> bool:
    """Return whether a convolution may use a CPU kernel: if these are enabled, on x86, where they were measured.

    Call this before any check of a map's size, so that compilers need no graph for each size.
    Compilers, and modes that count operators or run them without data, get the plain operator.
    """
    return (
        not torch.compiler.is_compiling()
        and is_enabled()
        and type(x) is Tensor
        and x.device.type == "cpu"
        and _is_x86()
        and not is_in_torch_dispatch_mode()
    )


def pack_kernel(kernel: Tensor, padding: int, stride: int = 1) -> Tensor:
    """Return a copy of a kernel (out, in, k, k) in oneDNN's layout; it is opaque and cannot be copied or saved."""
    window = [padding] * 2, [stride] * 2, [1, 1]
    packed: Tensor = torch._C._nn.mkldnn_reorder_conv2d_weight(kernel.to_mkldnn(), *window, 1)  # type: ignore[attr-defined]
    return packed


def packed_conv2d(x: Tensor, packed: Tensor, bias: Tensor | None, padding: int, stride: int = 1) -> Tensor:
    """Return the convolution of a map with a packed kernel."""
    window = [padding] * 2, [stride] * 2, [1, 1]
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, packed, bias, *window, 1, "none", [], "")
    return y


def pack_matrix(matrix: Tensor) -> Tensor:
    """Return a copy of a matrix (in, out) in oneDNN's layout, for :func:`packed_matmul`; itself if not supported."""
    if matrix.dtype != torch.float32 or not _supports_matrices():
        return matrix
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(matrix.t().contiguous())
    return packed


def packed_matmul(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the product of a batch of vectors (..., in) and a matrix of :func:`pack_matrix`, plus a bias."""
    if packed.is_mkldnn:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
        return product
    return x @ packed if bias is None else (x @ packed).add_(bias)


@cache
def _is_x86() -> bool:
    return torch.backends.cpu.get_cpu_capability().startswith("AVX")


@cache
def _supported_dtypes() -> frozenset[torch.dtype]:
    """Return the dtypes that the operator supports; none if it does not exist."""
    exists = hasattr(torch.ops.mkldnn, "_convolution_pointwise") and "mkldnn_reorder_conv2d_weight" in dir(torch._C._nn)
    if not exists or not _is_x86():
        return frozenset()
    half = {torch.bfloat16} if torch.ops.mkldnn._is_mkldnn_bf16_supported() else set()
    return frozenset({torch.float32} | half)


@cache
def _supports_matrices() -> bool:
    """Return whether the operators for packed matrices exist."""
    return _is_x86() and all(
        hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight")
    )
