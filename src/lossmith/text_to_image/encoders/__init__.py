"""Prompts: from text to the vectors that a network which makes pictures is conditioned on."""

from lossmith.text_to_image.encoders.by_name import encoder
from lossmith.text_to_image.encoders.cache import Embeddings
from lossmith.text_to_image.encoders.embedded import Embedded, null, stacked
from lossmith.text_to_image.encoders.encoder import TextEncoder, Token
from lossmith.text_to_image.encoders.minilm import MiniLM
from lossmith.text_to_image.encoders.standardize import Standard
from lossmith.text_to_image.encoders.words import WordVectors, words_of

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
