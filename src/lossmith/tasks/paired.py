"""Restoration learned from pairs that the user provides."""

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self, final

from torch import Tensor

from lossmith._checks import check_choice
from lossmith.data import ImageFiles, PairedCrops, PairedImages, PairMatcher, SkippedFile, list_images, upsample
from lossmith.data.example import MIN_SIZE
from lossmith.data.image_listing import image_root
from lossmith.data.paired import check_pair, read_pair
from lossmith.data.pixel_format import PixelFormat
from lossmith.data.shards.locate import are_shards
from lossmith.data.shards.pairs import ShardedPairCrops
from lossmith.data.shards.sequence import Shards
from lossmith.data.shards.unpack import UnpackedSamples, unpack_samples
from lossmith.tasks.base import Task
from lossmith.tasks.command_options import PairedOptions
from lossmith.tasks.options import TaskOptions
from lossmith.tasks.task_data import Batch, TaskData

__all__ = ["Paired", "pair_images"]


@final
class Paired(Task):
    """Restoration with inputs and targets from two folders, matched by file name, or from shards of pairs.

    The loss inputs are "pred", "target" and "input".

    Args:
        scale: Size of a target divided by the size of its input: 1, 2, 3 or 4.
        inputs: Folder of the inputs of the training images, which are the targets. None if the images are shards, whose
            samples hold both: ``7.input.png`` and ``7.target.png``.
        val_inputs: Folder of the inputs of the validation images, if these are in another folder.

    Raises:
        ValueError: The scale has another value.
    """

    name: ClassVar[str] = "paired"
    options: ClassVar[type[TaskOptions]] = PairedOptions
    provided_inputs: ClassVar[tuple[str, ...]] = ("pred", "target", "input")
    baseline_name: ClassVar[str] = "input"
    accepts_any_image: ClassVar[bool] = True
    accepts_shards: ClassVar[bool] = True
    reads_pairs: ClassVar[bool] = True

    def __init__(self, scale: int = 1, *, inputs: str | None = None, val_inputs: str | None = None) -> None:
        check_choice(f"{self.name} scale", scale, (1, 2, 3, 4))
        super().__init__(scale)
        self.border = self.metric_border(scale)
        self.inputs, self.val_inputs = inputs, val_inputs
        self.targets: Path | None = None
        self.input_of: dict[Path, Path] = {}
        """The input of each target that may be held out."""

    @classmethod
    def metric_border(cls, scale: int) -> int:
        """Return the scale if the network enlarges the image, as in super-resolution."""
        return 0 if scale == 1 else scale

    @cached_property
    def matcher(self) -> PairMatcher:
        """Finds the inputs; the folder is read on first use, since an evaluation may have other inputs.

        Raises:
            ValueError: The folder is not given, does not exist or contains no image.
        """
        if self.inputs is None:
            raise ValueError(f"{self.name} needs --inputs FOLDER, unless the images are shards of pairs.")
        return PairMatcher(self.inputs, self.scale, targets=self.targets, pixels=self.pixels)

    def for_images(
        self, images: str | Path, *, inputs: str | None = None, trained_on: str | None = None, val: str | None = None
    ) -> Self:
        """Return the task with the inputs of a folder of target images.

        Raises:
            ValueError: The inputs of these images are not known.
        """
        if are_shards(images):
            if inputs is not None:
                raise ValueError(f"Each sample of the shards {str(images)!r} holds its input; omit --inputs.")
            return self
        if inputs is not None:
            return self._with_pairs(inputs, images)
        if val is not None and self.val_inputs is not None and _contains(val, images):
            return self._with_pairs(self.val_inputs, val)
        if trained_on is not None and self.inputs is not None and _contains(trained_on, images):
            return self._with_pairs(self.inputs, trained_on)
        raise ValueError(
            f"The inputs of the images in {str(images)!r} are not known, since {self.inputs or 'shards'!r} holds those "
            "of the training images. Give their folder: --val-inputs in train and tune, --inputs in other commands."
        )

    def _with_pairs(self, inputs: str, targets: str | Path) -> Self:
        other = copy.copy(self)
        other.__dict__.pop("matcher", None)
        other.inputs, other.targets = inputs, image_root(targets)
        return other

    def with_pixels(self, pixels: PixelFormat) -> Self:
        """Return the task for inputs and targets with these samples."""
        other = super().with_pixels(pixels)
        if other is not self:
            other.__dict__.pop("matcher", None)
        return other

    def load_data(self, images: str, val: str | None, *, val_count: int, crop: int, seed: int) -> TaskData:
        """Return the data of a run, see :meth:`lossmith.tasks.image_task.ImageTask.load_data`.

        Raises:
            ValueError: The folder of the inputs is that of the targets, or the data cannot be used.
        """
        for flags, targets, inputs in (
            ("--images and --inputs", images, self.inputs),
            ("--val and --val-inputs", val, self.val_inputs),
        ):
            if targets and inputs and image_root(targets).resolve() == image_root(inputs).resolve():
                problem = f"{flags} name the same images, of {targets!r}: targets and inputs would be equal"
                raise ValueError(f"{problem}. Give the folder of the degraded images as inputs.")
        return super().load_data(images, val, val_count=val_count, crop=crop, seed=seed)

    def check_image(self, file: Path) -> None:
        """Raise ValueError, with the reason, if an image cannot be evaluated on, or has no input."""
        if file not in self.input_of:
            raise ValueError(f"{self.inputs!r} contains no image of this name")
        check_pair(file, self.input_of[file], self.scale, min_size=MIN_SIZE, pixels=self.pixels)
        read_pair(file, self.input_of[file], self.scale, self.pixels)

    def split_images(self, images: str, val_count: int) -> tuple[ImageFiles, ImageFiles, list[SkippedFile]]:
        """Return training images and held-out images of a folder, and the images that cannot be held out."""
        self.input_of = self.matcher.match_names(list_images(images))[0]
        return super().split_images(images, val_count)

    def compute_inputs(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the prediction, the target and the input."""
        inputs = {"pred": model(batch["input"]), "target": batch["target"], "input": batch["input"]}
        return self.mask_inputs(inputs)

    def training_set(self, files: Sequence[Path] | Shards, *, crop: int, seed: int) -> PairedCrops | ShardedPairCrops:
        """Return random crops of pairs, see :class:`lossmith.data.PairedCrops`."""
        if isinstance(files, Shards):
            if self.inputs is not None:
                raise ValueError("Each sample of shards holds its input; omit --inputs.")
            return ShardedPairCrops(files, crop, scale=self.scale, pixels=self.pixels, seed=seed)
        return PairedCrops(files, self.matcher, crop, seed=seed)

    def evaluation_set(self, images: str | Path | Sequence[Path], *, limit: int | None = None) -> PairedImages:
        """Return whole pairs, see :class:`lossmith.data.PairedImages`."""
        if isinstance(images, str | Path) and are_shards(images):
            return self.held_out_set(unpack_samples(str(images), limit, pairs=True))
        return PairedImages(images, self.matcher, limit=limit)

    def held_out_set(self, samples: UnpackedSamples) -> PairedImages:
        """Return the pairs of samples of shards."""
        matcher = PairMatcher(samples.inputs, self.scale, targets=samples.targets.root, pixels=self.pixels)
        return PairedImages(samples.targets, matcher)

    def baseline_output(self, batch: Batch) -> Tensor:
        """Return the input, upsampled by bicubic interpolation if the target is larger."""
        return batch["input"] if self.scale == 1 else upsample(batch["input"], self.scale)


def pair_images(task: Task, images: str | Path, inputs: str) -> Paired:
    """Return a task with the scale and the samples of another one, for an evaluation on inputs that are files.

    Args:
        task: The task, whose network maps the input to the target.
        images: The folder of target images.
        inputs: The folder of their inputs.
    """
    return Paired(task.scale, inputs=inputs).with_pixels(task.pixels).for_images(images, inputs=inputs)


def _contains(folder: str | Path, other: str | Path) -> bool:
    return Path(other).resolve().is_relative_to(Path(folder).resolve())
