"""A small two-tower network that scores how well an image and a caption match, for evaluation only."""

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import final

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lossmith._files import write_atomically

__all__ = ["CaptionJudge"]

HASH_BINS, EMBEDDING_DIM, OUTPUT_DIM = 8192, 96, 128
MAX_NGRAM = 4
"""Largest number of consecutive words that are hashed together; "of a blue square" has four."""

FORMER_MODULES: Mapping[str, str] = {"eye": "image_tower", "ear": "text_tower"}
"""Modules under their names in files of earlier versions, and today's names."""


@final
class CaptionJudge(nn.Module):
    """A two-tower network with 1.7 million parameters: convolutions for images, hashed n-grams for captions.

    The network shares no weights with an encoder of a loss or of a text-to-image network, and has no pretrained
    vocabulary: words, sequences of up to four words, and letter trigrams are hashed into an embedding table. Trained on
    captions with the contrastive loss of CLIP, its vectors are ranked by :func:`r_precision`.

    Args:
        side: Side in pixels to which images are resized, a multiple of 16, at least 32.

    Attributes:
        digest: The SHA-256 of the weight file; "" for a network that was not loaded from a file.

    Raises:
        ValueError: The side is not a multiple of 16, or below 32.

    Example:
        >>> judge = CaptionJudge(32).eval()
        >>> judge(torch.rand(2, 3, 64, 64)).shape, judge.encode_captions(["a red ring"]).shape
        (torch.Size([2, 128]), torch.Size([1, 128]))
    """

    def __init__(self, side: int = 32) -> None:
        super().__init__()
        if side < 32 or side % 16:
            raise ValueError(f"CaptionJudge side must be a multiple of 16 and at least 32; got {side}.")
        self.side = side
        self.digest = ""
        widths = (48, 96, 160, 192)
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        in_channels = 12
        for i, width in enumerate(widths):
            layers += [
                nn.Conv2d(in_channels, width, 3, stride=1 if i == 0 else 2, padding=1),
                *_norm_activation(width),
            ]
            layers += [nn.Conv2d(width, width, 3, padding=1), *_norm_activation(width)] if 0 < i < 3 else []
            in_channels = width
        head = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * in_channels, OUTPUT_DIM))
        self.image_tower = nn.Sequential(*layers, *head)
        self.table = nn.EmbeddingBag(HASH_BINS, EMBEDDING_DIM, mode="mean")
        self.text_tower = nn.Sequential(
            nn.Linear(EMBEDDING_DIM, 2 * OUTPUT_DIM), nn.GELU(), nn.Linear(2 * OUTPUT_DIM, OUTPUT_DIM)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors (N, 128) of images (N, 3, H, W) in [0, 1]."""
        if images.shape[2:] != (self.side, self.side):
            images = F.interpolate(images, (self.side, self.side), mode="bicubic", antialias=True)
        vectors: Tensor = self.image_tower(2 * images.clamp(0, 1) - 1)
        return vectors

    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """Return the vectors (N, 128) of captions."""
        bins = [hash_ngrams(caption) for caption in captions]
        starts = torch.tensor([0, *(len(each) for each in bins)]).cumsum(0)[:-1]
        device = self.table.weight.device
        embeddings = self.table(torch.tensor(list(chain.from_iterable(bins))).to(device), starts.to(device))
        vectors: Tensor = self.text_tower(embeddings)
        return vectors

    @torch.no_grad()
    def embed(self, images: Tensor, captions: Sequence[str], *, batch: int = 256) -> tuple[Tensor, Tensor]:
        """Return the vectors of images and of captions on the CPU, for :func:`r_precision`."""
        device = self.table.weight.device
        image_vectors = [self(part.to(device)).cpu() for part in torch.split(images, batch)]
        caption_vectors = [self.encode_captions(captions[k : k + batch]).cpu() for k in range(0, len(captions), batch)]
        return torch.cat(image_vectors), torch.cat(caption_vectors)

    def save(self, file: str | Path) -> None:
        """Write the network to a safetensors file."""
        metadata = {"kind": "caption judge", "side": str(self.side)}
        write_atomically(file, lambda partial: save_file(self.state_dict(), partial, metadata=metadata))

    @classmethod
    def load(cls, file: str | Path) -> "CaptionJudge":
        """Load the network from a file of :meth:`save`, in eval mode without gradients.

        Raises:
            ValueError: The file does not exist, or is not a file of :meth:`save`.
        """
        try:
            with safe_open(file, "pt") as opened:
                metadata = opened.metadata() or {}
                state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  not a dictionary
            judge = cls(int(metadata["side"]))
            judge.load_state_dict({_current_key(key): value for key, value in state.items()})
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise ValueError(f"{str(file)!r} is not the weight file of a caption judge: {reason}.") from None
        judge.digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        return judge.eval().requires_grad_(False)


def hash_ngrams(caption: str) -> list[int]:
    """Return the bins of a caption's words, sequences of words and letter trigrams.

    Example:
        >>> len(hash_ngrams("red ring"))  # two words, one pair, and seven trigrams with marks at both ends
        10
    """
    words = re.findall(r"\w+", caption.lower())
    ngrams = [" ".join(words[i : i + n]) for n in range(1, MAX_NGRAM + 1) for i in range(len(words) - n + 1)]
    ngrams += [f"<{word}>"[i : i + 3] for word in words for i in range(len(word))]
    return [zlib.crc32(ngram.encode()) % HASH_BINS for ngram in ngrams] or [0]


def _norm_activation(width: int) -> tuple[nn.Module, ...]:
    return nn.GroupNorm(8, width), nn.GELU()


def _current_key(key: str) -> str:
    module, _, rest = key.partition(".")
    return f"{FORMER_MODULES.get(module, module)}.{rest}"
