"""Text encoders by name."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lossmith.pretrained.locate import MissingWeightsError
from lossmith.text_to_image.encoders.base import TextEncoder
from lossmith.text_to_image.encoders.minilm import MiniLM
from lossmith.text_to_image.encoders.transformers_encoder import load_transformers_encoder
from lossmith.text_to_image.encoders.word_vectors import WordVectors, collect_words

__all__ = ["load_text_encoder"]


def load_text_encoder(
    name: str = "auto",
    *,
    captions: Iterable[str] = (),
    weights: str | Path | None = None,
    max_length: int = 64,
    vocabulary: Sequence[str] | None = None,
    dim: int | None = None,
    seed: int = 0,
) -> TextEncoder:
    """Load a text encoder by name.

    Args:
        name: "minilm"; "words", which needs no weights; "auto" for minilm if its weights are found, else words;
            "t5:NAME" or "clip:NAME" for a repository of the Hugging Face hub such as "t5:google/t5-v1_1-base", or for
            a folder.
        captions: The training captions; their words are the vocabulary of "words".
        weights: The weight file of "minilm"; None to search for it.
        max_length: Largest number of tokens of a prompt; longer prompts are truncated.
        vocabulary: The vocabulary of "words", instead of captions.
        dim: Length of the vectors of "words"; None for 128 or 256, by the size of the vocabulary.
        seed: Random seed of the vectors of "words".

    Returns:
        The encoder. This function builds the same encoder from its :attr:`~TextEncoder.settings`; if "auto" finds no
        weights, its :attr:`~TextEncoder.message` says how to get them.

    Raises:
        ValueError: The name is unknown, or a needed package is not installed.
        MissingWeightsError: The weights are not found.

    Example:
        >>> embedding = load_text_encoder("words", captions=["a red ring"]).encode(["a ring", "a red ring"])
        >>> embedding.tokens.shape, embedding.mask.sum(dim=1)
        (torch.Size([2, 3, 128]), tensor([2, 3]))
    """
    kind, _, repository = name.partition(":")
    message = ""
    if name in ("minilm", "auto"):
        try:
            return MiniLM(None if weights is None else str(weights), max_length=max_length)
        except MissingWeightsError as error:
            if name == "minilm" or weights is not None:
                raise
            message = f'The text encoder is "words", which knows only words of the training captions. {error}'
    if name in ("words", "auto"):
        encoder = WordVectors(vocabulary or collect_words(captions), dim=dim, max_length=max_length, seed=seed)
        encoder.message = message
        return encoder
    if kind in ("t5", "clip") and repository:
        return load_transformers_encoder(name, max_length=max_length)
    raise ValueError(
        f"The text encoder must be auto, minilm, words, t5:NAME or clip:NAME, such as t5:google/t5-v1_1-base; "
        f"got {name!r}."
    )
