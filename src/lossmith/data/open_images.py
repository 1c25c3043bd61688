"""The images of a training set, from files or from shards."""

from collections.abc import Sequence
from pathlib import Path

from lossmith.data.image_folder import ImageFolder
from lossmith.data.image_listing import ImageFiles, list_images
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.data.shards.locate import are_shards, list_shards
from lossmith.data.shards.sequence import ShardedImages, Shards

__all__ = ["find_training_images", "open_images"]


def find_training_images(source: str | Path) -> ImageFiles | Shards:
    """Return the images of a training: the distinct ones of a folder, or shards.

    Raises:
        ValueError: There is no image, or no shard.
    """
    return Shards(list_shards(source)) if are_shards(source) else list_images(source).distinct()


def open_images(
    images: Sequence[Path] | Shards, *, min_size: int = 1, pixels: PixelFormat = RGB_8BIT, seed: int = 0
) -> ImageFolder | ShardedImages:
    """Return the images of files or of shards, from which random crops are cut.

    Args:
        images: The files, or the shards.
        min_size: Smallest side in pixels; smaller images are skipped.
        pixels: The samples of the images.
        seed: Random seed of the order of the shards.

    Raises:
        ValueError: None of the files can be used, or no sample of the first shard.
    """
    if isinstance(images, Shards):
        return ShardedImages(images, min_size=min_size, pixels=pixels, seed=seed)
    return ImageFolder(images, min_size=min_size, pixels=pixels)
