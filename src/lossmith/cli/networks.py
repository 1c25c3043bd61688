"""Which network a command line means, and where it shall run."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossmith.models import Restorer
    from lossmith.tasks import Task

__all__ = ["chosen", "device_of", "file_of", "task_in"]


def chosen(what: str | Path, scale: int | None = None) -> "Restorer":
    """The network in a run folder or in a file of weights, in eval mode.

    Raises:
        ValueError: There is none, or it has another scale than the one that is asked for.
    """
    from lossmith.models import load

    return load(file_of(what), scale=scale)[0]


def file_of(what: str | Path) -> Path:
    """The file of weights in a run folder, or the file itself.

    Raises:
        ValueError: There is none.
    """
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
    return path


def task_in(what: str | Path, scale: int) -> "Task":
    """The task that a network was trained for: a run and a file of lossmith say it, others enlarge.

    Raises:
        ValueError: It is a task that this version does not know.
    """
    import json

    from lossmith.models.files import header
    from lossmith.tasks import TASKS, SuperResolution

    path = Path(what)
    if path.is_dir():
        facts = json.loads((path / "config.json").read_text(encoding="utf-8"))
    else:
        facts = header(path) if path.is_file() else {}
    name = facts.get("task", SuperResolution.name)
    if name not in TASKS:
        raise ValueError(f"{str(what)!r} was trained for {name!r}; there are {', '.join(TASKS)}.")
    return TASKS[name](scale, **facts.get("options", {}))


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
