"""A network: a small residual CNN."""

from torch import Tensor, nn

from lossmith.models import Restorer


class ResidualCNN(Restorer):
    """A small residual network.

    Args:
        scale: 1.
        channels: Number of channels of each layer.
    """

    def __init__(self, scale: int = 1, *, channels: int = 16) -> None:
        if scale != 1:
            raise ValueError(f"residual scale must be 1; got {scale!r}.")
        super().__init__(scale, receptive_radius=2, spec={"name": "residual", "channels": channels})
        self.body = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored images."""
        return image + self.body(image)
