"""What a task is: it turns a network and a batch into named views, and says what is trained on and judged by."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from torch import Tensor, nn

from lossmith.data import Example, Skipped

__all__ = ["Batch", "Examples", "Items", "Task"]

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

    @abstractmethod
    def training(self, files: Sequence[Path], *, crop: int, seed: int) -> Items:
        """What is trained on, from files of pictures, in crops of a side."""

    @abstractmethod
    def evaluation(self, pictures: str | Path | Sequence[Path], *, limit: int | None = None) -> Examples:
        """What is judged by, from a folder or files, evenly spread if there are more than the limit."""

    @abstractmethod
    def plain(self, batch: Batch) -> Tensor:
        """The answer that needs no network, which every network must beat."""
