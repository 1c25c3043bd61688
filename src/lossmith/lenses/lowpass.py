"""Low passes: what is left of a picture once its detail is gone."""

from typing import Literal, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_number
from lossmith._repr import format_literal, repr_of
from lossmith.lens import Lens, Maps
from lossmith.resize import downsample

__all__ = ["Blur", "Downsample"]

Kernel = Literal["bicubic", "area"]


@final
class Blur(Lens):
    r"""A picture under a Gaussian: the mean about each place.

    .. math:: (g_\sigma * x), \quad g_\sigma(r) \propto e^{-r^2 / 2 \sigma^2}

    cut off at 4 sigma, of sum 1, with the border repeated: ``scipy.ndimage.gaussian_filter(mode="nearest")``.

    Args:
        sigma: The Gaussian's deviation in pixels.

    Raises:
        ValueError: sigma is not positive.

    Example:
        >>> Blur(1.0)({"pixels": torch.full((1, 1, 1, 3), 0.5)})["pixels"]
        tensor([[[[0.5000, 0.5000, 0.5000]]]])
    """

    is_linear = True

    def __init__(self, sigma: float = 3.0) -> None:
        super().__init__()
        if check_number("Blur", sigma) <= 0:
            raise ValueError(f"Blur wants sigma > 0, in pixels; got {sigma!r}.")
        self.sigma = sigma

    def forward(self, maps: Maps) -> Maps:
        """Each map (N, C, H, W) blurred, of the same shape."""
        return {name: self.blurred(shown) for name, shown in maps.items()}

    def blurred(self, image: Tensor) -> Tensor:
        """A map (N, C, H, W) blurred."""
        radius = int(4 * self.sigma + 0.5)
        places = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
        weights = torch.exp(-places.square() / (2 * self.sigma**2))
        row = (weights / weights.sum()).view(1, 1, 1, -1)
        along = F.conv2d(F.pad(image.flatten(0, 1)[:, None], (radius, radius, 0, 0), mode="replicate"), row)
        down = F.conv2d(F.pad(along, (0, 0, radius, radius), mode="replicate"), row.transpose(2, 3))
        return down.view(image.shape)

    def __repr__(self) -> str:
        return repr_of(self) if self.sigma == 3.0 else repr_of(self, self.sigma)


@final
class Downsample(Lens):
    r"""A picture made smaller by a whole factor.

    .. math:: x \mapsto (k * x) \downarrow_s

    with the kernel by which super-resolution is trained and measured (MATLAB's bicubic, as in
    :func:`lossmith.data.downsample`), or the mean of each block of pixels. Both see all of the picture alike, so that
    the gradient reaches every pixel.

    Args:
        scale: The factor, at least 1.
        kernel: "bicubic" or "area".

    Returns:
        Maps (N, C, H / scale, W / scale).

    Raises:
        ValueError: A bad argument, or at the call sides that are no multiples of the scale.

    Example:
        >>> Downsample(2, "area")({"pixels": torch.eye(4)[None, None]})["pixels"]
        tensor([[[[0.5000, 0.0000],
                  [0.0000, 0.5000]]]])
    """

    is_linear = True

    def __init__(self, scale: int, kernel: Kernel = "bicubic") -> None:
        super().__init__()
        if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
            raise ValueError(f"Downsample wants a whole scale of at least 1; got {scale!r}.")
        if kernel not in get_args(Kernel):
            raise ValueError(
                f"Downsample knows the kernels {', '.join(map(format_literal, get_args(Kernel)))}; got {kernel!r}."
            )
        self.scale = scale
        self.kernel = kernel

    def forward(self, maps: Maps) -> Maps:
        """Each map (N, C, H, W) made smaller."""
        return {name: self.smaller(shown) for name, shown in maps.items()}

    def smaller(self, image: Tensor) -> Tensor:
        """A map (N, C, H, W) made smaller."""
        height, width = image.shape[-2:]
        if min(height, width) < self.scale:
            raise ValueError(f"{self!r} wants pictures of at least {self.scale} px a side; got {height}x{width}.")
        if height % self.scale or width % self.scale:
            raise ValueError(
                f"{self!r} wants sides that are multiples of {self.scale}; got {height}x{width}. "
                f"Crop the pictures to {height - height % self.scale}x{width - width % self.scale}."
            )
        return downsample(image, self.scale) if self.kernel == "bicubic" else F.avg_pool2d(image, self.scale)

    def __repr__(self) -> str:
        return repr_of(self, self.scale) if self.kernel == "bicubic" else repr_of(self, self.scale, self.kernel)
