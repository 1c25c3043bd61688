"""Prompts: from text to the vectors that a network which makes pictures is conditioned on."""

from lossmith.text.by_name import encoder
from lossmith.text.cache import Embeddings
from lossmith.text.embedded import Embedded, null, stacked
from lossmith.text.encoder import TextEncoder, Token
from lossmith.text.minilm import MiniLM
from lossmith.text.standard import Standard
from lossmith.text.words import WordVectors, words_of

__all__ = [
    "Embedded",
    "Embeddings",
    "MiniLM",
    "Standard",
    "TextEncoder",
    "Token",
    "WordVectors",
    "encoder",
    "null",
    "stacked",
    "words_of",
]
