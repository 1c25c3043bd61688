"""BERT's way to cut a prompt into tokens: lower case, no accents, words, and pieces of the words it does not know."""

import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import final

from lossmith.text_to_image.encoders.encoder import Token

__all__ = ["WordPiece"]

LONGEST_WORD = 100
"""A longer word becomes one unknown token, as BERT has it."""

IDEOGRAPHS = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2FA1F), (0xF900, 0xFAFF))


@final
class WordPiece:
    """Cuts prompts as the tokenizer of bert-base-uncased does.

    A prompt that spells out a mark such as "[SEP]" is read as brackets and letters.

    References:
        | BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding (Devlin et al., 2018)
        | https://arxiv.org/abs/1810.04805

    Example:
        >>> [(prompt[t.start : t.end]) for prompt in ["Un café flambé"] for t in WordPiece()(prompt)]
        ['', 'Un', 'café', 'fl', 'am', 'bé', '']
    """

    def __init__(self) -> None:
        self.numbers = _vocabulary()
        self.unknown, self.begin, self.end = (self.numbers[mark] for mark in ("[UNK]", "[CLS]", "[SEP]"))

    def __call__(self, prompt: str) -> list[Token]:
        """The tokens of a prompt between the marks of begin and end."""
        inner = [token for word in _words(prompt) for token in self._pieces(word)]
        return [Token(self.begin), *inner, Token(self.end)]

    def _pieces(self, word: list[tuple[str, int]]) -> list[Token]:
        """The longest known piece, again and again; a word that cannot be pieced together is unknown."""
        letters, places = "".join(letter for letter, _ in word), [place for _, place in word]
        whole = [Token(self.unknown, places[0], places[-1] + 1)]
        if len(letters) > LONGEST_WORD:
            return whole
        pieces: list[Token] = []
        start = 0
        while start < len(letters):
            for end in range(len(letters), start, -1):
                number = self.numbers.get(("##" if start else "") + letters[start:end])
                if number is not None:
                    break
            else:
                return whole
            pieces.append(Token(number, places[start], places[end - 1] + 1))
            start = end
        return pieces


def _words(prompt: str) -> Iterator[list[tuple[str, int]]]:
    """Each word as its letters and where they stand in the prompt; a sign or an ideograph is a word."""
    word: list[tuple[str, int]] = []
    for place, original in enumerate(prompt):
        for letter in unicodedata.normalize("NFD", original.lower()):
            kind, code = unicodedata.category(letter), ord(letter)
            if kind == "Mn" or code in (0, 0xFFFD) or (kind.startswith("C") and letter not in "\t\n\r"):
                continue
            alone = kind.startswith("P") or 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96
            alone = alone or 123 <= code <= 126 or any(low <= code <= high for low, high in IDEOGRAPHS)
            if (alone or letter.isspace()) and word:
                yield word
                word = []
            if alone:
                yield [(letter, place)]
            elif not letter.isspace():
                word.append((letter, place))
    if word:
        yield word


@cache
def _vocabulary() -> dict[str, int]:
    lines = (Path(__file__).parent / "minilm_vocab.txt").read_text("utf-8").split("\n")
    return {piece: number for number, piece in enumerate(lines) if piece}
