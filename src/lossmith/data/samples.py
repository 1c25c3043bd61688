"""Pictures that ship with a declared dependency, scikit-image: what the demo trains on and is judged by.

They are public domain or CC0 (scikit-image's own list says whose they are). Nothing of scikit-image is imported.
"""

import importlib.util
from pathlib import Path

__all__ = ["HELD_OUT", "TRAINING", "samples"]

TRAINING = (
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
"""What is trained on: brick, grass and gravel are rich in texture; the last three have flat places.

Without such places a network may draw a grid there, since nothing that it trains on says otherwise.
"""

HELD_OUT = ("chelsea.png", "rocket.jpg")
"""What is never trained on. The right picture of the motorcycle is in neither: it shows what the left one shows."""


def samples() -> tuple[list[Path], list[Path]]:
    """The files to train on, and those held out.

    Raises:
        ValueError: scikit-image, or one of its pictures, is not there.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("The sample pictures come with scikit-image, which is missing: pip install 'lossmith[demo]'.")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    missing = [name for name in TRAINING + HELD_OUT if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"scikit-image lacks its picture {missing[0]}; this lossmith knows the wheels from 0.22 on: "
            "pip install --upgrade --force-reinstall scikit-image."
        )
    return [folder / name for name in TRAINING], [folder / name for name in HELD_OUT]
