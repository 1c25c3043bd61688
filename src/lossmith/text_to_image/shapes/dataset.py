"""Coloured shapes with captions, drawn as they are asked for: data that needs no download and has an exact judge."""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from lossmith.data.folders import Skipped
from lossmith.text_to_image.captions.items import Drawn
from lossmith.text_to_image.shapes.drawing import drawn
from lossmith.text_to_image.shapes.scenes import (
    PHRASINGS,
    Level,
    Scene,
    phrasing,
    scenes,
)
from lossmith.text_to_image.shapes.split import checked_split, hold_out

__all__ = ["Shapes"]


@final
class Shapes:
    """Pictures of coloured shapes and captions that say what is in them, as many as one likes.

    Level "1" is one thing on white, 480 scenes; "1b" has three grounds, which the captions name; "2" has two things and
    how they stand to each other, or one to three equal ones. A picture's things are moved, scaled, turned and coloured
    a little by chance. Masks are exact.

    Args:
        side: The side of the pictures in pixels, at least 16.
        level: Which scenes there are.
        phrasings: Which of the four ways to word them are used, 0 to 3.
        of: The scenes, where not all of the level's are wanted.

    Attributes:
        captions: One for each scene and way, the ways of a scene beside each other.
        meanings: For each caption its scene's number among all of the level.
        objects: How many masks each picture has: 2 at level "2", else 1.

    Raises:
        ValueError: A picture too small, an unknown level or way, or no scenes.

    Example:
        >>> shapes = Shapes(side=32)
        >>> len(shapes.captions), shapes.captions[7]
        (480, 'a large red circle on the right')
        >>> shapes.draw(np.random.default_rng(0)).picture.shape
        torch.Size([3, 32, 32])
    """

    def __init__(
        self,
        side: int = 32,
        *,
        level: Level = "1",
        phrasings: Sequence[int] = (0,),
        of: Sequence[Scene] | None = None,
    ) -> None:
        if side < 16:
            raise ValueError(f"Shapes wants pictures of at least 16 px a side; got {side}.")
        if not phrasings or not set(phrasings) <= set(range(PHRASINGS)):
            raise ValueError(f"Shapes knows the phrasings 0 to {PHRASINGS - 1}; got {phrasings!r}.")
        self.side, self.level, self.phrasings = side, level, tuple(phrasings)
        self.objects = 2 if level == "2" else 1
        known = {scene: number for number, scene in enumerate(scenes(level))}
        self.scenes = list(known) if of is None else list(of)
        if not self.scenes or not set(self.scenes) <= set(known):
            raise ValueError(f"Shapes wants some scenes of its level, {level!r}; got {self.scenes[:3]!r}.")
        self.meanings = [known[scene] for scene in self.scenes for _ in self.phrasings]
        worded = [phrasing(scene, way, grounds=level == "1b") for scene in self.scenes for way in self.phrasings]
        self.captions = [caption for caption, _ in worded]
        self.phrases = [phrases for _, phrases in worded]

    def __len__(self) -> int:
        """How many captions there are."""
        return len(self.captions)

    @property
    def skipped(self) -> list[Skipped]:
        """Nothing: there are no files."""
        return []

    def scene(self, caption: int) -> Scene:
        """What a caption says."""
        return self.scenes[caption // len(self.phrasings)]

    def draw(self, chance: np.random.Generator) -> Drawn:
        """A scene at random, a way to word it, and a picture of it; pairs and counts are equally frequent."""
        kind = self._kinds[int(chance.integers(len(self._kinds)))]
        number = kind[int(chance.integers(len(kind)))]
        caption = number * len(self.phrasings) + int(chance.integers(len(self.phrasings)))
        return self.drawn(caption, chance)

    def drawn(self, caption: int, chance: np.random.Generator | None = None) -> Drawn:
        """A picture of what a caption says; without chance a clean one."""
        picture, found = drawn(self.scene(caption), self.side, chance)
        masks = torch.zeros(self.objects, self.side, self.side)
        masks[: len(found)] = torch.from_numpy(found)
        phrases = [*self.phrases[caption], *[(0, 0)] * (self.objects - len(found))]
        return Drawn(torch.from_numpy(picture).float(), masks, caption, self.meanings[caption], phrases)

    def pictures(self, captions: Sequence[int], *, seed: int = 0) -> Tensor:
        """Real pictures of captions, each with its own chance, (N, 3, S, S): what a judge's ceiling is measured on."""
        return torch.stack(
            [self.drawn(caption, np.random.default_rng([seed, i])).picture for i, caption in enumerate(captions)]
        )

    def split(
        self, share: float = 0.15, *, by: Literal["thing", "scene"] = "thing", seed: int = 0
    ) -> tuple["Shapes", "Shapes"]:
        """Parts them into those to train on and those held out, whose every single value is trained on.

        Args:
            share: How much to hold out: of the pairs of colour and shape, or of the scenes.
            by: What is never trained on: a "thing", some pairs of colour and shape and every scene with one, or a
                "scene" as a whole, of which the things are known.
            seed: Which.

        Raises:
            ValueError: So much cannot be held out.
        """
        train, held = hold_out(self.scenes, share, by=by, seed=seed)
        checked_split(train, held)
        return self._only(train), self._only(held)

    def _only(self, some: Sequence[Scene]) -> "Shapes":
        return Shapes(self.side, level=self.level, phrasings=self.phrasings, of=some)

    @cached_property
    def _kinds(self) -> list[list[int]]:
        """The numbers of the scenes with pairs, and of the others."""
        kinds = [
            [i for i, scene in enumerate(self.scenes) if (len(scene.things) == 2) == pairs] for pairs in (True, False)
        ]
        return [kind for kind in kinds if kind]
