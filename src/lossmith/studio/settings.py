"""The settings of the studio's server, all in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lossmith._checks import check_integer
from lossmith.studio.passwords import PasswordFile

__all__ = ["NETWORK", "StudioSettings"]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
"""The names of this computer."""


@dataclass(frozen=True, kw_only=True)
class StudioSettings:
    """The settings of the studio's server.

    Args:
        host: The address to listen on; 127.0.0.1 admits this computer only.
        port: The port; None for the first free one from 7860.
        images: A folder whose images may be opened in the page; None for none.
        device: The device of the networks.
        max_upload_mb: The largest size of an uploaded file in megabytes.
        max_megapixels: The largest number of pixels of an image in millions.
        max_sessions: The number of users whose images are kept in memory; the one who was idle longest is dropped.
        preview: The largest side of the region that is shown, in pixels of the output.
        auth: The password file, see :class:`lossmith.studio.passwords.PasswordFile`; "none" for a public page without a
            login, None for a page of this computer.
        public_name: The name under which a proxy on this computer serves the page, such as "studio.example.org".
        queue_length: The number of computations that may wait.
        requests_per_minute: The number of requests of a client in a minute.
        image_seconds: The time limit of the restoration of a whole image.
        formula_seconds: The time limit of a computation of the formula tab.
        formula_memory_gb: The memory limit of the process that computes it.
        max_temporary_mb: The size of all uploads and results above which no upload is accepted.
        opens_browser: Whether to open the page in the browser.

    Raises:
        ValueError: A setting is out of range.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    images: Path | None = None
    device: str = "auto"
    max_upload_mb: int = 200
    max_megapixels: int = 100
    max_sessions: int = 20
    preview: int = 512
    opens_browser: bool = False
    auth: Path | Literal["none"] | None = None
    public_name: str | None = None
    queue_length: int = 32
    requests_per_minute: int = 1200
    image_seconds: int = 600
    formula_seconds: int = 120
    formula_memory_gb: int = 8
    max_temporary_mb: int = 4000

    def __post_init__(self) -> None:
        check_integer("max_upload_mb", self.max_upload_mb, low=1)
        check_integer("max_megapixels", self.max_megapixels, low=1)
        check_integer("max_sessions", self.max_sessions, low=1)
        check_integer("preview", self.preview, low=64)
        if self.port is not None:
            check_integer("port", self.port, low=1)
        if self.images is not None and not self.images.is_dir():
            raise ValueError(f"images must be a folder; got {str(self.images)!r}.")
        for name in (
            *("queue_length", "requests_per_minute", "max_temporary_mb"),
            *("image_seconds", "formula_seconds", "formula_memory_gb"),
        ):
            check_integer(name, getattr(self, name), low=1)
        if not self.is_local and self.auth is None:
            raise ValueError(
                "A page that others can reach needs a password file: --auth FILE, or --auth none to admit everyone."
            )
        if isinstance(self.auth, Path):
            PasswordFile(self.auth).read()

    @property
    def is_local(self) -> bool:
        """Whether only this computer can reach the page."""
        return self.host in LOOPBACK and self.public_name is None

    @property
    def allowed_hosts(self) -> list[str]:
        """The names under which the page may be requested: a page of another name could read this one through DNS."""
        if self.host not in LOOPBACK:
            return ["*"]
        return [*LOOPBACK, *([self.public_name] if self.public_name else [])]


NETWORK = {"concurrency_id": "network", "concurrency_limit": 1}
"""Arguments of events that run a network: one at a time, since a conditioned network keeps state in a pass."""
