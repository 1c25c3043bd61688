r"""The first convolution of a network for RGB images, applied to grey images at a third of its cost.

A network normalises each channel of a grey image g that was repeated three times, :math:`(g - \mu_c) / \sigma_c`, and
pads the result with zeros. In terms of one normalised channel z this is :math:`a_c z + b_c`, so that the kernels are
summed over the channels with the factors :math:`a_c`, and the offsets :math:`b_c` become a part of the bias. The
padding is zero and has no offset: outputs whose window extends beyond the image are corrected by the offsets of those
taps.
"""

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["BorderCorrection", "sum_channels"]


def sum_channels(weight: Tensor, bias: Tensor, factor: Tensor, offset: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the convolution of one channel z that equals that of the channels factor * z + offset, padded with zeros.

    Args:
        weight: The kernel (out, C, k, k).
        bias: The bias (out,).
        factor: The factor of each channel, (1, C, 1, 1).
        offset: The offset of each channel, (1, C, 1, 1).

    Returns:
        The kernel (out, 1, k, k), the bias (out,), and the kernel (out, 1, k, k) of :class:`BorderCorrection`; all in
        the weight's dtype, computed in float64.
    """
    wide = weight.double()
    offsets = (wide * offset).sum(dim=1, keepdim=True)
    summed = (wide * factor).sum(dim=1, keepdim=True), bias.double() + offsets.sum(dim=(1, 2, 3)), -offsets
    kernel, new_bias, border = (each.to(weight.dtype) for each in summed)
    return kernel, new_bias, border


@final
@dataclass(frozen=True, eq=False)
class BorderCorrection:
    """The sum of the taps of a kernel that lie in the padding, for each position of a convolution's output.

    Args:
        kernel: The kernel (out, 1, k, k).
        stride: The stride in both directions.
        padding: The number of zeros on each side.
    """

    kernel: Tensor
    stride: int
    padding: int

    def add_(self, output: Tensor, height: int, width: int) -> Tensor:
        """Add the correction in place to the output (N, out, h, w) for images of this size; touch only the frame."""
        frame = -(-self.padding // self.stride)
        h, w = output.shape[2:]
        if not frame:
            return output
        if min(h, w) <= 2 * frame:
            return output.add_(self(height, width, output.dtype))
        small, columns = self._compute_small(height, width).to(output.dtype), self._spread(w, output.device)
        output[:, :, :frame] += small[:, :, :frame][..., columns]
        output[:, :, h - frame :] += small[:, :, -frame:][..., columns]
        output[:, :, frame : h - frame, :frame] += small[:, :, frame : frame + 1, :frame]
        output[:, :, frame : h - frame, w - frame :] += small[:, :, frame : frame + 1, -frame:]
        return output

    def __call__(self, height: int, width: int, dtype: torch.dtype) -> Tensor:
        """Return the correction of the whole output, (1, out, h, w)."""
        small = self._compute_small(height, width).to(dtype)
        h, w = (self._output_side(side) for side in (height, width))
        return small[:, :, self._spread(h, small.device)][..., self._spread(w, small.device)]

    def _compute_small(self, height: int, width: int) -> Tensor:
        """Return the correction for a small image with the same frame; its middle row and column are 0."""
        sides = (side - self.stride * (self._output_side(side) - self._small_side(side)) for side in (height, width))
        outside = F.pad(self.kernel.new_zeros(1, 1, *sides), (self.padding,) * 4, value=1.0)
        return F.conv2d(outside, self.kernel, stride=self.stride)

    def _spread(self, side: int, device: torch.device) -> Tensor:
        """Return the index into the small correction for each position along a side of the output."""
        frame = -(-self.padding // self.stride)
        positions = torch.arange(side, device=device)
        return torch.minimum(positions, (positions - max(side - 2 * frame - 1, 0)).clamp_min(frame))

    def _small_side(self, side: int) -> int:
        return min(self._output_side(side), 2 * -(-self.padding // self.stride) + 1)

    def _output_side(self, side: int) -> int:
        return (side + 2 * self.padding - self.kernel.shape[-1]) // self.stride + 1
