"""A text encoder by its name."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lossmith.pretrained.locate import MissingWeights
from lossmith.text_to_image.encoders.encoder import TextEncoder
from lossmith.text_to_image.encoders.minilm import MiniLM
from lossmith.text_to_image.encoders.pretrained import general
from lossmith.text_to_image.encoders.words import WordVectors, words_of

__all__ = ["encoder"]


def encoder(
    name: str = "auto",
    *,
    captions: Iterable[str] = (),
    weights: str | Path | None = None,
    longest: int = 64,
    vocabulary: Sequence[str] | None = None,
    dim: int | None = None,
    seed: int = 0,
) -> TextEncoder:
    """What turns prompts into vectors.

    Args:
        name: "minilm"; "words", which needs no file; "auto", the first if its weights are found and else the second;
            "t5:NAME" or "clip:NAME", a repository of the Hugging Face hub such as "t5:google/t5-v1_1-base", or a
            folder.
        captions: Those that will be trained on, of whose words "words" makes its vocabulary.
        weights: A file of weights for "minilm".
        longest: How many tokens of a prompt are read.
        vocabulary: The words themselves, in place of captions.
        dim: The length of the vectors of "words".
        seed: Which vectors "words" draws.

    Returns:
        The encoder. Its :attr:`~TextEncoder.settings` are what this function makes the same encoder of, and its
        :attr:`~TextEncoder.remark` says, where "auto" found no weights, how to get them.

    Raises:
        ValueError: An unknown name; no weights of that name.

    Example:
        >>> embedded = encoder("words", captions=["a red ring"]).encode(["a ring", "a red ring"])
        >>> embedded.tokens.shape, embedded.mask.sum(dim=1)
        (torch.Size([2, 3, 128]), tensor([2, 3]))
    """
    kind, _, rest = name.partition(":")
    place = None if weights is None else str(weights)
    if name in ("minilm", "auto"):
        try:
            return MiniLM(place, longest=longest)
        except MissingWeights as error:
            if name == "minilm" or place is not None:
                raise
            remark = f'The text encoder is "words": it knows the words of the training captions alone. {error}'
    if name in ("words", "auto"):
        found = WordVectors(vocabulary or words_of(captions), dim=dim, longest=longest, seed=seed)
        found.remark = remark if name == "auto" else ""
        return found
    if kind in ("t5", "clip") and rest:
        return general(name, longest=longest)
    raise ValueError(
        f"There is no text encoder {name!r}; there are auto, minilm, words, t5:NAME and clip:NAME, such as "
        "t5:google/t5-v1_1-base."
    )
