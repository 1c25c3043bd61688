"""Decoded images are written into the cache folder in a thread, so that no crop waits for a slow disk."""

import threading
import time
from collections.abc import Mapping
from typing import Any, final

from torch import Tensor

from lossmith.data.cache.folder import CacheFolder

__all__ = ["ImageWriter"]

PATIENCE_SECONDS = 1.0
"""The time for which the writing of the first images is waited for, all together."""
WAITING_SHARE = 0.1
"""The part of the decoding time that may be waited, later."""


@final
class ImageWriter:
    """A writer of decoded images, one at a time, which is waited for as long as that hardly delays the decoding.

    A disk that is slower than the decoder, or whose write cache is full, would otherwise stop the training. Images that
    come while it writes are not stored; they are decoded again when they are drawn again.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: CacheFolder) -> None:
        self.folder = folder
        self._patience = PATIENCE_SECONDS
        self._thread: threading.Thread | None = None
        self._image: tuple[str, Tensor] | None = None
        self._outcome: str | OSError = ""

    def find(self, key: str) -> Tensor | None:
        """Return the image that is being written under a key of path, size and time; None for another key."""
        if self._image is None or not self._is_busy():
            self._image = None
            return None
        return self._image[1] if self._image[0] == key else None

    def store(
        self, key: str, content: str, values: Tensor, description: Mapping[str, Any], decode_seconds: float
    ) -> str:
        """Store an image under both keys, see :meth:`CacheFolder.store`, unless an earlier one is still being written.

        Args:
            key: The key of path, size and time.
            content: The key of content.
            values: The samples.
            description: Plain values to store beside shape and type.
            decode_seconds: The time in which the image was decoded.

        Returns:
            "" without a problem; otherwise why there is no room for this image or an earlier one, and the cure.

        Raises:
            OSError: This image or an earlier one cannot be written.
        """

        def write() -> None:
            try:
                self._outcome = self.folder.store(key, content, values, description)
            except OSError as error:
                self._outcome = error

        self._patience = min(self._patience + WAITING_SHARE * decode_seconds, PATIENCE_SECONDS)
        if self._wait() and not self._outcome:
            self._image = key, values
            self._thread = threading.Thread(target=write, name="image cache")
            self._thread.start()
            self._wait()
        if self._is_busy():
            return ""
        outcome, self._outcome = self._outcome, ""
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    def _is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _wait(self) -> bool:
        """Wait for the thread, within the patience; return whether it has ended."""
        if self._is_busy() and self._patience > 0:
            assert self._thread is not None
            start = time.perf_counter()
            self._thread.join(self._patience)
            self._patience -= time.perf_counter() - start
        return not self._is_busy()
