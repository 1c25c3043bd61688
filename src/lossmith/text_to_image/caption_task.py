"""Captions: where pictures with captions come from, how they are read, and which of them are held out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from torch import Tensor, nn

from lossmith.formula.loss import Loss
from lossmith.models import Network
from lossmith.report.groups import Group
from lossmith.report.metric_info import MetricInfo
from lossmith.tasks.base import Batch, EvaluationSet, TrainingSet, TaskData, Task
from lossmith.text_to_image.prepare_loss import prepare_diffusion_loss
from lossmith.text_to_image.report.guidance import guidance_section
from lossmith.train.folder import RunFolder

if TYPE_CHECKING:
    from lightning.pytorch import Callback

from lossmith.text_to_image.caption_data import CaptionData, HeldOutCaptions

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
    """A task whose network makes pictures of texts, from pictures with captions.

    Args:
        scale: By how much the network enlarges; 1 if it makes pictures of text alone.
        source: How captions are read and split, see :class:`Captions`.
    """

    baseline_name: ClassVar[str] = "mean"
    is_generative: ClassVar[bool] = True

    def __init__(self, scale: int, **source: Any) -> None:
        super().__init__(scale)
        self.border, self.captions = 0, CaptionData(**source)

    def load_data(self, images: str, val: str | None, *, val_count: int, crop: int, seed: int) -> TaskData:
        """Pictures with captions, see :class:`Captions`."""
        return self.captions.load_data(images, val, val_count=val_count, side=crop, seed=seed)

    def training_set(self, files: Sequence[Path], *, crop: int, seed: int) -> TrainingSet:
        """Not from files alone; see :meth:`load_data`."""
        return self.refuse()

    def evaluation_set(self, images: str | Path | Sequence[Path], *, limit: int | None = None) -> EvaluationSet:
        """The same."""
        return self.refuse()

    def refuse(self) -> NoReturn:
        """Raises: pictures want captions here."""
        raise ValueError(f"{self.name} wants pictures with captions: a folder of both, or shapes.")

    def prepare_loss(self, loss: Loss, model: nn.Module) -> tuple[Loss, list[str]]:
        """Return the loss with gates over the log-SNR and conditions of the network, see :func:`by_level`."""
        assert isinstance(model, Network)
        return prepare_diffusion_loss(loss, model)

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
    def report_sections(cls, group: Group) -> list[str]:
        """Return the section on guidance, if the runs were evaluated on captions."""
        return [guidance_section(group)]

    def baseline_output(self, batch: Batch) -> Tensor:
        """The mean colour."""
        return batch["target"].mean(dim=(2, 3), keepdim=True).expand_as(batch["target"])
