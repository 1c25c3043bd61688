"""The WordPiece tokenizer of bert-base-uncased, by the library tokenizers."""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from lossmith.text_to_image.encoders.base import Token

__all__ = ["tokenize_wordpiece"]

UNKNOWN, START, END = "[UNK]", "[CLS]", "[SEP]"
MAX_WORD_LENGTH = 100
"""A longer word becomes one unknown token, as in BERT."""


def tokenize_wordpiece(prompt: str) -> list[Token]:
    """Tokenize a prompt in lower case and without accents, with a start and an end token.

    The special tokens are not in the tokenizer's list: "[SEP]" in a prompt is read as brackets and letters.

    References:
        | BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding (Devlin et al., 2018)
        | https://arxiv.org/abs/1810.04805

    Raises:
        ValueError: The package tokenizers is not installed.

    Example:
        >>> prompt = "Un café flambé"
        >>> [prompt[token.start : token.end] for token in tokenize_wordpiece(prompt)]
        ['', 'Un', 'café', 'fl', 'am', 'bé', '']
    """
    tokenizer = _load_tokenizer()
    encoded = tokenizer.encode(prompt)
    inner = [Token(token_id, start, end) for token_id, (start, end) in zip(encoded.ids, encoded.offsets, strict=True)]
    return [Token(tokenizer.token_to_id(START)), *inner, Token(tokenizer.token_to_id(END))]


@cache
def _load_tokenizer() -> Any:
    try:
        tokenizers: Any = import_module("tokenizers")
    except ImportError as error:
        raise ValueError(
            f"The text encoder minilm needs the package 'tokenizers', which cannot be imported ({error}); "
            "run pip install -e '.[diffusion]', or choose the encoder words."
        ) from None
    lines = (Path(__file__).parent / "minilm_vocab.txt").read_text("utf-8").split("\n")
    vocabulary = {piece: number for number, piece in enumerate(lines) if piece}
    model = tokenizers.models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=MAX_WORD_LENGTH)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return tokenizer
