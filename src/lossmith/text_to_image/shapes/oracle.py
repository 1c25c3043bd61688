"""The judge of pictures of shapes: which clean scene lies nearest, among all there are."""

from typing import final

import numpy as np
import torch
from torch import Tensor

from lossmith.text_to_image.shapes.drawing import coverage
from lossmith.text_to_image.shapes.scenes import (
    COLOURS,
    GROUNDS,
    LAYOUTS,
    Level,
    Scene,
    scenes,
)

__all__ = ["Oracle"]

AT_ONCE = 64
"""How many pictures are compared with all scenes together."""


@final
class Oracle:
    r"""Says what a picture of shapes shows: the scene whose clean drawing is nearest, pixel by pixel.

    .. math:: \arg\min_s \lVert x - r(s) \rVert^2

    It is exact: all scenes of the level are compared. As clean things do not overlap, a drawing's distance is that of
    the empty ground plus a gain for each of its things, so that the 4656 scenes of level "2" cost 480 dot products.

    Args:
        side: The side of the pictures in pixels.
        level: Whose scenes may be shown.

    Attributes:
        scenes: All of them; what is read are their numbers.
    """

    def __init__(self, side: int = 32, *, level: Level = "1") -> None:
        self.side, self.level, self.scenes = side, level, scenes(level)
        things = list(dict.fromkeys(thing for scene in self.scenes for thing in scene.things))
        layouts = list(dict.fromkeys(scene.layout for scene in self.scenes))
        self.grounds = list(dict.fromkeys(scene.ground for scene in self.scenes))
        columns: dict[tuple[object, ...], int] = {}
        rows: list[np.ndarray] = []
        norms: list[float] = []
        for ground in self.grounds:
            empty = np.broadcast_to(np.reshape(GROUNDS[ground], (3, 1, 1)), (3, side, side))
            for layout in layouts:
                for slot, place in enumerate(LAYOUTS[layout]):
                    for thing in things:
                        share = coverage(thing, place, side, np.zeros(7))
                        shown = empty + share * (np.reshape(COLOURS[thing.colour], (3, 1, 1)) - empty)
                        columns[ground, layout, slot, thing] = len(rows)
                        rows.append((shown - empty).ravel())
                        norms.append(float((shown**2).sum() - (empty**2).sum()))
        self.rows, self.norms = torch.from_numpy(np.stack(rows)).float(), torch.tensor(norms)
        self.empty = torch.tensor([GROUNDS[ground] for ground in self.grounds])
        self.columns = torch.tensor([self._columns(scene, columns, len(rows)) for scene in self.scenes])
        self.ground = torch.tensor([self.grounds.index(scene.ground) for scene in self.scenes])

    @staticmethod
    def _columns(scene: Scene, columns: dict[tuple[object, ...], int], none: int) -> list[int]:
        count = len(LAYOUTS[scene.layout])
        things = scene.things if len(scene.things) == count else scene.things * count
        found = [columns[scene.ground, scene.layout, slot, thing] for slot, thing in enumerate(things)]
        return found + [none] * (3 - count)

    def distances(self, pictures: Tensor) -> Tensor:
        """The squared distance of each picture from the clean drawing of each scene, (N, scenes).

        Raises:
            ValueError: Pictures of another size, or with values that are not finite.
        """
        if pictures.ndim != 4 or pictures.shape[1:] != (3, self.side, self.side):
            raise ValueError(
                f"The oracle reads pictures (N, 3, {self.side}, {self.side}); got {tuple(pictures.shape)}."
            )
        found = pictures.detach().float().cpu().clamp(0, 1)
        if not bool(found.isfinite().all()):
            raise ValueError("The oracle reads finite pictures; some have NaN or infinite pixels.")
        gains = self.norms - 2 * found.flatten(1) @ self.rows.T
        gains = torch.cat([gains, gains.new_zeros(len(gains), 1)], dim=1)
        bare = (found[:, None] - self.empty[:, :, None, None]).square().sum(dim=(2, 3, 4))
        return bare[:, self.ground] + gains[:, self.columns].sum(dim=2)

    def read(self, pictures: Tensor) -> list[int]:
        """The number of the scene that each picture shows."""
        return [n for some in torch.split(pictures, AT_ONCE) for n in self.distances(some).argmin(dim=1).tolist()]
