"""Sample images that scikit-image ships, for the demo and for benchmarks.

The images are in the public domain or CC0; scikit-image lists their origins. No module of scikit-image is imported.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

__all__ = ["HELD_OUT_NAMES", "TRAINING_NAMES", "list_sample_images", "list_upscaler_images"]

TRAINING_NAMES = (
    "astronaut.png",
    "brick.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "camera.png",
    "moon.png",
    "retina.jpg",
)
"""The training images. Brick, grass and gravel contain texture; the last three contain flat regions.

Without flat regions in the training set, a network can produce grid artifacts there.
"""

HELD_OUT_NAMES = ("chelsea.png", "rocket.jpg")
"""The held-out images. The right image of the motorcycle is in neither set, because it shows the same scene."""


UPSCALER_NAMES = ("motorcycle_left.png", "coins.png", "camera.png")
"""Images that the trained networks of the package were not trained on; the held-out images they were."""


def list_sample_images() -> tuple[list[Path], list[Path]]:
    """Return the training files and the held-out files.

    Raises:
        ValueError: scikit-image or one of its images is missing.
    """
    return _find_images(TRAINING_NAMES), _find_images(HELD_OUT_NAMES)


def list_upscaler_images() -> list[Path]:
    """Return the files that lossmith-x4 was not trained on.

    Raises:
        ValueError: scikit-image or one of its images is missing.
    """
    return _find_images(UPSCALER_NAMES)


def _find_images(names: Sequence[str]) -> list[Path]:
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("The sample images come with scikit-image, which is missing: pip install -e '.[demo]'.")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ValueError(
            f"scikit-image does not contain its image {missing[0]}; lossmith expects a wheel of version 0.22 or newer: "
            "pip install --upgrade --force-reinstall scikit-image."
        )
    return [folder / name for name in names]
