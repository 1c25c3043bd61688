"""A selection of an image's bands, for terms that see one band or three."""

from typing import Literal, final

import torch
from torch import Tensor

from lossmith._checks import check_choice, check_integer
from lossmith.lens import Lens, Maps, Tiling

__all__ = ["Bands"]

Mode = Literal["mean", "each"]


@final
class Bands(Lens):
    r"""The bands of an image by their numbers, their mean, or each band as a grey image.

    .. math:: (x_1, \dots, x_C) \mapsto (x_{b_1}, \dots, x_{b_K}), \quad \frac1C \sum_c x_c, \quad \text{or each } x_c

    A network that was trained on photographs sees an image of any number of bands through this lens:

    ========================================================= ========================================
    bands 3, 2 and 1 as red, green and blue, as of Landsat 5  ``perceptual("vgg19") @ Bands(3, 2, 1)``
    one grey image, the mean of all bands                     ``perceptual("vgg19") @ Bands("mean")``
    each band as a grey image; the values are averaged        ``perceptual("vgg19") @ Bands("each")``
    band 4 alone                                              ``L1() @ Bands(4)``
    ========================================================= ========================================

    Bands are counted from 1, as in GDAL, in file formats and in the names of a satellite's bands. A number may occur
    several times. With "each", the bands become rows of the batch: the network's cost is that of as many grey images as
    there are bands. A distance that compares the images of a batch with each other does not take "each".

    Args:
        bands: The numbers of the bands in their new order; or "mean" or "each".

    Returns:
        Maps (N, number of bands, H, W); (N, 1, H, W) for "mean"; (N C, 1, H, W) for "each".

    Raises:
        ValueError: No band, a number below 1, or another text; at the call, an image with fewer bands.

    Example:
        >>> from lossmith import perceptual
        >>> perceptual("vgg19", "conv3_4") @ Bands(3, 2, 1)
        L1() @ VGG("vgg19", "conv3_4") @ Bands(3, 2, 1)
        >>> image = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 4, 1, 1)
        >>> Bands(3, 2, 1)({"pixels": image})["pixels"].flatten()
        tensor([0.3000, 0.2000, 0.1000])
        >>> Bands("each")({"pixels": image})["pixels"].shape
        torch.Size([4, 1, 1, 1])
    """

    is_linear = True

    def __init__(self, *bands: int | Mode) -> None:
        super().__init__()
        self.mode: Mode | None = None
        self.numbers: tuple[int, ...] = ()
        if len(bands) == 1 and isinstance(bands[0], str):
            self.mode = check_choice("Bands", bands[0], Mode)
        elif bands:
            self.numbers = tuple(check_integer("A band (they are counted from 1)", band, low=1) for band in bands)
        else:
            raise ValueError('Bands needs the numbers of bands, such as Bands(3, 2, 1), or "mean" or "each"; got none.')

    @property
    def tiling(self) -> Tiling:
        """The value "pointwise", except for "each", whose maps are more images."""
        return None if self.splits_channels else "pointwise"

    @property
    def splits_channels(self) -> bool:
        """Whether each band becomes a row of the batch."""
        return self.mode == "each"

    @property
    def min_channels(self) -> int:
        """The largest number of a band."""
        return max(self.numbers, default=1)

    def forward(self, maps: Maps) -> Maps:
        """Return the bands of each map (N, C, H, W)."""
        return {name: self._select(image) for name, image in maps.items()}

    def _select(self, image: Tensor) -> Tensor:
        if self.mode == "mean":
            return image.mean(dim=1, keepdim=True)
        if self.mode == "each":
            return image.flatten(0, 1)[:, None]
        self.check_bands(image.shape[1])
        return torch.stack([image[:, number - 1] for number in self.numbers], dim=1)

    def check_bands(self, bands: int) -> None:
        """Raise ValueError for images with fewer bands than the largest number."""
        if bands < self.min_channels:
            got = f"{bands} band{'s' if bands > 1 else ''}"
            raise ValueError(f"{self!r} needs images of at least {self.min_channels} bands; got {got}.")
