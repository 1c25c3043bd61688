"""The loggers of a run, each in its local mode unless its environment says otherwise."""

import hashlib
import os
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, final, get_args

import numpy as np
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from lossmith.distributed import rank_and_world_size
from lossmith.train.folder import RunFolder
from lossmith.train.log import StepCallback
from lossmith.train.module import TrainingModule
from lossmith.train.tensorboard import tensorboard_logger

__all__ = [
    "ImageLogger",
    "LoggerName",
    "TrackioLogger",
    "build_loggers",
    "check_loggers",
    "finish_loggers",
    "log_configuration",
]

LoggerName = Literal["tensorboard", "wandb", "trackio", "mlflow", "csv"]

PROJECT = "lossmith"
"""The project, or experiment, of all runs."""


def check_loggers(names: Sequence[str]) -> tuple[str, ...]:
    """Return the loggers without repetitions if they are known and installed.

    Args:
        names: Their names; a name may be a list with commas.

    Raises:
        ValueError: A logger is unknown or not installed.
    """
    found = tuple(dict.fromkeys(name.strip() for each in names for name in each.split(",") if name.strip()))
    for name in found:
        if name not in get_args(LoggerName):
            raise ValueError(f"logger must be one of {', '.join(get_args(LoggerName))}; got {name!r}.")
        if name != "csv" and find_spec(name) is None:
            package = "mlflow-skinny" if name == "mlflow" else name
            raise ValueError(f"The logger {name} is not installed: pip install {package}, or use another --logger.")
    return found


def build_loggers(names: Sequence[str], folder: RunFolder, *, start: int) -> list[Logger]:
    """Return the loggers of a run, which write to its folder.

    Weights & Biases is offline unless WANDB_MODE says otherwise, and MLflow writes to MLFLOW_TRACKING_URI if it is set.
    Trackio has one folder for all runs, TRACKIO_DIR, which its dashboard reads.

    Args:
        names: The names of the loggers, checked.
        folder: The run folder.
        start: The step from which the run continues.
    """
    builders: dict[str, Callable[[Path, int], Logger]] = {
        "tensorboard": lambda path, start: tensorboard_logger(path, start=start),
        "wandb": _wandb_logger,
        "trackio": lambda path, start: TrackioLogger(path.name, resume=start > 0),
        "mlflow": _mlflow_logger,
        "csv": lambda path, start: CSVLogger(path, name="csv", version=f"from_step_{start:08d}"),
    }
    return [builders[name](folder.path.absolute(), start) for name in names]


def log_configuration(loggers: Sequence[Logger], configuration: Mapping[str, Any], *, is_resumed: bool) -> None:
    """Log the settings of a run, among them the formula; in a resumed run not to MLflow, which refuses changes."""
    flat = {
        name: value if isinstance(value, bool | int | float) else str(value) for name, value in configuration.items()
    }
    for logger in loggers:
        if is_resumed and isinstance(logger, MLFlowLogger):
            continue
        logger.log_hyperparams(flat)  # type: ignore[arg-type]


def finish_loggers(loggers: Sequence[Logger]) -> None:
    """End the runs that Lightning leaves open until the process ends."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and rank_and_world_size()[0] == 0:
            logger.experiment.finish()


def _wandb_logger(path: Path, start: int) -> Logger:
    (path / "wandb").mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        name=path.name,
        project=PROJECT,
        save_dir=path,
        version=hashlib.sha256(str(path).encode()).hexdigest()[:16],  # so that a resumed run has the same id
        offline=os.environ.get("WANDB_MODE", "offline") == "offline",
    )


def _mlflow_logger(path: Path, start: int) -> Logger:
    file = path / "mlflow" / "run_id"
    file.parent.mkdir(parents=True, exist_ok=True)
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{path / 'mlflow' / 'mlflow.db'}")
    known = file.read_text(encoding="utf-8") if start and file.is_file() else None
    artifacts = None if "MLFLOW_TRACKING_URI" in os.environ else (path / "mlflow" / "artifacts").as_uri()
    logger = MLFlowLogger(PROJECT, run_name=path.name, tracking_uri=uri, run_id=known, artifact_location=artifacts)
    if logger.run_id is not None:  # None in other processes than the first
        file.write_text(logger.run_id, encoding="utf-8")
    return logger


@final
class TrackioLogger(Logger):
    """A logger to Trackio, which Lightning lacks.

    Args:
        run_name: The name of the run.
        resume: Whether to continue the run of this name.
    """

    def __init__(self, run_name: str, *, resume: bool) -> None:
        super().__init__()
        self.run_name, self.resume = run_name, "allow" if resume else "never"
        self.configuration: dict[str, Any] = {}
        self._run: Any = None

    @property
    def name(self) -> str:
        """The project."""
        return PROJECT

    @property
    def version(self) -> str:
        """The name of the run."""
        return self.run_name

    @property
    def experiment(self) -> Any:
        """The run of Trackio, started at the first use."""
        if self._run is None:
            options = {"auto_log_cpu": False, "auto_log_gpu": False, "embed": False}
            self._run = import_module("trackio").init(
                project=PROJECT, name=self.run_name, resume=self.resume, config=self.configuration, **options
            )
        return self._run

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Keep the configuration for the start of the run."""
        self.configuration = dict(params) if isinstance(params, dict) else vars(params)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log scalars."""
        self.experiment.log(metrics, step=step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Finish the run."""
        if self._run is not None:
            self._run.finish()
            self._run = None


@final
class ImageLogger(StepCallback):
    """A callback that sends the image sheets of a validation to the loggers that show images.

    Args:
        folder: The run folder.
        every: Steps between validations.
    """

    def __init__(self, folder: RunFolder, *, every: int) -> None:
        self.folder, self.every = folder, every

    def after_step(self, trainer: Trainer, module: TrainingModule, step: int) -> None:
        """Log the images that the validation of this step has written."""
        if not trainer.is_global_zero or not (step % self.every == 0 or step >= trainer.max_steps):
            return
        for file in sorted((self.folder.path / "sheets").glob(f"*/step_{step:08d}.png")):
            with Image.open(file) as image:
                for logger in trainer.loggers:
                    log_image(logger, f"validation/{file.parent.name}", image.convert("RGB"), step)


def log_image(logger: Logger, name: str, image: Image.Image, step: int) -> None:
    """Log an image; a logger that shows no images ignores it."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, np.asarray(image), step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [image], step=step)
    elif isinstance(logger, MLFlowLogger):
        assert logger.run_id is not None
        logger.experiment.log_image(logger.run_id, image, key=name.replace("/", "."), step=step)
    elif isinstance(logger, TrackioLogger):
        logger.experiment.log({name: import_module("trackio").Image(image)}, step=step)
