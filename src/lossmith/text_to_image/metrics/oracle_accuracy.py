"""How often pictures of shapes show what their captions ask for, beside what chance gives and the best there can be."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from lossmith.text_to_image.shapes.dataset import ShapesDataset
from lossmith.text_to_image.shapes.oracle import ShapesOracle
from lossmith.text_to_image.shapes.scenes import Scene

__all__ = ["oracle_accuracy", "oracle_ceiling", "oracle_chance"]

JOINT = "joint"


def oracle_accuracy(oracle: ShapesOracle, pictures: Tensor, wanted: Sequence[Scene]) -> dict[str, float]:
    """The share of pictures in which each attribute is right, and all of the scene, as "joint".

    Attributes that are alike in all scenes of the level, such as a white ground, are left out; one that only some
    scenes have counts where it is wanted.

    Args:
        oracle: Who reads the pictures.
        pictures: (N, 3, S, S) in [0, 1].
        wanted: What each shall show.

    Raises:
        ValueError: Not one scene a picture, or pictures that the oracle does not read.

    Example:
        >>> shapes, oracle = Shapes(16), Oracle(16)
        >>> oracle_accuracy(oracle, shapes.pictures([0, 479]), [shapes.scene(0), shapes.scene(478)])
        {'colour': 1.0, 'shape': 1.0, 'size': 1.0, 'position': 0.5, 'joint': 0.5}
    """
    if not wanted or len(pictures) != len(wanted):
        raise ValueError(
            f"The oracle wants one scene a picture; got {len(pictures)} pictures and {len(wanted)} scenes."
        )
    read = [oracle.scenes[number] for number in oracle.read(pictures)]
    right: dict[str, list[bool]] = {name: [] for name in _varying_attributes(oracle)}
    for shown, scene in zip(read, wanted, strict=True):
        found, asked = shown.attributes, scene.attributes
        for name in right.keys() & asked.keys():
            right[name].append(found.get(name) == asked[name])
    joint = [shown == scene for shown, scene in zip(read, wanted, strict=True)]
    return {name: float(np.mean(each)) for name, each in {**right, JOINT: joint}.items() if each}


def oracle_chance(oracle: ShapesOracle, wanted: Sequence[Scene]) -> dict[str, float]:
    """What :func:`oracle_accuracy` gives, on average, for pictures of any of the level's scenes at random."""
    total = len(oracle.scenes)
    chance = {}
    for name in _varying_attributes(oracle):
        counts = Counter(scene.attributes.get(name) for scene in oracle.scenes)
        if values := [scene.attributes[name] for scene in wanted if name in scene.attributes]:
            chance[name] = float(np.mean([counts[value] / total for value in values]))
    return {**chance, JOINT: 1 / total}


def oracle_ceiling(oracle: ShapesOracle, shapes: ShapesDataset, *, count: int = 480, seed: int = 0) -> dict[str, float]:
    """What :func:`oracle_accuracy` gives for real pictures of a row of captions: no network can be asked for more."""
    chance = np.random.default_rng(seed)
    captions = [shapes.draw(chance).caption for _ in range(count)]
    return oracle_accuracy(oracle, shapes.pictures(captions, seed=seed), [shapes.scene(each) for each in captions])


def _varying_attributes(oracle: ShapesOracle) -> list[str]:
    """The attributes that tell scenes of the level apart."""
    values: dict[str, set[object]] = {}
    for scene in oracle.scenes:
        for name, value in scene.attributes.items():
            values.setdefault(name, set()).add(value)
    return [name for name, found in values.items() if len(found) > 1]
