"""The interface of a task: loss inputs, data, metrics and run-specific hooks."""

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor, nn

from lossmith.formula.loss import Loss
from lossmith.formula.no_data import mask_no_data, mask_terms
from lossmith.tasks.image_task import ImageTask
from lossmith.tasks.options import TaskOptions
from lossmith.tasks.task_data import Batch, EvaluationSet

if TYPE_CHECKING:
    from lightning.pytorch import Callback

__all__ = ["Task"]


class Task(ImageTask):
    """A kind of problem to train and evaluate networks on.

    A task computes the inputs of a loss and chooses no terms. A formula that reads other inputs than
    :attr:`provided_inputs` is rejected before the first step. Training, evaluation and the report know a task only by
    the attributes and methods of this class.

    Args:
        scale: Upscaling factor of the networks.
    """

    provided_inputs: ClassVar[tuple[str, ...]]
    """The names of the loss inputs that :meth:`compute_inputs` returns."""

    baseline_name: ClassVar[str]
    """The name of :meth:`baseline_output` in tables and file names, such as ``"bicubic"``."""

    default_model: ClassVar[str] = "edsr"
    """The name of the network to train if none is given."""

    options: ClassVar[type[TaskOptions]] = TaskOptions
    """The options that the task adds to ``lossmith train`` and ``lossmith tune``."""

    former_options: ClassVar[Mapping[str, str]] = {}
    """Names of constructor arguments in run folders and weights of earlier versions, and their names now."""

    in_channels: ClassVar[int] = 3
    """Number of input channels of the networks for RGB images."""

    is_generative: ClassVar[bool] = False
    """Whether evaluation uses samples of the network instead of restored images."""

    metric_titles: ClassVar[Mapping[str, str]] = {
        "valid": "Fraction of pixels with data",
        "empty_targets": "Targets without data",
    }
    """The titles of :meth:`extra_metrics` in the report."""

    scale: int
    """Upscaling factor of the networks."""

    border: int
    """Width in pixels of the image border that metrics leave out."""

    def __init__(self, scale: int) -> None:
        self.scale = scale

    @classmethod
    def current_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return constructor arguments with the names of earlier versions replaced."""
        return {cls.former_options.get(name, name): value for name, value in options.items()}

    @classmethod
    def metric_border(cls, scale: int) -> int:
        """Return the width in pixels of the image border that metrics leave out at a scale."""
        return 0

    # Loss inputs and predictions

    @abstractmethod
    def compute_inputs(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """Run the network on a batch and return the loss inputs, one for each name in :attr:`provided_inputs`."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of all loss inputs: :attr:`provided_inputs`, and "valid" if samples of the images have no data."""
        return self.provided_inputs if self.pixels.no_data is None else (*self.provided_inputs, "valid")

    def mask_inputs(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return loss inputs in which pixels of the target without data do not count.

        If the images have such samples, NaN in the target is replaced by the prediction, "valid" is the mask of the
        other pixels, (N, 1, H, W), and a "mask" of the task is 0 there too; see :func:`lossmith.mask_no_data`.
        """
        if self.pixels.no_data is None:
            return dict(inputs)
        target, valid = mask_no_data(inputs["target"], inputs["pred"])
        masks = {"mask": inputs["mask"] * valid} if "mask" in inputs else {}
        return {**inputs, "target": target, "valid": valid, **masks}

    def with_inputs(self, names: Collection[str]) -> Self:
        """Return the task for a loss that reads only these inputs; a task may skip the computation of the others."""
        return self

    def constant_inputs(self) -> Mapping[str, Tensor]:
        """Return the inputs that are equal for all batches, (1, C, H, W); their features are computed once."""
        return {}

    def calibration_inputs(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the inputs at which gradient norms are measured, from the inputs of an untrained network."""
        return inputs

    def predict(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """Return the image that is evaluated, (N, C, H, W)."""
        return self.compute_inputs(model, batch)["pred"]

    @abstractmethod
    def baseline_output(self, batch: Batch) -> Tensor:
        """Return the output of a method without a network, (N, C, H, W), as a lower bound."""

    def for_images(
        self, images: str | Path, *, inputs: str | None = None, trained_on: str | None = None, val: str | None = None
    ) -> "Task":
        """Return the task for an evaluation on a folder of images; a task whose inputs are files overrides this method.

        Args:
            images: The folder of target images.
            inputs: The folder of the inputs of these images, if they are files.
            trained_on: The folder of the training images.
            val: The folder of the validation images of the training.

        Raises:
            ValueError: The task computes its inputs, or does not know those of these images.
        """
        if inputs is not None:
            raise ValueError(f"{self.name} computes the inputs from the images; omit --inputs.")
        return self

    # Hooks of training and of the report

    def check_model(self, model: nn.Module) -> None:  # most tasks accept any network
        """Raise ValueError if the network does not suit the task."""

    def prepare_loss(self, loss: Loss, model: nn.Module) -> tuple[Loss, list[str]]:
        """Return the loss with the settings that only the task knows, and warnings to print before training.

        If samples of the images have no data, terms that take a mask get the mask of the valid pixels. A task overrides
        this method to set arguments of terms that depend on the network or on the noise schedule. The
        result is the loss that is trained, saved as loss.json and used when the run resumes.

        Args:
            loss: The loss of the formula, which reads provided inputs only.
            model: The network to train.

        Raises:
            ValueError: The loss does not suit the task or the network.
        """
        return (loss if self.pixels.no_data is None else mask_terms(loss, "valid")), []

    def extra_metrics(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return scalars to log beside the terms.

        Args:
            model: The network.
            inputs: The loss inputs of the current step.

        Returns:
            If samples of the images have no data, the fraction of pixels with data, and the number of targets without
            any, for which masked terms are 0.
        """
        if "valid" not in inputs:
            return {}
        fractions = inputs["valid"].flatten(1).mean(dim=1)
        return {"valid": fractions.mean(), "empty_targets": (fractions == 0).sum()}

    def validation_callbacks(self, folder: Path, evaluation: EvaluationSet, every: int) -> "list[Callback] | None":
        """Return the Lightning callbacks that validate a run; None for the image metrics of restoration.

        Args:
            folder: Folder of the run; validation results are written there.
            evaluation: The held-out examples.
            every: Number of steps between validations.
        """
        return None

    @classmethod
    def report_metrics(cls) -> Sequence[Any]:
        """Return the validation metrics that only this task has, :class:`lossmith.metrics.MetricInfo`."""
        return ()

    @classmethod
    def image_captions(cls, folder: Path) -> Mapping[str, Sequence[Sequence[str]]]:
        """Return the captions of validation images that are grids of images.

        Args:
            folder: Folder of a run.

        Returns:
            For each image, by the name of its folder in sheets/, the captions row by row.
        """
        return {}

    @classmethod
    def report_sections(cls, group: Any) -> list[str]:
        """Return sections of the HTML report that only runs of this task have; they follow the common sections.

        Args:
            group: Runs that were evaluated under one protocol, a :class:`lossmith.report.groups.Group`.
        """
        return []
