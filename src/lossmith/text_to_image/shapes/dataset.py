"""Synthetic images of coloured shapes with captions and exact masks."""

from collections.abc import Sequence
from functools import cached_property
from typing import final

import numpy as np
import torch
from torch import Tensor

from lossmith._checks import check_integer
from lossmith.data.image_files import SkippedFile
from lossmith.text_to_image.captions.training_set import CaptionedSample
from lossmith.text_to_image.shapes.rendering import render_scene
from lossmith.text_to_image.shapes.scenes import NUM_PHRASINGS, Scene, ShapesLevel, describe_scene, list_scenes
from lossmith.text_to_image.shapes.split import SplitBy, check_scene_split, split_scenes

__all__ = ["ShapesDataset"]


@final
class ShapesDataset:
    """An endless data set of images of coloured shapes with captions, rendered on demand.

    Level "1" has one object on white, 480 scenes; "1b" has three backgrounds, which the captions name; "2" has two
    objects in a spatial relation, or one to three equal objects. Objects are shifted, scaled, rotated and coloured at
    random within small bounds. Masks are exact.

    Args:
        side: Side of the images in pixels, at least 16.
        level: The level of the scenes.
        phrasings: Which of the four phrasings of a scene are used, 0 to 3.
        scenes: A subset of the level's scenes; None for all.

    Attributes:
        captions: One caption for each scene and phrasing; the phrasings of a scene are consecutive.
        groups: For each caption the index of its scene among all scenes of the level.
        num_objects: Number of masks of each image: 2 at level "2", else 1.

    Raises:
        ValueError: The side is too small, the level or a phrasing is unknown, or there are no scenes.

    Example:
        >>> shapes = ShapesDataset(side=32)
        >>> len(shapes.captions), shapes.captions[7]
        (480, 'a large red circle on the right')
        >>> shapes.draw(np.random.default_rng(0)).image.shape
        torch.Size([3, 32, 32])
    """

    def __init__(
        self,
        side: int = 32,
        *,
        level: ShapesLevel = "1",
        phrasings: Sequence[int] = (0,),
        scenes: Sequence[Scene] | None = None,
    ) -> None:
        check_integer("ShapesDataset side", side, low=16)
        if not phrasings or not set(phrasings) <= set(range(NUM_PHRASINGS)):
            raise ValueError(f"ShapesDataset phrasings must be of 0 to {NUM_PHRASINGS - 1}; got {phrasings!r}.")
        self.side, self.level, self.phrasings = side, level, tuple(phrasings)
        self.num_objects = 2 if level == "2" else 1
        known = {scene: index for index, scene in enumerate(list_scenes(level))}
        self.scenes = list(known) if scenes is None else list(scenes)
        if not self.scenes or not set(self.scenes) <= set(known):
            raise ValueError(
                f"ShapesDataset scenes must be at least one scene of level {level!r}; got {self.scenes[:3]!r}."
            )
        self.groups = [known[scene] for scene in self.scenes for _ in self.phrasings]
        described = [
            describe_scene(scene, phrasing, with_background=level == "1b")
            for scene in self.scenes
            for phrasing in self.phrasings
        ]
        self.captions = [caption for caption, _ in described]
        self.phrases = [phrases for _, phrases in described]

    def __len__(self) -> int:
        """Return the number of captions."""
        return len(self.captions)

    @property
    def skipped(self) -> list[SkippedFile]:
        """An empty list: there are no files."""
        return []

    def scene(self, caption: int) -> Scene:
        """Return the scene of a caption index."""
        return self.scenes[caption // len(self.phrasings)]

    def draw(self, rng: np.random.Generator) -> CaptionedSample:
        """Return a random scene with a random phrasing; scenes with pairs and other scenes are equally frequent."""
        family = self._scene_families[int(rng.integers(len(self._scene_families)))]
        index = family[int(rng.integers(len(family)))]
        caption = index * len(self.phrasings) + int(rng.integers(len(self.phrasings)))
        return self.render(caption, rng)

    def render(self, caption: int, rng: np.random.Generator | None = None) -> CaptionedSample:
        """Return an image of a caption index; clean without `rng`, see :func:`render_scene`."""
        image, coverage = render_scene(self.scene(caption), self.side, rng)
        masks = torch.zeros(self.num_objects, self.side, self.side)
        masks[: len(coverage)] = torch.from_numpy(coverage)
        phrases = [*self.phrases[caption], *[(0, 0)] * (self.num_objects - len(coverage))]
        return CaptionedSample(torch.from_numpy(image).float(), masks, caption, self.groups[caption], phrases)

    def images_of(self, captions: Sequence[int], *, seed: int = 0) -> Tensor:
        """Return an image of each caption index, each with random numbers of its own, (N, 3, S, S)."""
        return torch.stack(
            [self.render(caption, np.random.default_rng([seed, i])).image for i, caption in enumerate(captions)]
        )

    def split(
        self, fraction: float = 0.15, *, by: SplitBy = "object", seed: int = 0
    ) -> tuple["ShapesDataset", "ShapesDataset"]:
        """Split into training scenes and held-out scenes; every single value of a held-out scene is trained on.

        Args:
            fraction: Fraction of the pairs of colour and shape, or of the scenes, to hold out.
            by: "object" holds out pairs of colour and shape, and every scene with such an object; "scene" holds out
                scenes whose objects are known from other scenes.
            seed: Random seed of the split.

        Raises:
            ValueError: So much cannot be held out.
        """
        train, held_out = split_scenes(self.scenes, fraction, by=by, seed=seed)
        check_scene_split(train, held_out)
        return self._subset(train), self._subset(held_out)

    def _subset(self, scenes: Sequence[Scene]) -> "ShapesDataset":
        return ShapesDataset(self.side, level=self.level, phrasings=self.phrasings, scenes=scenes)

    @cached_property
    def _scene_families(self) -> list[list[int]]:
        """The indices of the scenes with pairs, and of the others."""
        families = [
            [i for i, scene in enumerate(self.scenes) if (len(scene.objects) == 2) == has_pair]
            for has_pair in (True, False)
        ]
        return [family for family in families if family]
