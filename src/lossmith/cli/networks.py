"""Which network a command line means, and where it shall run."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossmith.models import Restorer

__all__ = ["chosen", "device_of"]


def chosen(what: str | Path, scale: int | None = None) -> "Restorer":
    """The network in a run folder or in a file of weights, in eval mode.

    Raises:
        ValueError: There is none, or it has another scale than the one that is asked for.
    """
    from lossmith.models import load

    path = Path(what)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(
                f"{str(what)!r} is no run: it has no config.json. Give the --out of a training, or a file."
            )
        path = path / "model.safetensors"
        if not path.is_file():
            raise ValueError(f"The run {str(what)!r} has saved no weights yet; let it reach its first checkpoint.")
    elif not path.exists():
        raise ValueError(
            f"There is no run and no file {str(what)!r}; give the --out of a training, or a file of weights."
        )
    return load(path, scale=scale)[0]


def device_of(name: str) -> str:
    """The device: "auto" is a GPU where there is one.

    Raises:
        ValueError: There is no such device here.
    """
    import torch

    found = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("auto", "cpu", found):
        raise ValueError(f"There is no device {name!r} here; take cpu{'' if found == 'cpu' else ' or cuda'}.")
    return found if name == "auto" else name
