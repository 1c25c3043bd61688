"""The data of a task: training crops, held-out images, and the samples of the image files."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from lossmith.data import ImageFiles, SkippedFile, list_images
from lossmith.data.cache import current_cache
from lossmith.data.evaluation_images import KeptExamples
from lossmith.data.example import MIN_SIZE
from lossmith.data.find_pixels import PixelOptions, find_pixel_format
from lossmith.data.image_files import check_image_size
from lossmith.data.image_listing import summarize_skipped
from lossmith.data.image_subsets import hold_out_usable
from lossmith.data.pixel_format import RGB_8BIT, PixelFormat
from lossmith.data.shards.locate import are_shards, list_shards
from lossmith.data.shards.sequence import Shards, ShardSequence
from lossmith.data.shards.unpack import UnpackedSamples, hold_out_samples, list_some_images
from lossmith.models.files import read_header
from lossmith.tasks.task_data import (
    EvaluationSet,
    TaskData,
    TrainingSet,
    check_usable,
    describe_rejected,
    exclude_validation_images,
)

__all__ = ["ImageTask"]


class ImageTask(ABC):
    """The data of a task whose sources are image files or shards, see :class:`lossmith.tasks.Task`."""

    name: ClassVar[str]
    """The name on the command line."""

    accepts_any_image: ClassVar[bool] = False
    """Whether the data sets of the task read images with :attr:`pixels`; otherwise they read RGB."""

    accepts_shards: ClassVar[bool] = False
    """Whether :meth:`training_set` takes shards."""

    reads_pairs: ClassVar[bool] = False
    """Whether a sample of a shard is a pair of an input and a target."""

    pixels: PixelFormat = RGB_8BIT
    """The samples of the image files: channels, range, transfer function; see :meth:`with_pixels`."""

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
        """Return the pixel format of a folder of images, or of shards, and notes for the user.

        Args:
            images: The folder, or the shards, of which some images of the first one are read.
            options: What the user states.

        Raises:
            ValueError: The images differ, or the range of floats is not stated.
        """
        if self.accepts_any_image:
            return find_pixel_format(list_some_images(images), options, owner=f"The images in {images!r}")
        if options != PixelOptions():
            raise ValueError(
                f"{self.name} reads RGB images in their full range; omit --channels, --range, --transfer and --no-data."
            )
        return RGB_8BIT, []

    @abstractmethod
    def training_set(self, files: Sequence[Path] | Shards, *, crop: int, seed: int) -> TrainingSet:
        """Return training crops of image files or of shards, with a side of `crop` pixels of the target."""

    @abstractmethod
    def evaluation_set(self, images: str | Path | Sequence[Path], *, limit: int | None = None) -> EvaluationSet:
        """Return whole images of a folder, of files or of shards; `limit` selects that many, evenly spaced."""

    def held_out_set(self, samples: UnpackedSamples) -> EvaluationSet:
        """Return the evaluation set of samples of shards that are held out."""
        return self.evaluation_set(samples.targets)

    def check_image(self, file: Path) -> None:
        """Raise ValueError, with the reason, if an image cannot be evaluated on; it must not be held out then."""
        height, width = current_cache().read(file, self.pixels).shape[1:]
        check_image_size(height, width, MIN_SIZE)

    @abstractmethod
    def for_images(
        self, images: str | Path, *, inputs: str | None = None, trained_on: str | None = None, val: str | None = None
    ) -> "ImageTask":
        """Return the task for an evaluation on a folder of images, see :meth:`lossmith.tasks.Task.for_images`."""

    def split_images(self, images: str, val_count: int) -> tuple[ImageFiles, ImageFiles, list[SkippedFile]]:
        """Return training images and held-out images of a folder, and the images that cannot be held out.

        About one image in ten is held out, at least one and at most `val_count`. One of two images is held out, and
        none of one.
        """
        files = list_images(images).distinct()
        if len(files) < 2:
            return files, ImageFiles([], files.root), []
        return hold_out_usable(files, min(val_count, max(1, len(files) // 10)), self.check_image)

    def held_out_images(self, images: str, val_count: int) -> EvaluationSet:
        """Return the images that a training on a folder or on shards holds out."""
        if are_shards(images):
            return self.held_out_set(hold_out_samples(images, val_count, pairs=self.reads_pairs))
        return self.evaluation_set(self.split_images(images, val_count)[1], limit=val_count)

    def load_data(self, images: str, val: str | None, *, val_count: int, crop: int, seed: int) -> TaskData:
        """Return the data of a run.

        Args:
            images: Folder of training images, or shards, see :func:`lossmith.data.shards.locate.list_shards`.
            val: Folder of validation images, or shards; None holds out some of the training images.
            val_count: Largest number of validation images.
            crop: Side of a training crop in pixels of the target.
            seed: Random seed of the crops.

        Raises:
            ValueError: No image can be used for training, or none of the folder `val` for validation.
        """
        if are_shards(images):
            return self._load_shards(images, val, val_count=val_count, crop=crop, seed=seed)
        examples: EvaluationSet | None = None
        if val is None:
            files, held_out, rejected = self.split_images(images, val_count)
            files, notes = exclude_validation_images(files, held_out)
            samples, held_out = self._train_without(files, held_out, crop=crop, seed=seed)
            files = files if held_out else list_images(images).distinct()
            examples = KeptExamples(self.evaluation_set(held_out, limit=val_count)) if held_out else None
            notes += describe_rejected(rejected)
        else:
            examples = self._load_validation_images(images, val, val_count)
            known = ImageFiles([]) if are_shards(val) else list_images(val)
            files, notes = exclude_validation_images(list_images(images).distinct(), known)
            samples = self.training_set(files, crop=crop, seed=seed)
        notes += summarize_skipped([*files.skipped, *samples.skipped])
        return TaskData(samples, examples, len(files), message="\n".join(notes))

    def _load_validation_images(self, images: str, val: str, val_count: int) -> EvaluationSet:
        examples = self.for_images(val, trained_on=images, val=val).evaluation_set(val, limit=val_count)
        kept = KeptExamples(examples)
        check_usable(kept, val)
        return kept

    def _load_shards(self, images: str, val: str | None, *, val_count: int, crop: int, seed: int) -> TaskData:
        """Return the data of a run on shards; without a validation folder, samples of the first shard are held out."""
        if not self.accepts_shards:
            raise ValueError(f"{self.name} reads folders of images; got the shards {images!r}.")
        names = list_shards(images)
        examples: EvaluationSet | None = None
        held_out = None if val is not None else hold_out_samples(images, val_count, pairs=self.reads_pairs)
        if val is not None:
            examples = self._load_validation_images(images, val, val_count)
        elif held_out and held_out.names:
            examples = KeptExamples(self.held_out_set(held_out))
        shards = Shards(names, held_out.names if held_out else ())
        samples = self.training_set(shards, crop=crop, seed=seed)
        count = ShardSequence(shards, lambda sample: sample, seed=seed).length
        samples_text = f"{count} training sample{'s' * (count != 1)}"
        message = (
            f"1 shard with {samples_text}" if len(names) == 1 else f"{len(names)} shards, the first with {samples_text}"
        )
        notes = [message, *summarize_skipped(samples.skipped)]
        if val is not None and are_shards(val) and set(list_shards(val)) & set(names):
            notes.append(
                "Training shards are also validation shards: the validation metrics do not measure other images."
            )
        found = count * len(names) + len(samples.skipped)
        return TaskData(samples, examples, found, message="\n".join(notes), is_estimate=len(names) > 1)

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
