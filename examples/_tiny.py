"""A tiny network and data for the examples: remove noise from random images."""

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

__all__ = ["NoisyImages", "TinyDenoiser"]


class TinyDenoiser(nn.Module):
    """Two convolutions that predict the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the images without noise."""
        return image - self.body(image)


class NoisyImages(Dataset[tuple[Tensor, Tensor]]):
    """Pairs (noisy, clean) of random smooth images; an item depends on its index only."""

    def __init__(self, count: int = 64, side: int = 32) -> None:
        self.count, self.side = count, side

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index >= self.count:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(index)
        coarse = torch.rand(1, 3, 4, 4, generator=generator)
        clean = nn.functional.interpolate(coarse, size=self.side, mode="bilinear")[0]
        return clean + 0.1 * torch.randn(clean.shape, generator=generator), clean
