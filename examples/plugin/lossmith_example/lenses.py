"""A lens: the luma of images."""

from torch import Tensor

from lossmith import Lens


class Luma(Lens):
    """Luma of RGB images, (N, 1, H, W)."""

    is_linear = True  # the mean of several targets still minimises a squared error through this lens

    @property
    def tiling(self) -> str:
        """Each output position depends on one input position."""
        return "pointwise"

    def forward(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the luma of each map."""
        return {name: 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3] for name, x in maps.items()}
