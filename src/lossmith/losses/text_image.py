"""Losses between the embedding of an image and that of its text."""

from collections.abc import Mapping
from typing import ClassVar, Literal, final

from torch import Tensor

from lossmith._checks import check_bool, check_choice
from lossmith._repr import repr_of
from lossmith.formula.distance import Distance
from lossmith.formula.example_input import ExampleInput
from lossmith.formula.loss import Loss
from lossmith.losses._info_nce import info_nce
from lossmith.losses._similarity import Temperature, normalize_vectors

__all__ = ["TextAlignment", "TextContrast"]

Modalities = Literal["both", "image", "text"]


@final
class TextAlignment(Distance):
    r"""One minus the cosine similarity between the embeddings of an image and of its text.

    .. math:: 1 - \frac{f(x) \cdot t}{\lVert f(x) \rVert \lVert t \rVert}

    The lens is the image encoder :math:`f`. The input ``text`` :math:`t`, (N, D), comes from the matching text encoder
    and passes through no lens: ``TextAlignment() @ CLIP()`` with ``text=CLIP().embed(prompts)``. The value lies in
    :math:`[0, 2]`; matching pairs of CLIP have cosines of 0.2 to 0.4, so that a value of about 0.7 is good.

    References:
        | StyleCLIP: Text-Driven Manipulation of StyleGAN Imagery (Patashnik et al., 2021)
        | https://arxiv.org/abs/2103.17249

    Raises:
        ValueError: At the call, if the shapes of the embeddings differ.

    Example:
        >>> import torch
        >>> TextAlignment()(torch.tensor([[3.0, 4.0]]), text=torch.tensor([[1.0, 0.0]]))
        tensor(0.4000)
    """

    citation_keys = ("patashnik2021", "radford2021")
    value_range = (0.0, 2.0)
    unlensed_inputs = frozenset({"text"})
    default_gate_logsnr = 1.0
    input_dims = frozenset({2, 4})
    example_formula = "TextAlignment @ CLIP('tiny', weights='random')"

    def measure(self, pred: Tensor, text: Tensor) -> Tensor:
        """Compute the distance of each pair, (N,)."""
        embeddings = _image_embeddings(self, pred, text)
        return 1 - (normalize_vectors(embeddings) * normalize_vectors(text)).sum(dim=1)


@final
class TextContrast(Distance):
    r"""Contrastive loss: each image is to be closer to its own text than to other texts, and vice versa.

    .. math:: -\frac{1}{2} \log \frac{e^{s(f(x_i), t_i) / \tau}}{\sum_j e^{s(f(x_i), t_j) / \tau}}
        - \frac{1}{2} \log \frac{e^{s(f(x_i), t_i) / \tau}}{\sum_j e^{s(f(x_j), t_i) / \tau}}

    This is :class:`CLIPLoss` for a frozen pair of encoders that trains a network of images. The lens is the image
    encoder :math:`f`; ``text`` :math:`t`, (N, D), passes through no lens: ``TextContrast() @ CLIP()`` with
    ``text=CLIP().embed(prompts)``. An image without negatives has the value 0. Optional inputs, read if ``.on()`` names
    them, are ``negatives``, (K, D) or (N, K, D), more texts; and ``groups``, (N,): images of one group, such as those
    with equal prompts, are not negatives of each other.

    References:
        | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
        | https://arxiv.org/abs/2103.00020

    Args:
        temperature: The temperature of the softmax, in units of the cosine; CLIP's own is 0.01 at the end of training.
        directions: "image" to compare each image with all texts, "text" to compare each text with all images, or "both"
            for the mean.
        gather: Whether the batches of all processes, which must have one size, form one batch.

    Raises:
        ValueError: If an argument is out of range; or at the call, if the shapes of the embeddings differ.

    Example:
        >>> import torch
        >>> TextContrast(temperature=1.0)(torch.eye(2), text=torch.eye(2))  # log(1 + 1/e)
        tensor(0.3133)
    """

    citation_keys = ("radford2021",)
    unlensed_inputs = frozenset({"text", "negatives", "groups"})
    is_batch_dependent = True
    default_gate_logsnr = 1.0
    input_dims = frozenset({2, 4})
    example_formula = "TextContrast @ CLIP('tiny', weights='random')"
    example_inputs: ClassVar[Mapping[str, ExampleInput]] = {
        "negatives": ExampleInput("normal", ("features",), requires_grad=None, is_batched=False),
        "groups": ExampleInput("uniform", (), requires_grad=False),
    }

    def __init__(self, temperature: float = 0.01, *, directions: Modalities = "both", gather: bool = False) -> None:
        super().__init__()
        self.temperature = Temperature("TextContrast", temperature, learnable=False)
        self.directions = check_choice("TextContrast directions", directions, Modalities)
        self.gather = check_bool("TextContrast gather", gather)

    def measure(
        self, pred: Tensor, text: Tensor, negatives: Tensor | None = None, groups: Tensor | None = None
    ) -> Tensor:
        """Compute the loss of each pair, (N,)."""
        if negatives is not None and self.directions == "text":
            raise ValueError(
                f'{self!r} does not use negatives, which are added to the texts; set directions="both" or "image".'
            )
        return info_nce(
            self,
            _image_embeddings(self, pred, text),
            text,
            negatives,
            groups,
            scale=self.temperature(),
            directions=(self.directions != "text", self.directions != "image"),
            gather=self.gather,
        )

    def __repr__(self) -> str:
        return repr_of(
            self,
            *self.temperature.repr_arguments(0.01),
            directions=None if self.directions == "both" else self.directions,
            gather=self.gather or None,
        )


def _image_embeddings(loss: Loss, pred: Tensor, text: Tensor) -> Tensor:
    """Return the embeddings of the images, (N, D), if they have the shape of the texts'."""
    embeddings = pred.flatten(1)
    if text.dim() != 2 or embeddings.shape != text.shape:
        raise ValueError(
            f"{loss!r} compares embeddings (N, D) of images and texts; got {tuple(pred.shape)} and "
            f"{tuple(text.shape)}. Add the lens CLIP(...), and pass text=CLIP(...).embed(prompts) of the same model."
        )
    return embeddings
