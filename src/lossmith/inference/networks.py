"""The network and the task that a command line names."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossmith.models import Restorer
    from lossmith.tasks import Task

__all__ = [
    "find_weights_file",
    "load_evaluation_task",
    "load_image_network",
    "load_task",
    "load_trained_network",
    "select_weights",
]


def load_trained_network(source: str | Path, scale: int | None = None) -> "Restorer":
    """Return the network of a run folder or of a file of weights, in eval mode.

    Raises:
        ValueError: There is no network, or it has another scale than the given one.
    """
    from lossmith.models import load_restorer

    return load_restorer(find_weights_file(source), scale=scale)[0]


def load_image_network(source: str | Path) -> "Restorer":
    """Return a network that needs nothing but an image, in eval mode.

    Raises:
        ValueError: There is no network, or it takes a mask.
    """
    model = load_trained_network(source)
    if model.in_channels != model.image_channels:
        raise ValueError(f"{str(source)!r} takes a mask beside the image; use lossmith inpaint.")
    return model


def find_weights_file(source: str | Path) -> Path:
    """Return the file of weights in a run folder, the file itself, or that of a network of the package.

    Raises:
        ValueError: There is no such run or file.
    """
    from lossmith.models.shipped import SHIPPED_NETWORKS, resolve_weights

    path = resolve_weights(source)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(
                f"{str(source)!r} is not a run: it has no config.json. Give the --out of a training, or a file of "
                "weights."
            )
        path = path / "model.safetensors"
        if not path.is_file():
            raise ValueError(f"The run {str(source)!r} has no weights yet; they are saved with its first checkpoint.")
    elif not path.exists():
        raise ValueError(
            f"There is no run or file {str(source)!r}. Give the --out of a training, a file of weights, or a network "
            f"of the package: {', '.join(SHIPPED_NETWORKS)}."
        )
    return path


def select_weights(source: str, weights: str | None) -> str:
    """Return the file of the best or of the last weights of a run, and print which by default; other sources as given.

    By default, a run with a rule that selects the best weights is used with these.

    Args:
        source: The run folder, or another name of a network.
        weights: "best", "last", or None for the default.

    Raises:
        ValueError: The best weights of a run are requested, and there are none.
    """
    import json
    import sys

    from lossmith.models.files import read_header

    folder = Path(source)
    if not (folder / "config.json").is_file():
        if weights is not None:
            raise ValueError(f"--weights {weights} needs a run folder; got {source!r}.")
        return source
    best = folder / "best.safetensors"
    rule = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("select")
    if weights == "last" or (weights is None and not best.is_file()):
        return str(find_weights_file(source))
    if not best.is_file():
        reason = "no validation was completed yet" if rule else 'it was trained without --select "METRIC, BOUNDS"'
        raise ValueError(f"The run {source!r} has no best weights: {reason}. Use --weights last.")
    if weights is None:
        step = read_header(best).get("step")
        print(f"Weights of step {step}, the best by {rule!r}; --weights last uses the last.", file=sys.stderr)
    return str(best)


def load_task(source: str | Path, scale: int) -> "Task":
    """Return the task of a network: the one that its run or file names, otherwise super-resolution.

    Raises:
        ValueError: The task is not installed.
    """
    import json

    from lossmith.models.files import read_header
    from lossmith.tasks import TASKS, SuperResolution

    path = Path(source)
    if path.is_dir():
        facts = json.loads((path / "config.json").read_text(encoding="utf-8"))
    else:
        facts = read_header(path) if path.is_file() else {}
    name = facts.get("task", SuperResolution.name)
    if name not in TASKS:
        raise ValueError(f"{str(source)!r} was trained for the task {name!r}; the tasks are {', '.join(TASKS)}.")
    task: Task = TASKS[name](scale, **TASKS[name].current_options(facts.get("options", {})))
    return task.with_pixels_of(path / "model.safetensors" if path.is_dir() else path)


def load_evaluation_task(source: str | Path, scale: int, images: str | Path, inputs: str | None) -> "Task":
    """Return the task of a network for an evaluation on a folder of images.

    Args:
        source: The run folder or the file of weights.
        scale: Upscaling factor of the network.
        images: The folder of target images.
        inputs: The folder of their inputs, if they are files.

    Raises:
        ValueError: The task is not installed, or the inputs of the images are not known.
    """
    import json

    path = Path(source)
    config = (path if path.is_dir() else path.parent) / "config.json"
    try:
        trained = json.loads(config.read_text(encoding="utf-8")) if path.exists() and config.is_file() else {}
    except ValueError:  # a file of something else beside the weights
        trained = {}
    folders = {"trained_on": trained.get("images"), "val": trained.get("val")} if "lossmith" in trained else {}
    return load_task(source, scale).for_images(images, inputs=inputs, **folders)
