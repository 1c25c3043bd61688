"""Pictures and what they shall show: distances between a picture's vector and that of a text."""

from typing import Literal, final, get_args

from torch import Tensor

from lossmith._repr import quoted, spelled
from lossmith.formula.distance import Distance
from lossmith.formula.loss import Loss
from lossmith.losses.contrastive import contrast
from lossmith.losses.cosine import Temperature, check_switches, unit

__all__ = ["TextAlignment", "TextContrast"]

Modalities = Literal["both", "image", "text"]


@final
class TextAlignment(Distance):
    r"""One minus the cosine between a picture's vector and that of its text.

    .. math:: 1 - \frac{f(x) \cdot t}{\lVert f(x) \rVert \lVert t \rVert}

    The lens is the image encoder :math:`f`; no lens looks at ``text`` :math:`t`, (N, D), which comes from the text
    encoder beside it: ``TextAlignment() @ CLIP()`` with ``text=CLIP().embed(prompts)``. It lies in :math:`[0, 2]`;
    a CLIP's matching pairs have cosines of 0.2 to 0.4, so that values of about 0.7 are good ones.

    References:
        | StyleCLIP: Text-Driven Manipulation of StyleGAN Imagery (Patashnik et al., 2021)
        | https://arxiv.org/abs/2103.17249

    Raises:
        ValueError: At the call, vectors of other shapes.

    Example:
        >>> import torch
        >>> TextAlignment()(torch.tensor([[3.0, 4.0]]), text=torch.tensor([[1.0, 0.0]]))
        tensor(0.4000)
    """

    papers = ("patashnik2021", "radford2021")
    bounds = (0.0, 2.0)
    bare = frozenset({"text"})
    opens = 1.0

    def measure(self, pred: Tensor, text: Tensor) -> Tensor:
        """One minus the cosine of each pair, (N,)."""
        vectors = _vectors(self, pred, text)
        return 1 - (unit(vectors) * unit(text)).sum(dim=1)

    def __repr__(self) -> str:
        return spelled(self)


@final
class TextContrast(Distance):
    r"""Each picture is nearer to its own text than to the other texts of the batch, and the reverse.

    .. math:: -\frac{1}{2} \log \frac{e^{s(f(x_i), t_i) / \tau}}{\sum_j e^{s(f(x_i), t_j) / \tau}}
        - \frac{1}{2} \log \frac{e^{s(f(x_i), t_i) / \tau}}{\sum_j e^{s(f(x_j), t_i) / \tau}}

    It is :class:`CLIPLoss` for a frozen pair of encoders, where a network that makes pictures learns: the lens is the
    image encoder :math:`f`, and no lens looks at ``text`` :math:`t`, (N, D): ``TextContrast() @ CLIP()`` with
    ``text=CLIP().embed(prompts)``. An image that has no negatives gives 0. Where ``.on()`` names them, ``negatives``,
    (K, D) or (N, K, D), are more texts, and images of one number in ``groups``, (N,), are no negatives of each other,
    as those with equal prompts are none.

    References:
        | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
        | https://arxiv.org/abs/2103.00020

    Args:
        temperature: How soft the comparison is, in units of the cosine; 0.01 is where CLIP's own ended.
        directions: Whose question it is: an "image" seeks its text, a "text" its picture, "both" is the mean.
        gather: Whether the batches of all processes, which must be of one size, are one batch.

    Raises:
        ValueError: A bad argument, or at the call vectors of other shapes.

    Example:
        >>> import torch
        >>> TextContrast(temperature=1.0)(torch.eye(2), text=torch.eye(2))  # log(1 + 1/e)
        tensor(0.3133)
    """

    papers = ("radford2021",)
    bare = frozenset({"text", "negatives", "groups"})
    mixes = True
    opens = 1.0

    def __init__(self, temperature: float = 0.01, *, directions: Modalities = "both", gather: bool = False) -> None:
        super().__init__()
        self.temperature = Temperature("TextContrast", temperature, learnable=False)
        if directions not in get_args(Modalities):
            known = ", ".join(map(quoted, get_args(Modalities)))
            raise ValueError(f"TextContrast knows the directions {known}; got {directions!r}.")
        check_switches("TextContrast", gather=gather)
        self.directions, self.gather = directions, gather

    def measure(
        self, pred: Tensor, text: Tensor, negatives: Tensor | None = None, groups: Tensor | None = None
    ) -> Tensor:
        """How hard it is for each pair to find itself, (N,)."""
        if negatives is not None and self.directions == "text":
            raise ValueError(f'{self!r} has no use for negatives: they stand among the texts; ask for "both".')
        asked = (self.directions != "text", self.directions != "image")
        vectors = _vectors(self, pred, text)
        return contrast(self, vectors, text, negatives, groups, self.temperature(), asked, self.gather)

    def __repr__(self) -> str:
        return spelled(
            self,
            *self.temperature.spelling(0.01),
            directions=None if self.directions == "both" else self.directions,
            gather=self.gather or None,
        )


def _vectors(who: Loss, pred: Tensor, text: Tensor) -> Tensor:
    """The pictures' vectors (N, D)."""
    vectors = pred.flatten(1)
    if text.dim() != 2 or vectors.shape != text.shape:
        raise ValueError(
            f"{who!r} compares one vector a picture, (N, D), with one a text; got {tuple(pred.shape)} and "
            f"{tuple(text.shape)}: look through CLIP(...), and take text=CLIP(...).embed(prompts) of the same."
        )
    return vectors
