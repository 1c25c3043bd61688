"""Accuracy of images of shapes by the exact oracle, with its value for random and for real images."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.text_to_image.shapes.scenes import Scene

__all__ = ["oracle_accuracy", "oracle_ceiling", "oracle_chance"]

JOINT = "joint"


def oracle_accuracy(oracle: ShapesOracle, images: Tensor, scenes: Sequence[Scene]) -> dict[str, float]:
    """Compute the fraction of images in which each attribute is right, and in which the whole scene is, "joint".

    Attributes that are equal in all scenes of the level, such as a white background, are left out. An attribute that
    only some scenes have is averaged over these scenes.

    Args:
        oracle: The classifier.
        images: (N, 3, S, S) in [0, 1].
        scenes: The scene that each image should show.

    Raises:
        ValueError: There is not one scene per image, or the oracle does not support the images.

    Example:
        >>> shapes, oracle = ShapesDataset(16), ShapesOracle(16)
        >>> oracle_accuracy(oracle, shapes.images_of([0, 479]), [shapes.scene(0), shapes.scene(478)])
        {'colour': 1.0, 'shape': 1.0, 'size': 1.0, 'position': 0.5, 'joint': 0.5}
    """
    if not scenes or len(images) != len(scenes):
        raise ValueError(f"There must be one scene per image; got {len(images)} images and {len(scenes)} scenes.")
    predicted = [oracle.scenes[index] for index in oracle.classify(images)]
    is_right: dict[str, list[bool]] = {name: [] for name in _varying_attributes(oracle)}
    for shown, scene in zip(predicted, scenes, strict=True):
        found, expected = shown.attributes, scene.attributes
        for name in is_right.keys() & expected.keys():
            is_right[name].append(found.get(name) == expected[name])
    joint = [shown == scene for shown, scene in zip(predicted, scenes, strict=True)]
    return {name: float(np.mean(each)) for name, each in {**is_right, JOINT: joint}.items() if each}


def oracle_chance(oracle: ShapesOracle, scenes: Sequence[Scene]) -> dict[str, float]:
    """Compute the expected :func:`oracle_accuracy` of images of random scenes of the level."""
    total = len(oracle.scenes)
    chance = {}
    for name in _varying_attributes(oracle):
        counts = Counter(scene.attributes.get(name) for scene in oracle.scenes)
        if values := [scene.attributes[name] for scene in scenes if name in scene.attributes]:
            chance[name] = float(np.mean([counts[value] / total for value in values]))
    return {**chance, JOINT: 1 / total}


def oracle_ceiling(oracle: ShapesOracle, shapes: ShapesDataset, *, count: int = 480, seed: int = 0) -> dict[str, float]:
    """Compute the :func:`oracle_accuracy` of `count` real images, the upper bound for a network."""
    rng = np.random.default_rng(seed)
    captions = [shapes.draw(rng).caption for _ in range(count)]
    return oracle_accuracy(oracle, shapes.images_of(captions, seed=seed), [shapes.scene(each) for each in captions])


def _varying_attributes(oracle: ShapesOracle) -> list[str]:
    """Return the attributes with more than one value among the scenes of the level."""
    values: dict[str, set[object]] = {}
    for scene in oracle.scenes:
        for name, value in scene.attributes.items():
            values.setdefault(name, set()).add(value)
    return [name for name, found in values.items() if len(found) > 1]
