"""A small network that says how well a picture and a caption go together, to be trained apart from what it judges."""

import hashlib
import re
import zlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import final

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

__all__ = ["CaptionJudge"]

BINS, WIDTH, SPACE = 8192, 96, 128
MAX_NGRAM = 4
"""Words in a row that are looked at together: "of a blue square" is four."""


@final
class CaptionJudge(nn.Module):
    """Two towers into one space, 1.7 million parameters: convolutions for pictures, hashed runs of words for captions.

    It shares nothing with an encoder that a loss or a network looks through, and knows no word from elsewhere: words,
    up to four in a row, and three letters in a row are hashed into a table that is learnt. Trained on captions with the
    contrastive loss of CLIP, it judges by :func:`r_precision`.

    Args:
        side: The side in pixels that pictures are brought to, a multiple of 16.

    Raises:
        ValueError: Another side.

    Example:
        >>> judge = CaptionJudge(32).eval()
        >>> judge(torch.rand(2, 3, 64, 64)).shape, judge.captions(["a red ring"]).shape
        (torch.Size([2, 128]), torch.Size([1, 128]))
    """

    def __init__(self, side: int = 32) -> None:
        super().__init__()
        if side < 32 or side % 16:
            raise ValueError(f"CaptionJudge wants a side that is a multiple of 16, at least 32; got {side}.")
        self.side = side
        self.digest = ""
        widths = (48, 96, 160, 192)
        steps: list[nn.Module] = [nn.PixelUnshuffle(2)]
        inward = 12
        for i, width in enumerate(widths):
            steps += [nn.Conv2d(inward, width, 3, stride=1 if i == 0 else 2, padding=1), *_norm_activation(width)]
            steps += [nn.Conv2d(width, width, 3, padding=1), *_norm_activation(width)] if 0 < i < 3 else []
            inward = width
        self.eye = nn.Sequential(*steps, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * inward, SPACE))
        self.table = nn.EmbeddingBag(BINS, WIDTH, mode="mean")
        self.ear = nn.Sequential(nn.Linear(WIDTH, 2 * SPACE), nn.GELU(), nn.Linear(2 * SPACE, SPACE))

    def forward(self, pictures: Tensor) -> Tensor:
        """The vectors (N, 128) of pictures (N, 3, H, W) in [0, 1]."""
        if pictures.shape[2:] != (self.side, self.side):
            pictures = F.interpolate(pictures, (self.side, self.side), mode="bicubic", antialias=True)
        vectors: Tensor = self.eye(2 * pictures.clamp(0, 1) - 1)
        return vectors

    def captions(self, texts: Sequence[str]) -> Tensor:
        """The vectors (N, 128) of captions."""
        bins = [hash_ngrams(text) for text in texts]
        starts = torch.tensor([0, *(len(each) for each in bins)]).cumsum(0)[:-1]
        device = self.table.weight.device
        vectors: Tensor = self.ear(
            self.table(torch.tensor(list(chain.from_iterable(bins))).to(device), starts.to(device))
        )
        return vectors

    @torch.no_grad()
    def judged(self, pictures: Tensor, texts: Sequence[str], *, together: int = 256) -> tuple[Tensor, Tensor]:
        """The vectors of pictures and of captions, on the CPU, for :func:`r_precision`."""
        device = self.table.weight.device
        seen = [self(some.to(device)).cpu() for some in torch.split(pictures, together)]
        read = [self.captions(texts[k : k + together]).cpu() for k in range(0, len(texts), together)]
        return torch.cat(seen), torch.cat(read)

    def save(self, file: str | Path) -> None:
        """Writes it to a safetensors file."""
        save_file(self.state_dict(), file, metadata={"kind": "caption judge", "side": str(self.side)})

    @classmethod
    def load(cls, file: str | Path) -> "CaptionJudge":
        """Reads it from a file, ready to judge; :attr:`digest` is the file's SHA-256.

        Raises:
            ValueError: There is no such file, or it holds no judge.
        """
        try:
            with safe_open(file, "pt") as found:
                facts = found.metadata() or {}
                state = {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118  it is no dictionary
            judge = cls(int(facts["side"]))
            judge.load_state_dict(state)
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            what = (str(error).splitlines() or [""])[0]
            raise ValueError(f"A judge of captions is wanted; {str(file)!r} holds none ({what}).") from None
        judge.digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        return judge.eval().requires_grad_(False)


def hash_ngrams(text: str) -> list[int]:
    """The places in the table of a caption's words, runs of words, and runs of three letters.

    Example:
        >>> len(hashed("red ring"))  # two words, one pair, and seven runs of letters, with marks at both ends
        10
    """
    words = re.findall(r"\w+", text.lower())
    runs = [" ".join(words[i : i + n]) for n in range(1, MAX_NGRAM + 1) for i in range(len(words) - n + 1)]
    runs += [f"<{word}>"[i : i + 3] for word in words for i in range(len(word))]
    return [zlib.crc32(run.encode()) % BINS for run in runs] or [0]


def _norm_activation(width: int) -> tuple[nn.Module, ...]:
    return nn.GroupNorm(8, width), nn.GELU()
