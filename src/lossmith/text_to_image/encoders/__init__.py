"""Text encoders: from prompts to the embeddings that condition a text-to-image network."""

from lossmith.text_to_image.encoders.base import TextEncoder, Token
from lossmith.text_to_image.encoders.caption_embeddings import CaptionEmbeddings
from lossmith.text_to_image.encoders.embedding import TextEmbedding, null_embedding, pad_embeddings
from lossmith.text_to_image.encoders.load import load_text_encoder
from lossmith.text_to_image.encoders.minilm import MiniLM
from lossmith.text_to_image.encoders.standardizer import EmbeddingStandardizer
from lossmith.text_to_image.encoders.transformers_encoder import TransformersEncoder
from lossmith.text_to_image.encoders.word_vectors import WordVectors, collect_words

__all__ = [
    "CaptionEmbeddings",
    "EmbeddingStandardizer",
    "MiniLM",
    "TextEmbedding",
    "TextEncoder",
    "Token",
    "TransformersEncoder",
    "WordVectors",
    "collect_words",
    "load_text_encoder",
    "null_embedding",
    "pad_embeddings",
]
