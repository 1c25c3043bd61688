"""Low-pass filters: Gaussian blur and downsampling."""

from typing import Literal, final

import torch.nn.functional as F
from torch import Tensor

from lossmith._checks import check_choice, check_integer, check_number
from lossmith._filters import gaussian_filter
from lossmith._repr import repr_of
from lossmith.lens import Lens, Maps
from lossmith.resize import downsample

__all__ = ["Blur", "Downsample"]

Kernel = Literal["bicubic", "area"]


@final
class Blur(Lens):
    r"""The image convolved with a Gaussian.

    .. math:: (g_\sigma * x), \quad g_\sigma(r) \propto e^{-r^2 / 2 \sigma^2}

    truncated at 4 sigma, with sum 1 and a replicated border: ``scipy.ndimage.gaussian_filter(mode="nearest")``.

    Args:
        sigma: The Gaussian's standard deviation in pixels.

    Raises:
        ValueError: sigma is not positive.

    Example:
        >>> import torch
        >>> Blur(1.0)({"pixels": torch.full((1, 1, 1, 3), 0.5)})["pixels"]
        tensor([[[[0.5000, 0.5000, 0.5000]]]])
    """

    is_linear = True

    def __init__(self, sigma: float = 3.0) -> None:
        super().__init__()
        check_number("Blur sigma", sigma, low=0, open_low=True)
        self.sigma = sigma

    def forward(self, maps: Maps) -> Maps:
        """Return each map (N, C, H, W) blurred, of the same shape."""
        return {name: self.blur(image) for name, image in maps.items()}

    def blur(self, image: Tensor) -> Tensor:
        """Return a map (N, C, H, W) blurred."""
        radius = int(4 * self.sigma + 0.5)
        return gaussian_filter(image, 2 * radius + 1, self.sigma, pad=True)

    def __repr__(self) -> str:
        return repr_of(self) if self.sigma == 3.0 else repr_of(self, self.sigma)


@final
class Downsample(Lens):
    r"""The image downsampled by an integer factor.

    .. math:: x \mapsto (k * x) \downarrow_s

    with the kernel used to train and evaluate super-resolution (MATLAB's bicubic, as in
    :func:`lossmith.data.downsample`), or the mean of each block of pixels. Both weigh all pixels equally, so that the
    gradient reaches each of them.

    Args:
        scale: The factor, at least 1.
        kernel: "bicubic" or "area".

    Returns:
        Maps (N, C, H / scale, W / scale).

    Raises:
        ValueError: An invalid argument; at the call, sides that are not multiples of the scale.

    Example:
        >>> import torch
        >>> Downsample(2, "area")({"pixels": torch.eye(4)[None, None]})["pixels"]
        tensor([[[[0.5000, 0.0000],
                  [0.0000, 0.5000]]]])
    """

    is_linear = True

    def __init__(self, scale: int, kernel: Kernel = "bicubic") -> None:
        super().__init__()
        self.scale = check_integer("Downsample scale", scale, low=1)
        self.kernel: Kernel = check_choice("Downsample kernel", kernel, Kernel)

    def forward(self, maps: Maps) -> Maps:
        """Return each map (N, C, H, W) downsampled."""
        return {name: self.downsample(image) for name, image in maps.items()}

    def downsample(self, image: Tensor) -> Tensor:
        """Return a map (N, C, H, W) downsampled."""
        height, width = image.shape[-2:]
        if min(height, width) < self.scale:
            raise ValueError(f"{self!r} needs images of at least {self.scale} px a side; got {height}x{width}.")
        if height % self.scale or width % self.scale:
            raise ValueError(
                f"{self!r} expects sides that are multiples of {self.scale}; got {height}x{width}. "
                f"Crop the images to {height - height % self.scale}x{width - width % self.scale}."
            )
        return downsample(image, self.scale) if self.kernel == "bicubic" else F.avg_pool2d(image, self.scale)

    def __repr__(self) -> str:
        return repr_of(self, self.scale) if self.kernel == "bicubic" else repr_of(self, self.scale, self.kernel)
