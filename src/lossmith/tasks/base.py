"""What a task is: it turns a network and a batch into named views, and says what is trained on and judged by."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self

from torch import Tensor, nn

from lossmith.data import Example, Skipped, held_out, listed
from lossmith.formula.loss import Loss

if TYPE_CHECKING:
    from lightning.pytorch import Callback

__all__ = ["Batch", "Examples", "Items", "Material", "Task"]

Batch = Mapping[str, Tensor]


class Items(Protocol):
    """An endless row to train on: item k is a function of the seed and k alone."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One item, to be collated into a batch."""

    @property
    def skipped(self) -> list[Skipped]:
        """The files that could not be used so far."""


class Examples(Protocol):
    """What a task is judged by, one at a time."""

    def __iter__(self) -> Iterator[Example]:
        """Each example: its name, and a batch of one."""

    def __len__(self) -> int:
        """How many there are, unusable ones included."""

    @property
    def skipped(self) -> list[Skipped]:
        """The files that could not be used in the last walk through."""


class Material(NamedTuple):
    """What a run trains on and is judged by.

    Args:
        items: What is trained on.
        examples: What is judged by, if anything.
        found: How many pictures, or captions, are trained on.
        told: Arguments of the network that the material decides.
        facts: What else whoever uses the network must know, as plain values.
        remark: A line to be shown.
    """

    items: Items
    examples: Examples | None
    found: int
    told: Mapping[str, Any] = {}
    facts: Mapping[str, Any] = {}
    remark: str = ""


class Task(ABC):
    """One kind of problem; what is written here is all that the trainer and the evaluator know of it.

    A task gives views and chooses no terms; a loss on views that it does not give is refused before the first step.
    """

    name: ClassVar[str]
    """As the command line calls it."""

    gives: ClassVar[tuple[str, ...]]
    """The views that a loss may read."""

    baseline: ClassVar[str]
    """What :meth:`plain` is called, such as "bicubic"."""

    network: ClassVar[str] = "edsr"
    """The network to train where none is named."""

    inputs: ClassVar[int] = 3
    """The channels that its networks are given."""

    samples: ClassVar[bool] = False
    """Whether it is judged by what is sampled from its network, and not by pictures restored."""

    scale: int
    """By how much its networks enlarge."""

    border: int
    """The rim in pixels that metrics leave out."""

    def __init__(self, scale: int) -> None:
        self.scale = scale

    @abstractmethod
    def views(self, model: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        """Runs the network on a batch; the views are all that :attr:`gives` names."""

    def answer(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """The picture that a network is judged by."""
        return self.views(model, batch)["pred"]

    def fits(self, model: nn.Module) -> None:  # noqa: B027  # most tasks take any network
        """Refuses a network that cannot do the task.

        Raises:
            ValueError: It cannot; the message says why.
        """

    def figures(self, model: nn.Module, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scalars for logs beside the terms: what a network has come to, on the views of a step."""
        return {}

    def giving(self, views: Collection[str]) -> Self:
        """The task for a loss that reads these views; one that makes costly ones may leave out the others."""
        return self

    def material(self, pictures: str, judged: str | None, *, count: int, crop: int, seed: int) -> Material:
        """What a run trains on and is judged by.

        Args:
            pictures: A folder.
            judged: Another one to judge by; None holds some pictures out.
            count: The largest number of pictures to judge by.
            crop: The side of what is trained on, in pixels.
            seed: Of what is drawn.
        """
        files = listed(pictures)
        beside: Sequence[Path] | str | None = judged
        if judged is None and len(files) > 1:
            files, beside = held_out(files, min(count, max(1, len(files) // 10)))
        items = self.training(files, crop=crop, seed=seed)
        return Material(items, None if beside is None else self.evaluation(beside, limit=count), len(files))

    def prepare_loss(self, loss: Loss, model: nn.Module) -> tuple[Loss, list[str]]:
        """Return the loss as it is trained, and warnings to print.

        A task overrides this to set what a term must know of the network or the noise level.

        Raises:
            ValueError: The loss does not suit the task or the network.
        """
        return loss, []

    def validation_callbacks(self, folder: Path, evaluation: Examples, every: int) -> "list[Callback] | None":
        """Return the Lightning callbacks that validate a run; None for the usual image metrics.

        Args:
            folder: The run's folder.
            evaluation: The evaluation set.
            every: Steps between validations.
        """
        return None

    @classmethod
    def report_sections(cls, group: Any) -> list[str]:
        """Return sections of the report page, as HTML, that only this task has.

        Args:
            group: Runs that were evaluated under one protocol, a :class:`lossmith.report.figures.Group`.
        """
        return []

    def still(self) -> Mapping[str, Tensor]:
        """The views that are the same for every batch, (1, 3, H, W); what networks see of these is kept."""
        return {}

    def measured(self, views: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The views at which norms of gradients are measured, from those of an untrained network."""
        return views

    @abstractmethod
    def training(self, files: Sequence[Path], *, crop: int, seed: int) -> Items:
        """What is trained on, from files of pictures, in crops of a side."""

    @abstractmethod
    def evaluation(self, pictures: str | Path | Sequence[Path], *, limit: int | None = None) -> Examples:
        """What is judged by, from a folder or files, evenly spread if there are more than the limit."""

    @abstractmethod
    def plain(self, batch: Batch) -> Tensor:
        """The answer that needs no network, which every network must beat."""
