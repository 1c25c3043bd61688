"""The embeddings of the captions of a data set, each computed once, on disk if a folder is given for them."""

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lossmith.text_to_image.encoders.embedded import Embedded, stacked
from lossmith.text_to_image.encoders.encoder import TextEncoder
from lossmith.text_to_image.encoders.standardize import Standard

__all__ = ["Embeddings"]

AT_ONCE = 4096
"""How many captions are embedded before they are written: what a kill may cost."""

KEY = 16  # bytes of a hash: 2**64 captions before two meet by chance


class Piece(NamedTuple):
    """Some captions, as one file holds them: their tokens in one row, and where each caption's end in it.

    Args:
        keys: (n, 16), uint8: a hash of encoder and caption.
        ends: (n,): the place after each caption's last token.
        tokens: (T, D).
        spans: (T, 2): the characters that each token stands for.
        pooled: (n, D).
    """

    keys: Tensor
    ends: Tensor
    tokens: Tensor
    spans: Tensor
    pooled: Tensor


@final
class Embeddings:
    """The captions of a data set as a text encoder reads them; a caption is known by its number.

    Args:
        encoder: The text encoder; it is not needed any more afterwards.
        captions: The captions, in the order of their numbers.
        folder: Where they are kept, as safetensors files that are mapped and not read; None keeps them in memory. What
            is there already is not computed again, whichever data set it came from; files of other encoders may lie
            there too.
        length: How many tokens each gets; None takes what the longest needs.

    Attributes:
        standard: What :meth:`batch` and :meth:`embedded` apply, if anything.

    Raises:
        ValueError: There are no captions, or the encoder gives numbers that are not finite.
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
            raise ValueError("Embeddings wants at least one caption; got none.")
        self.captions, self.name, self.dim = list(captions), encoder.name, encoder.dim
        self.standard: Standard | None = None
        self.folder = None if folder is None else Path(folder)
        self.stem = f"{encoder.name.partition(':')[0]}-{encoder.digest[:12]}"
        self.pieces: list[Piece] = self._kept()
        keys = [hashlib.sha256(f"{encoder.digest}\0{caption}".encode()).digest()[:KEY] for caption in captions]
        known = self._places()
        missing = {key: caption for key, caption in zip(keys, captions, strict=True) if key not in known}
        for some in (list(missing)[k : k + AT_ONCE] for k in range(0, len(missing), AT_ONCE)):
            self.pieces.append(self._written(_embedded(encoder, some, [missing[key] for key in some])))
        known = self._places()
        self.places = np.array([known[key] for key in keys])
        needed = max(self._row(number).stop - self._row(number).start for number in range(len(captions)))
        self.length = max(needed, 1) if length is None else length

    def __len__(self) -> int:
        """How many captions there are."""
        return len(self.captions)

    def batch(self, numbers: Sequence[int]) -> Embedded:
        """Some captions as one batch of :attr:`length` tokens, standardised if there is a standard."""
        rows = [self.pieces[self.places[number, 0]].tokens[self._row(number)] for number in numbers]
        pooled = torch.stack([self.pieces[piece].pooled[row] for piece, row in self.places[list(numbers)]])
        found = stacked(rows, pooled, self.length)
        return self.standard(found) if self.standard else found

    def embedded(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """One caption: its tokens (L, D), their mask (L,), and its vector (D,)."""
        tokens, mask, pooled = self.batch([number])
        return tokens[0], mask[0], pooled[0]

    def speaking(self, number: int, phrases: Sequence[tuple[int, int]]) -> Tensor:
        """Which tokens of a caption touch each of some stretches [start, end) of its characters, (K, L), bool."""
        spans = self.pieces[self.places[number, 0]].spans[self._row(number)][: self.length]
        found = torch.zeros(len(phrases), self.length, dtype=torch.bool)
        for row, (start, end) in enumerate(phrases):
            found[row, : len(spans)] = (spans[:, 0] < end) & (spans[:, 1] > start)
        return found

    def standardise(self) -> Standard:
        """Standardises all that follows by the statistics of these captions, each counted once, and returns how."""
        self.standard = None
        parts = (range(k, min(k + AT_ONCE, len(self))) for k in range(0, len(self), AT_ONCE))
        found = Standard(self.dim).fit(self.batch(part) for part in parts)
        self.standard = found
        return found

    def _row(self, number: int) -> slice:
        """Where a caption's tokens stand in its piece."""
        piece, row = self.places[number]
        ends = self.pieces[piece].ends
        return slice(int(ends[row - 1]) if row else 0, int(ends[row]))

    def _places(self) -> dict[bytes, tuple[int, int]]:
        return {
            bytes(key): (number, row)
            for number, piece in enumerate(self.pieces)
            for row, key in enumerate(piece.keys.numpy())
        }

    def _kept(self) -> list[Piece]:
        files = sorted(self.folder.glob(f"{self.stem}-*.safetensors")) if self.folder else []
        return list(self._readable(files))

    def _readable(self, files: Sequence[Path]) -> Iterator[Piece]:
        for file in files:
            try:
                yield Piece(**load_file(file))
            except (SafetensorError, OSError, TypeError):
                continue  # it is computed again, under another name

    def _written(self, piece: Piece) -> Piece:
        if self.folder is None:
            return piece
        name = f"{self.stem}-{hashlib.sha256(piece.keys.numpy().tobytes()).hexdigest()[:12]}.safetensors"
        part = self.folder / f".{name}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(piece._asdict(), part)
            part.replace(self.folder / name)
            return Piece(**load_file(self.folder / name))
        except (SafetensorError, OSError) as error:
            with suppress(OSError):
                part.unlink()
            warnings.warn(
                f"The embeddings of {len(piece.keys)} captions stay in memory; they cannot be kept in "
                f"{str(self.folder)!r}: {error}.",
                stacklevel=3,
            )
            return piece


def _embedded(encoder: TextEncoder, keys: Sequence[bytes], captions: Sequence[str]) -> Piece:
    found = [encoder.whole(caption) for caption in captions]
    if long := sum(len(tokens) > encoder.longest for tokens in found):
        warnings.warn(
            f"{long} of {len(captions)} captions have more than the {encoder.longest} tokens that {encoder.name} "
            "reads; their rest is left out.",
            stacklevel=3,
        )
    tokens = [encoder.kept(each) for each in found]
    rows, pooled = encoder.rows(tokens)
    together = torch.cat(rows)
    if not bool(together.isfinite().all() and pooled.isfinite().all()):
        raise ValueError(f"The text encoder {encoder.name!r} gives numbers that are not finite; take another.")
    spans = [(token.start, token.end) for row in tokens for token in row]
    return Piece(
        torch.from_numpy(np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY).copy()),
        torch.tensor([len(row) for row in rows]).cumsum(0),
        together,
        torch.tensor(spans, dtype=torch.int32).reshape(-1, 2),
        pooled,
    )
