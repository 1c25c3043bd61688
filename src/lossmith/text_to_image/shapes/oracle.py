"""An exact classifier of images of shapes: nearest neighbour among the clean renderings of all scenes."""

from typing import final

import numpy as np
import torch
from torch import Tensor

from lossmith.text_to_image.shapes.rendering import compute_coverage
from lossmith.text_to_image.shapes.scenes import BACKGROUNDS, COLOURS, LAYOUTS, Scene, ShapesLevel, list_scenes

__all__ = ["ShapesOracle"]

BATCH_SIZE = 64
"""Images that are compared with all scenes at once."""
MAX_SLOTS = 3
"""Largest number of positions of a layout."""


@final
class ShapesOracle:
    r"""Classifies an image of shapes as the scene whose clean rendering is nearest in squared distance.

    .. math:: \arg\min_s \lVert x - r(s) \rVert^2

    The search is exact. Clean objects do not overlap, so that the distance to a rendering is the distance to the empty
    background plus a term for each object: the 4656 scenes of level "2" cost 480 dot products.

    Args:
        side: Side of the images in pixels.
        level: The level of the scenes.

    Attributes:
        scenes: All scenes; classes are indices into this list.
    """

    def __init__(self, side: int = 32, *, level: ShapesLevel = "1") -> None:
        self.side, self.level, self.scenes = side, level, list_scenes(level)
        objects = list(dict.fromkeys(each for scene in self.scenes for each in scene.objects))
        layouts = list(dict.fromkeys(scene.layout for scene in self.scenes))
        backgrounds = list(dict.fromkeys(scene.background for scene in self.scenes))
        columns: dict[tuple[object, ...], int] = {}
        rows: list[np.ndarray] = []
        norms: list[float] = []
        for background in backgrounds:
            empty = np.broadcast_to(np.reshape(BACKGROUNDS[background], (3, 1, 1)), (3, side, side))
            for layout in layouts:
                for slot, centre in enumerate(LAYOUTS[layout]):
                    for each in objects:
                        coverage = compute_coverage(each, centre, side, np.zeros(7))
                        image = empty + coverage * (np.reshape(COLOURS[each.colour], (3, 1, 1)) - empty)
                        columns[background, layout, slot, each] = len(rows)
                        rows.append((image - empty).ravel())
                        norms.append(float((image**2).sum() - (empty**2).sum()))
        self.rows, self.norms = torch.from_numpy(np.stack(rows)).float(), torch.tensor(norms)
        self.backgrounds = torch.tensor([BACKGROUNDS[background] for background in backgrounds])
        self.columns = torch.tensor([self._scene_columns(scene, columns, len(rows)) for scene in self.scenes])
        self.background_index = torch.tensor([backgrounds.index(scene.background) for scene in self.scenes])

    @staticmethod
    def _scene_columns(scene: Scene, columns: dict[tuple[object, ...], int], padding: int) -> list[int]:
        """Return the columns of a scene's objects, padded to MAX_SLOTS."""
        count = len(LAYOUTS[scene.layout])
        objects = scene.objects if len(scene.objects) == count else scene.objects * count
        found = [columns[scene.background, scene.layout, slot, each] for slot, each in enumerate(objects)]
        return found + [padding] * (MAX_SLOTS - count)

    def distances(self, images: Tensor) -> Tensor:
        """Return the squared distance of each image from the clean rendering of each scene, (N, scenes).

        Raises:
            ValueError: The images have another size, or non-finite values.
        """
        if images.ndim != 4 or images.shape[1:] != (3, self.side, self.side):
            raise ValueError(
                f"ShapesOracle takes images of shape (N, 3, {self.side}, {self.side}); got {tuple(images.shape)}."
            )
        clipped = images.detach().float().cpu().clamp(0, 1)
        if not bool(clipped.isfinite().all()):
            raise ValueError("ShapesOracle takes finite images; some pixels are NaN or infinite.")
        terms = self.norms - 2 * clipped.flatten(1) @ self.rows.T
        terms = torch.cat([terms, terms.new_zeros(len(terms), 1)], dim=1)  # the last column is the padding
        empty = (clipped[:, None] - self.backgrounds[:, :, None, None]).square().sum(dim=(2, 3, 4))
        return empty[:, self.background_index] + terms[:, self.columns].sum(dim=2)

    def classify(self, images: Tensor) -> list[int]:
        """Return the index of the nearest scene of each image."""
        parts = (self.distances(part).argmin(dim=1) for part in torch.split(images, BATCH_SIZE))
        return [index for part in parts for index in part.tolist()]
