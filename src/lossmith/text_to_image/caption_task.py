"""The base class of tasks that train on images with captions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from torch import Tensor, nn

from lossmith.data.shards.sequence import Shards
from lossmith.formula.loss import Loss
from lossmith.metrics import MetricInfo
from lossmith.models import Network
from lossmith.report.groups import Group
from lossmith.tasks.base import Task
from lossmith.tasks.task_data import Batch, EvaluationSet, TaskData, TrainingSet
from lossmith.text_to_image.caption_data import CaptionData, HeldOutCaptions
from lossmith.text_to_image.prepare_loss import prepare_text_to_image_loss
from lossmith.text_to_image.report.guidance import guidance_section
from lossmith.text_to_image.report.sample_captions import read_sample_captions
from lossmith.train.folder import RunFolder

if TYPE_CHECKING:
    from lightning.pytorch import Callback

__all__ = ["CaptionTask"]

REPORT_METRICS = (
    MetricInfo("joint", "Images that match their caption", "", 3, None, is_headline=True),
    MetricInfo("colour", "Correct colour", "", 3, None),
    MetricInfo("shape", "Correct shape", "", 3, None),
    MetricInfo("position", "Correct position", "", 3, None),
    MetricInfo("denoising", "Denoising error", "", 4, 0.0, is_headline=True),
)
"""The metrics in validation.jsonl as the report shows them."""


class CaptionTask(Task):
    """A task that generates images from text, trained on images with captions.

    Args:
        scale: Upscaling factor of the network; 1 for a network conditioned on text only.
        data: Arguments of :class:`lossmith.text_to_image.caption_data.CaptionData`.
    """

    baseline_name: ClassVar[str] = "mean"
    is_generative: ClassVar[bool] = True
    former_options: ClassVar[Mapping[str, str]] = {
        "share": "val_fraction",
        "drop": "caption_dropout",
        "measure": "measure_sigma_data",
    }

    def __init__(self, scale: int, **data: Any) -> None:
        super().__init__(scale)
        self.border, self.caption_data = 0, CaptionData(**data)

    def load_data(self, images: str, val: str | None, *, val_count: int, crop: int, seed: int) -> TaskData:
        """Return images with captions, see :meth:`CaptionData.load_data`."""
        return self.caption_data.load_data(images, val, val_count=val_count, side=crop, seed=seed)

    def training_set(self, files: Sequence[Path] | Shards, *, crop: int, seed: int) -> TrainingSet:
        """Raise ValueError: images without captions do not suffice; see :meth:`load_data`."""
        self._raise_no_captions()

    def evaluation_set(self, images: str | Path | Sequence[Path], *, limit: int | None = None) -> EvaluationSet:
        """Raise ValueError: images without captions do not suffice; see :meth:`load_data`."""
        self._raise_no_captions()

    def _raise_no_captions(self) -> NoReturn:
        raise ValueError(f"{self.name} needs images with captions: a folder of both, or shapes.")

    def baseline_output(self, batch: Batch) -> Tensor:
        """Return the mean colour of each image."""
        return batch["target"].mean(dim=(2, 3), keepdim=True).expand_as(batch["target"])

    def prepare_loss(self, loss: Loss, model: nn.Module) -> tuple[Loss, list[str]]:
        """Return the loss with gates over the log-SNR and with the network's settings.

        See :func:`prepare_text_to_image_loss`.
        """
        assert isinstance(model, Network)
        return prepare_text_to_image_loss(loss, model)

    def validation_callbacks(self, folder: Path, evaluation: EvaluationSet, every: int) -> "list[Callback]":
        """Return the callback that samples images of held-out captions."""
        from lossmith.text_to_image.sample_callback import SampleCallback

        assert isinstance(evaluation, HeldOutCaptions)
        return [SampleCallback(RunFolder(folder), evaluation, every=every)]

    @classmethod
    def report_metrics(cls) -> Sequence[MetricInfo]:
        """Return the metrics of images sampled for held-out captions, and the denoising error."""
        return REPORT_METRICS

    @classmethod
    def image_captions(cls, folder: Path) -> Mapping[str, Sequence[Sequence[str]]]:
        """Return the captions of the sheets of samples."""
        return read_sample_captions(folder)

    @classmethod
    def report_sections(cls, group: Group) -> list[str]:
        """Return the section on guidance, if the runs were evaluated on captions."""
        return [guidance_section(group)]
