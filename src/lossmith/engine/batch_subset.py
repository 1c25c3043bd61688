"""A part of a batch: some of its images, or a window of each."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

__all__ = ["BatchSubset"]


@final
@dataclass(frozen=True)
class BatchSubset:
    """Some images of a batch, or a window of each image.

    Args:
        batch_size: The number of images in the batch.
        images: The images: neighbours as a slice, or their indices (n,); None for all.
        window: The rows and columns of the window, as slices or as indices; None for the whole images.
        scale: The factor of the values of these images, for an unbiased estimate of the batch mean.
    """

    batch_size: int
    images: slice | Tensor | None = None
    window: tuple[slice | Tensor, ...] | None = None
    scale: float = 1.0

    @property
    def is_empty(self) -> bool:
        """Whether there is no image."""
        return isinstance(self.images, slice) and self.images.start == self.images.stop

    def select_images(self, tensor: Tensor) -> Tensor:
        """Return the rows (n, ...) of a tensor (N, ...) that belong to the images; a view for neighbours."""
        is_batch = tensor.dim() > 0 and len(tensor) == self.batch_size
        return _select(tensor, 0, self.images) if is_batch else tensor

    def select_rows(self, maps: Tensor) -> Tensor:
        """Return the rows of maps that belong to the images; a lens may give several rows for each image."""
        if len(maps) == self.batch_size:
            return self.select_images(maps)
        return _select(maps.view(self.batch_size, -1, *maps.shape[1:]), 0, self.images).flatten(0, 1)

    def select(self, tensor: Tensor) -> Tensor:
        """Return the images' rows, and the window of them if the tensor is (N, C, H, W)."""
        tensor = self.select_images(tensor)
        if self.window is None or tensor.dim() != 4:
            return tensor
        return _select(_select(tensor, 2, self.window[0]), 3, self.window[1])

    def spread(self, values: Tensor) -> Tensor:
        """Return the scaled values (n,) at their places in the batch, (N,), and 0 for the other images."""
        values = values * self.scale if self.scale != 1 else values
        if self.images is None:
            return values
        if isinstance(self.images, Tensor):
            return values.new_zeros(self.batch_size).index_copy(0, self.images, values)
        before, after = self.images.start, self.batch_size - self.images.stop
        return torch.cat([values.new_zeros(before), values, values.new_zeros(after)])


def _select(tensor: Tensor, dim: int, index: slice | Tensor | None) -> Tensor:
    if index is None:
        return tensor
    if isinstance(index, Tensor):
        return tensor.index_select(dim, index)
    return tensor.narrow(dim, index.start, index.stop - index.start)
