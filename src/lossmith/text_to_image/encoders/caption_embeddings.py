"""Embeddings of the captions of a data set, each computed once and cached in memory or on disk."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lossmith._files import write_atomically
from lossmith.text_to_image.encoders.base import TextEncoder
from lossmith.text_to_image.encoders.embedding import TextEmbedding, pad_embeddings
from lossmith.text_to_image.encoders.standardizer import EmbeddingStandardizer

__all__ = ["CaptionEmbeddings"]

CAPTIONS_PER_SHARD = 4096
"""Captions that are embedded before they are written; an interrupted run loses at most so many."""

HASH_BYTES = 16  # 2**64 captions before two collide by chance


class EmbeddingShard(NamedTuple):
    """Embeddings of n captions, as one file stores them, with the tokens of all captions concatenated.

    Args:
        keys: A hash of encoder and caption, (n, 16), uint8.
        ends: The index after each caption's last token, (n,).
        tokens: Token vectors, (T, D).
        spans: The characters [start, end) of each token, (T, 2).
        pooled: Pooled vectors, (n, D).
    """

    keys: Tensor
    ends: Tensor
    tokens: Tensor
    spans: Tensor
    pooled: Tensor


@final
class CaptionEmbeddings:
    """The embedded captions of a data set, by index.

    Args:
        encoder: The text encoder; only the constructor uses it.
        captions: The captions.
        folder: Folder of the cache, safetensors files that are memory-mapped; None keeps the embeddings in memory.
            Cached embeddings are reused across data sets; files of several encoders may share the folder.
        length: Number of tokens L of each caption; None for that of the longest caption.

    Attributes:
        standardizer: Applied by :meth:`get_batch`; None for raw embeddings.

    Raises:
        ValueError: There are no captions, or the encoder returns non-finite values.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        captions: Sequence[str],
        *,
        folder: str | Path | None = None,
        length: int | None = None,
    ) -> None:
        if not captions:
            raise ValueError("CaptionEmbeddings needs at least one caption; got none.")
        self.captions, self.name, self.dim = list(captions), encoder.name, encoder.dim
        self.standardizer: EmbeddingStandardizer | None = None
        self.folder = None if folder is None else Path(folder)
        self.stem = f"{encoder.name.partition(':')[0]}-{encoder.digest[:12]}"
        self.shards = self._read_cache()
        keys = [hashlib.sha256(f"{encoder.digest}\0{caption}".encode()).digest()[:HASH_BYTES] for caption in captions]
        known = self._index()
        missing = {key: caption for key, caption in zip(keys, captions, strict=True) if key not in known}
        for k in range(0, len(missing), CAPTIONS_PER_SHARD):
            part = list(missing)[k : k + CAPTIONS_PER_SHARD]
            self.shards.append(self._write_cache(_embed(encoder, part, [missing[key] for key in part])))
        known = self._index()
        self.locations = np.array([known[key] for key in keys])
        longest = max(self._rows(index).stop - self._rows(index).start for index in range(len(captions)))
        self.length = max(longest, 1) if length is None else length

    def __len__(self) -> int:
        """Return the number of captions."""
        return len(self.captions)

    def get_batch(self, indices: Sequence[int]) -> TextEmbedding:
        """Return captions as one batch of :attr:`length` tokens, standardized if there is a standardizer."""
        rows = [self.shards[self.locations[index, 0]].tokens[self._rows(index)] for index in indices]
        pooled = torch.stack([self.shards[shard].pooled[row] for shard, row in self.locations[list(indices)]])
        batch = pad_embeddings(rows, pooled, self.length)
        return self.standardizer(batch) if self.standardizer else batch

    def get(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return one caption's tokens (L, D), their mask (L,) and its pooled vector (D,)."""
        tokens, mask, pooled = self.get_batch([index])
        return tokens[0], mask[0], pooled[0]

    def phrase_masks(self, index: int, phrases: Sequence[tuple[int, int]]) -> Tensor:
        """Return for each phrase [start, end) of a caption which tokens overlap with it, (K, L), bool."""
        spans = self.shards[self.locations[index, 0]].spans[self._rows(index)][: self.length]
        masks = torch.zeros(len(phrases), self.length, dtype=torch.bool)
        for row, (start, end) in enumerate(phrases):
            masks[row, : len(spans)] = (spans[:, 0] < end) & (spans[:, 1] > start)
        return masks

    def fit_standardizer(self) -> EmbeddingStandardizer:
        """Fit the standardizer to these captions, each counted once, and apply it from now on."""
        self.standardizer = None
        parts = (range(k, min(k + CAPTIONS_PER_SHARD, len(self))) for k in range(0, len(self), CAPTIONS_PER_SHARD))
        fitted = EmbeddingStandardizer(self.dim).fit(self.get_batch(part) for part in parts)
        self.standardizer = fitted
        return fitted

    def _rows(self, index: int) -> slice:
        """Return the rows of a caption's tokens in its shard."""
        shard, row = self.locations[index]
        ends = self.shards[shard].ends
        return slice(int(ends[row - 1]) if row else 0, int(ends[row]))

    def _index(self) -> dict[bytes, tuple[int, int]]:
        """Return the shard and the row of each cached key."""
        return {
            bytes(key): (number, row)
            for number, shard in enumerate(self.shards)
            for row, key in enumerate(shard.keys.numpy())
        }

    def _read_cache(self) -> list[EmbeddingShard]:
        """Return the shards in the folder; unreadable ones are skipped and their captions embedded again."""
        shards = []
        for file in sorted(self.folder.glob(f"{self.stem}-*.safetensors")) if self.folder else []:
            try:
                shards.append(EmbeddingShard(**load_file(file)))
            except (SafetensorError, OSError, TypeError):
                continue
        return shards

    def _write_cache(self, shard: EmbeddingShard) -> EmbeddingShard:
        """Write a shard to the folder and return it memory-mapped."""
        if self.folder is None:
            return shard
        file = self.folder / f"{self.stem}-{hashlib.sha256(shard.keys.numpy().tobytes()).hexdigest()[:12]}.safetensors"
        try:
            write_atomically(file, lambda partial: save_file(shard._asdict(), partial), is_shared=True)
            return EmbeddingShard(**load_file(file))
        except (SafetensorError, OSError) as error:
            warnings.warn(
                f"The embeddings of {len(shard.keys)} captions are kept in memory because the cache "
                f"{str(self.folder)!r} cannot be written: {error}",
                stacklevel=3,
            )
            return shard


def _embed(encoder: TextEncoder, keys: Sequence[bytes], captions: Sequence[str]) -> EmbeddingShard:
    tokenized = [encoder.tokenize(caption) for caption in captions]
    if truncated := sum(len(tokens) > encoder.max_length for tokens in tokenized):
        warnings.warn(
            f"{truncated} of {len(captions)} captions have more than the {encoder.max_length} tokens that "
            f"{encoder.name} reads and are truncated.",
            stacklevel=3,
        )
    tokens = [encoder.truncate(each) for each in tokenized]
    rows, pooled = encoder.embed_tokens(tokens)
    concatenated = torch.cat(rows)
    if not bool(concatenated.isfinite().all() and pooled.isfinite().all()):
        raise ValueError(f"The text encoder {encoder.name!r} returns non-finite values; choose another encoder.")
    spans = [(token.start, token.end) for row in tokens for token in row]
    return EmbeddingShard(
        torch.from_numpy(np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, HASH_BYTES).copy()),
        torch.tensor([len(row) for row in rows]).cumsum(0),
        concatenated,
        torch.tensor(spans, dtype=torch.int32).reshape(-1, 2),
        pooled,
    )
