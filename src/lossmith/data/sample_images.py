"""Sample images that scikit-image ships, for the demo and for benchmarks.

The images are in the public domain or CC0; scikit-image lists their origins. No module of scikit-image is imported.
"""

import importlib.util
from pathlib import Path

__all__ = ["HELD_OUT_NAMES", "TRAINING_NAMES", "list_sample_images"]

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


def list_sample_images() -> tuple[list[Path], list[Path]]:
    """Return the training files and the held-out files.

    Raises:
        ValueError: scikit-image or one of its images is missing.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("The sample images come with scikit-image, which is missing: pip install -e '.[demo]'.")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    missing = [name for name in TRAINING_NAMES + HELD_OUT_NAMES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"scikit-image does not contain its image {missing[0]}; lossmith expects a wheel of version 0.22 or newer: "
            "pip install --upgrade --force-reinstall scikit-image."
        )
    return [folder / name for name in TRAINING_NAMES], [folder / name for name in HELD_OUT_NAMES]
