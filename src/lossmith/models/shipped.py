"""Networks whose weights are part of the package, by name."""

from pathlib import Path

__all__ = ["DEFAULT_UPSCALER", "SHIPPED_NETWORKS", "find_shipped_file", "resolve_weights"]

DEFAULT_UPSCALER = "lossmith-x4"
"""The network of ``lossmith restore`` and ``lossmith demo`` if none is named."""

SHIPPED_NETWORKS = {
    DEFAULT_UPSCALER: "x4 upscaler with a knob from accuracy to realism",
    "lossmith-x2": "x2 upscaler with the same knob",
}
"""The networks by name, with a description."""

LICENCE = "Apache-2.0"
"""The licence of the weights, that of the package."""

FOLDER = Path(__file__).parent / "weights"


def find_shipped_file(name: str) -> Path:
    """Return the file of a network of the package.

    Raises:
        ValueError: The installation lacks the file.
    """
    file = FOLDER / f"{name}.safetensors"
    if not file.is_file():
        raise ValueError(
            f"The network {name!r} is part of the package, but {str(file)!r} is missing; reinstall lossmith, or give a "
            "run or a file of weights."
        )
    return file


def resolve_weights(source: str | Path) -> Path:
    """Return the file of weights that a path or the name of a network of the package stands for; a path comes first.

    Raises:
        ValueError: The network is part of the package, and the installation lacks its file.
    """
    path = Path(source)
    return find_shipped_file(str(source)) if str(source) in SHIPPED_NETWORKS and not path.exists() else path
