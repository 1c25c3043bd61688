"""Training crops that can also be read as their files store them."""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.utils.data import Dataset

from lossmith.image import convert_stored

__all__ = ["StoredCrops"]


class StoredCrops(Dataset[dict[str, Tensor]], ABC):
    """Base class of training sets whose crops are cut from image files.

    The images of an item are floats. :meth:`read_stored` returns the item with the integers of the files, which take a
    quarter or half of the bytes between processes; :func:`lossmith.image.convert_stored` makes the same floats of them.
    """

    @abstractmethod
    def read_stored(self, index: int) -> dict[str, Tensor]:
        """Return an item whose images are uint8 or uint16 where they are stored so, and floats elsewhere."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return convert_stored(self.read_stored(index))
