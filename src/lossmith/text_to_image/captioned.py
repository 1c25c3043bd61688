"""Captions: where pictures with captions come from, how they are read, and which of them are held out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from torch import Tensor, nn

from lossmith.formula.loss import Loss
from lossmith.models import Network
from lossmith.report.figures import Group
from lossmith.tasks.base import Batch, Examples, Items, Material, Task
from lossmith.text_to_image.prepare_loss import by_level
from lossmith.text_to_image.report.guidance import guidance
from lossmith.train.folder import RunFolder

if TYPE_CHECKING:
    from lightning.pytorch import Callback

from lossmith.text_to_image.caption_data import Captions, HeldOut

__all__ = ["FromText"]


class FromText(Task):
    """A task whose network makes pictures of texts, from pictures with captions.

    Args:
        scale: By how much the network enlarges; 1 if it makes pictures of text alone.
        source: How captions are read and split, see :class:`Captions`.
    """

    baseline: ClassVar[str] = "mean"
    samples: ClassVar[bool] = True

    def __init__(self, scale: int, **source: Any) -> None:
        super().__init__(scale)
        self.border, self.captions = 0, Captions(**source)

    def material(self, pictures: str, judged: str | None, *, count: int, crop: int, seed: int) -> Material:
        """Pictures with captions, see :class:`Captions`."""
        return self.captions.material(pictures, judged, count=count, side=crop, seed=seed)

    def training(self, files: Sequence[Path], *, crop: int, seed: int) -> Items:
        """Not from files alone; see :meth:`material`."""
        return self.refuse()

    def evaluation(self, pictures: str | Path | Sequence[Path], *, limit: int | None = None) -> Examples:
        """The same."""
        return self.refuse()

    def refuse(self) -> NoReturn:
        """Raises: pictures want captions here."""
        raise ValueError(f"{self.name} wants pictures with captions: a folder of both, or shapes.")

    def prepare_loss(self, loss: Loss, model: nn.Module) -> tuple[Loss, list[str]]:
        """Return the loss with gates over the log-SNR and conditions of the network, see :func:`by_level`."""
        assert isinstance(model, Network)
        return by_level(loss, model)

    def validation_callbacks(self, folder: Path, evaluation: Examples, every: int) -> "list[Callback]":
        """Return the callback that samples images of held-out captions."""
        from lossmith.text_to_image.sample_callback import Sampling

        assert isinstance(evaluation, HeldOut)
        return [Sampling(RunFolder(folder), evaluation, every=every)]

    @classmethod
    def report_sections(cls, group: Group) -> list[str]:
        """Return the section on guidance, if the runs were evaluated on captions."""
        return [guidance(group)]

    def plain(self, batch: Batch) -> Tensor:
        """The mean colour."""
        return batch["target"].mean(dim=(2, 3), keepdim=True).expand_as(batch["target"])
