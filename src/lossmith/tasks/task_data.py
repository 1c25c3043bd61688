"""The data of a run: protocols of training and evaluation sets, and checks of their images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from lossmith.data import Example, ImageFiles, SkippedFile

__all__ = [
    "Batch",
    "EvaluationSet",
    "TaskData",
    "TrainingSet",
    "check_usable",
    "describe_rejected",
    "exclude_validation_images",
]

Batch = Mapping[str, Tensor]


class TrainingSet(Protocol):
    """An endless sequence of training samples; sample k is a function of the seed and k alone."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one sample, without a batch dimension."""

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that could not be used so far."""


class EvaluationSet(Protocol):
    """A finite sequence of examples to evaluate on."""

    def __iter__(self) -> Iterator[Example]:
        """Yield each example: its name and a batch of one."""

    def __len__(self) -> int:
        """Return the number of examples, unusable ones included."""

    @property
    def skipped(self) -> list[SkippedFile]:
        """The files that could not be used in the last iteration."""


class TaskData(NamedTuple):
    """The data of a run.

    Args:
        training_set: The training samples.
        evaluation_set: The held-out examples; None without validation.
        training_count: Number of training images or captions.
        model_kwargs: Arguments of the network that depend on the data.
        metadata: Plain values to save in the header of the weights; inference needs them.
        message: A line to print when the run starts.
        is_estimate: Whether `training_count` is estimated: of shards, only the first is read at the start.
    """

    training_set: TrainingSet
    evaluation_set: EvaluationSet | None
    training_count: int
    model_kwargs: Mapping[str, Any] = {}
    metadata: Mapping[str, Any] = {}
    message: str = ""
    is_estimate: bool = False


def check_usable(examples: EvaluationSet, images: str) -> None:
    """Raise ValueError if none of the examples can be used."""
    if next(iter(examples), None) is None:
        raise ValueError(f"None of the images in {images!r} can be used for validation.")


def describe_rejected(rejected: Sequence[SkippedFile]) -> list[str]:
    """Return a line on the images that would be held out, but cannot be evaluated on."""
    if not rejected:
        return []
    number = "1 image" if len(rejected) == 1 else f"{len(rejected)} images"
    return [f"{number} cannot be held out; the first is {rejected[0].file!r}: {rejected[0].reason}."]


def exclude_validation_images(images: ImageFiles, val: ImageFiles) -> tuple[ImageFiles, list[str]]:
    """Return the training images that are no validation images and no copies of them; if none remains, all of them.

    Returns:
        The images, and a warning if none would remain.
    """
    remaining = images.exclude(val, "a validation image")
    if remaining:
        return remaining, []
    warning = "All training images are also validation images: the validation metrics do not measure other images."
    return images, [warning]
