"""The interface of a task: loss inputs, data, metrics and run-specific hooks."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor, nn

from lossmith.data import ImageFiles, SkippedFile, decode_image, list_images
from lossmith.data.example import MIN_SIZE
from lossmith.data.find_pixels import PixelOptions, find_pixel_format
from lossmith.data.image_files import check_image_size
from lossmith.data.image_listing import summarize_skipped
from lossmith.data.image_subsets import hold_out_usable
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.formula.loss import Loss
from lossmith.formula.no_data import mask_no_data, mask_terms
from lossmith.models.files import read_header
from lossmith.tasks.options import TaskOptions
from lossmith.tasks.task_data import (
    Batch,
    EvaluationSet,
    TaskData,
    TrainingSet,
    check_usable,
    describe_rejected,
    exclude_validation_images,
)

if TYPE_CHECKING:
    from lightning.pytorch import Callback

__all__ = ["Task"]


class Task(ABC):
    """A kind of problem to train and evaluate networks on.

    A task computes the inputs of a loss and chooses no terms. A formula that reads other inputs than
    :attr:`provided_inputs` is rejected before the first step. Training, evaluation and the report know a task only by
    the attributes and methods of this class.

    Args:
        scale: Upscaling factor of the networks.
    """

    name: ClassVar[str]
    """The name on the command line."""

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

    accepts_any_image: ClassVar[bool] = False
    """Whether the data sets of the task read images with :attr:`pixels`; otherwise they read RGB."""

    pixels: PixelFormat = RGB_8BIT
    """The samples of the image files: channels, range, transfer function; see :meth:`with_pixels`."""

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

    def with_pixels(self, pixels: PixelFormat) -> Self:
        """Return the task for images with other samples than RGB of 8 bits.

        Raises:
            ValueError: The task reads RGB images only.
        """
        if pixels == self.pixels:
            return self
        if not self.accepts_any_image:
            raise ValueError(f"{self.name} reads RGB images; got {pixels}.")
        other = copy.copy(self)
        other.pixels = pixels
        return other

    def with_pixels_of(self, weights: Path) -> Self:
        """Return the task for the samples with which the network in a weight file was trained."""
        record = read_header(weights).get("pixels") if weights.is_file() else None
        return self if record is None else self.with_pixels(PixelFormat.from_record(record))

    def find_pixels(self, images: str, options: PixelOptions) -> tuple[PixelFormat, list[str]]:
        """Return the pixel format of a folder of images, and notes for the user.

        Args:
            images: The folder.
            options: What the user states.

        Raises:
            ValueError: The images differ, or the range of floats is not stated.
        """
        if self.accepts_any_image:
            return find_pixel_format(list_images(images), options, owner=f"The images in {images!r}")
        if options != PixelOptions():
            raise ValueError(
                f"{self.name} reads RGB images in their full range; omit --channels, --range, --transfer and --no-data."
            )
        return RGB_8BIT, []

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

    # Data

    @abstractmethod
    def training_set(self, files: Sequence[Path], *, crop: int, seed: int) -> TrainingSet:
        """Return training crops of image files, with a side of `crop` pixels of the target."""

    @abstractmethod
    def evaluation_set(self, images: str | Path | Sequence[Path], *, limit: int | None = None) -> EvaluationSet:
        """Return whole images of a folder or of files; `limit` selects that many, evenly spaced."""

    def check_image(self, file: Path) -> None:
        """Raise ValueError, with the reason, if an image cannot be evaluated on; it must not be held out then."""
        height, width = decode_image(file, self.pixels).shape[1:]
        check_image_size(height, width, MIN_SIZE)

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

    def split_images(self, images: str, val_count: int) -> tuple[ImageFiles, ImageFiles, list[SkippedFile]]:
        """Return training images and held-out images of a folder, and the images that cannot be held out.

        About one image in ten is held out, at least one and at most `val_count`. One of two images is held out, and
        none of one.
        """
        files = list_images(images).distinct()
        if len(files) < 2:
            return files, ImageFiles([], files.root), []
        return hold_out_usable(files, min(val_count, max(1, len(files) // 10)), self.check_image)

    def load_data(self, images: str, val: str | None, *, val_count: int, crop: int, seed: int) -> TaskData:
        """Return the data of a run.

        Args:
            images: Folder of training images.
            val: Folder of validation images; None holds out some of the training images.
            val_count: Largest number of validation images.
            crop: Side of a training crop in pixels of the target.
            seed: Random seed of the crops.

        Raises:
            ValueError: No image can be used for training, or none of the folder `val` for validation.
        """
        examples: EvaluationSet | None = None
        if val is None:
            files, held_out, rejected = self.split_images(images, val_count)
            files, notes = exclude_validation_images(files, held_out)
            samples, held_out = self._train_without(files, held_out, crop=crop, seed=seed)
            files = files if held_out else list_images(images).distinct()
            examples = self.evaluation_set(held_out, limit=val_count) if held_out else None
            notes += describe_rejected(rejected)
        else:
            examples = self.for_images(val, trained_on=images, val=val).evaluation_set(val, limit=val_count)
            check_usable(examples, val)
            files, notes = exclude_validation_images(list_images(images).distinct(), list_images(val))
            samples = self.training_set(files, crop=crop, seed=seed)
        notes += summarize_skipped([*files.skipped, *samples.skipped])
        return TaskData(samples, examples, len(files), message="\n".join(notes))

    def _train_without(
        self, files: ImageFiles, held_out: ImageFiles, *, crop: int, seed: int
    ) -> tuple[TrainingSet, ImageFiles]:
        """Return the training set and the held-out images; none is held out if no other can be trained on."""
        try:
            return self.training_set(files, crop=crop, seed=seed), held_out
        except ValueError:
            if not held_out:
                raise
        everything = files.select(sorted([*files, *held_out]))
        return self.training_set(everything, crop=crop, seed=seed), files.select([])

    # Hooks of training and of the report

    def check_model(self, model: nn.Module) -> None:  # noqa: B027  # most tasks accept any network
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
