"""A network for RGB images, adapted to images of any number of bands."""

from typing import Literal, final

import torch.nn.functional as F
from torch import Tensor, nn

from lossmith._checks import check_choice, check_integer
from lossmith.models.base import Network, Restorer

__all__ = ["BandAdapter", "adapt_channels"]

AdapterMode = Literal["mean", "each"]


@final
class BandAdapter(Restorer):
    r"""A network for images of M channels, such as a published checkpoint, as a network for images of N bands.

    .. math:: y_b = \sum_{c=1}^M B_{bc} \, f_c(A x) + \uparrow_s (x_b - \bar x), \qquad
        A_{cb} = \frac1N, \quad B_{bc} = \frac1M \quad \text{before training}

    With ``mode="mean"``, the matrices A and B are trained with the network. At first, the network sees the mean of all
    bands in each of its channels, as if the kernels of its first convolution were replaced by their mean over the
    channels times M / N. Each band of the output is the mean of the network's outputs, plus the band's difference to
    the mean of the bands, upsampled bilinearly. An image of N equal bands therefore gives the mean of the network's
    outputs for the grey image. Fine-tuning learns which bands matter and what each band lacks.

    With ``mode="each"``, the network restores each band as a grey image, N times the cost, and no weights are added:
    the better choice without fine-tuning.

    Args:
        network: The network, with as many input as output channels.
        image_channels: Number of bands N.
        mode: "mean" or "each".

    Raises:
        ValueError: The network has other inputs than images, or an argument is out of range.

    Example:
        >>> import torch
        >>> from lossmith.models import EDSR
        >>> BandAdapter(EDSR(2, channels=4, blocks=1), image_channels=8)(torch.rand(1, 8, 6, 6)).shape
        torch.Size([1, 8, 12, 12])
    """

    def __init__(self, network: Restorer, *, image_channels: int, mode: AdapterMode = "mean") -> None:
        if network.in_channels != network.image_channels:
            raise ValueError(
                f"{network.spec['name']} takes {network.in_channels - network.image_channels} channels besides the "
                "image and cannot be adapted to other bands; train it with image_channels."
            )
        check_integer("image_channels", image_channels, low=1)
        spec = {"name": "band-adapter", "network": network.spec, "mode": check_choice("mode", mode, AdapterMode)}
        super().__init__(network.scale, network.receptive_radius, spec, image_channels=image_channels)
        self.network, self.mode = network, mode
        self.mix_in: nn.Conv2d | None = None
        self.mix_out: nn.Conv2d | None = None
        if mode == "mean":
            inner = network.image_channels
            self.mix_in = nn.Conv2d(image_channels, inner, 1, bias=False)
            self.mix_out = nn.Conv2d(inner, image_channels, 1, bias=False)
            nn.init.constant_(self.mix_in.weight, 1 / image_channels)
            nn.init.constant_(self.mix_out.weight, 1 / inner)

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored images."""
        if self.mix_in is None or self.mix_out is None:
            bands = image.flatten(0, 1)[:, None].expand(-1, self.network.image_channels, -1, -1)
            restored: Tensor = self.network(bands).mean(dim=1)
            return restored.view(len(image), -1, *restored.shape[1:])
        difference = image - image.mean(dim=1, keepdim=True)
        if self.scale > 1:
            difference = F.interpolate(difference, scale_factor=self.scale, mode="bilinear", align_corners=False)
        output: Tensor = self.mix_out(self.network(self.mix_in(image))) + difference
        return output

    def pad(self, image: Tensor) -> Tensor:
        """Return images, or a map of their size, padded as the network needs."""
        return self.network.pad(image)


def adapt_channels(network: Network, image_channels: int, *, mode: AdapterMode = "mean") -> Network:
    """Return a network for images of this number of channels: the network itself, or a :class:`BandAdapter` of it.

    Args:
        network: The network.
        image_channels: Number of channels of the images.
        mode: See :class:`BandAdapter`.

    Raises:
        ValueError: The network does not map images to images, or has other inputs besides the image.
    """
    if network.image_channels == image_channels:
        return network
    if not isinstance(network, Restorer):
        raise ValueError(f"{network.spec['name']} does not map images to images and needs RGB images.")
    return BandAdapter(network, image_channels=image_channels, mode=mode)
