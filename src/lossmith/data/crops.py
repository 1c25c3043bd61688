"""An endless row of training crops in which each one is a function of the seed and its place alone."""

from typing import final

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from lossmith.data.folders import Pictures, Skipped
from lossmith.image import scaled
from lossmith.resize import downsample, trimmed

__all__ = ["Crops"]


@final
class Crops(Dataset[dict[str, Tensor]]):
    """Crops of pictures, and the same crops smaller: ``{"input": (3, h, w), "target": (3, size, size)}``.

    Item k is a pure function of the seed, k and the files: which picture, where, which of the eight flips and turns. It
    keeps no state, has no length and knows no epochs, so a run that goes on reads what the unbroken run would have
    read, with any number of workers. The small crop is cut from what the whole picture becomes when made smaller by
    bicubic interpolation with 8 bits, so that no crop's border is seen in it.

    Args:
        pictures: Where they are cut from, each at least `size` on its smaller side.
        size: The side of a large crop, a multiple of the scale.
        scale: The factor between the two.
        seed: Which row of crops.

    Raises:
        ValueError: The size is no multiple of the scale.
    """

    def __init__(self, pictures: Pictures, size: int, *, scale: int, seed: int = 0) -> None:
        if size < 1 or size % scale:
            raise ValueError(f"A crop wants a multiple of the scale, {scale}, as its side; got {size}.")
        self.pictures, self.size, self.scale, self.seed = pictures, size, scale, seed

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        draw = np.random.default_rng([self.seed, index])
        picture = trimmed(self.pictures[int(draw.integers(len(self.pictures)))], self.scale)
        small = self.size // self.scale
        top, left = (int(draw.integers(side // self.scale - small + 1)) for side in picture.shape[-2:])
        flip, turns = bool(draw.integers(2)), int(draw.integers(4))
        target, low = self._cut(picture, top, left)
        return {"input": _turned(low, flip, turns), "target": _turned(target, flip, turns)}

    def source(self, index: int) -> str:
        """The file that a crop is cut from."""
        draw = np.random.default_rng([self.seed, index])
        return str(self.pictures.file(int(draw.integers(len(self.pictures)))))

    @property
    def skipped(self) -> list[Skipped]:
        """The files that could not be used so far, and why."""
        return self.pictures.skipped

    def _cut(self, picture: Tensor, top: int, left: int) -> tuple[Tensor, Tensor]:
        """The crop at a place given in small pixels, and the same crop made smaller."""
        scale, small, margin = self.scale, self.size // self.scale, 2  # no tap of the kernel lies further off
        above, before = min(top, margin), min(left, margin)
        rows = slice((top - above) * scale, (top + small + margin) * scale)
        columns = slice((left - before) * scale, (left + small + margin) * scale)
        around = scaled(picture[:, rows, columns])
        low = downsample(around[None], scale, eight_bit=True)[0]
        low = low[:, above : above + small, before : before + small]
        target = around[:, above * scale :, before * scale :][:, : self.size, : self.size]
        return target, low


def _turned(image: Tensor, flip: bool, turns: int) -> Tensor:
    return (image.flip(-1) if flip else image).rot90(turns, (-2, -1)).contiguous()
