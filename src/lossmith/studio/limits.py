"""Limits of the studio's server: its addresses, the number and size of requests, and what its pages may load."""

import json
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MAX_BODY_MB", "RateLimit", "RequestGuard", "folder_size"]

MAX_BODY_MB = 20
"""The largest body of a request other than an upload, in megabytes: a painted map."""
LOGINS_PER_MINUTE = 10
MAX_CLIENTS = 10_000
"""The number of clients whose requests are counted; the one that was silent longest is forgotten."""
ADDRESSES = re.compile(
    r"/(|config/?|login/?|logout|user/?|theme\.css|favicon\.ico|robots\.txt|manifest\.json|(assets|static)/.+"
    r"|gradio_api/(queue/(join|data)|upload|upload_progress|heartbeat/\w+|startup-events|app_id/?|login_check/?|user/?"
    r"|info/?|cancel|reset/?|theme\.css|component_server/?|file=(?!https?:).+))"
)
"""The addresses that the page uses; Gradio's others, such as its proxy, its editor and its monitor, do not exist."""
STATIC = ("/assets/", "/static/")
HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}
"""The browser loads nothing from other servers, and sends nothing to them."""


@final
class RateLimit:
    """A token bucket for each client: a minute's requests at once, then one for each part of a minute.

    Args:
        per_minute: The number of requests of a client in a minute.
        clock: The time in seconds.

    Example:
        >>> limit = RateLimit(2, clock=lambda: 0.0)
        >>> [limit.admit("a"), limit.admit("a"), limit.admit("a"), limit.admit("b")]
        [True, True, False, True]
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self.clock = per_minute, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, client: str) -> bool:
        """Count a request, and return whether it is within the limit."""
        now = self.clock()
        left, then = self._buckets.pop(client, (float(self.per_minute), now))
        left = min(float(self.per_minute), left + (now - then) * self.per_minute / 60)
        self._buckets[client] = (left - 1 if left >= 1 else left, now)
        while len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return left >= 1


@final
class RequestGuard:
    """ASGI middleware that refuses what the page does not need, before Gradio sees it.

    Args:
        app: The application.
        requests_per_minute: The number of requests of a client in a minute, without scripts and styles.
        max_upload_mb: The largest upload in megabytes, all files of a request together.
        folder: The folder of the temporary files.
        max_temporary_mb: The size of that folder above which no upload is accepted.
    """

    def __init__(
        self, app: ASGIApp, *, requests_per_minute: int, max_upload_mb: int, folder: Path, max_temporary_mb: int
    ) -> None:
        self.app, self.folder = app, folder
        self.requests, self.logins = RateLimit(requests_per_minute), RateLimit(LOGINS_PER_MINUTE)
        self.max_upload_mb, self.max_temporary_mb = max_upload_mb, max_temporary_mb

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        path, client = scope["path"], (scope.get("client") or ("unknown",))[0]
        is_upload = path.endswith("/upload")
        max_mb = self.max_upload_mb + 1 if is_upload else MAX_BODY_MB  # 1 MB for the form around the files
        size = dict(scope["headers"]).get(b"content-length", b"0")
        if not ADDRESSES.fullmatch(path):
            await _refuse(send, 404, "There is no such address.")
        elif not path.startswith(STATIC) and not self.requests.admit(client):
            await _refuse(send, 429, "Too many requests; wait a minute.")
        elif path.rstrip("/") == "/login" and scope["method"] == "POST" and not self.logins.admit(client):
            await _refuse(send, 429, "Too many logins; wait a minute.")
        elif not size.isdigit() or int(size) > max_mb * 1_000_000:
            await _refuse(send, 413, f"A request has at most {max_mb} MB.")
        elif is_upload and folder_size(self.folder) > self.max_temporary_mb * 1_000_000:
            await _refuse(send, 507, "The studio's temporary storage is full; try again in an hour.")
        else:
            await self.app(scope, _limit_body(receive, max_mb * 1_000_000), _add_headers(send))


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in a folder; files that vanish meanwhile do not count."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(root) / name).stat().st_size
    return total


def _limit_body(receive: Receive, limit: int) -> Receive:
    """Return a `receive` that ends a body without a stated length when it is too large."""
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > limit:
                return {"type": "http.disconnect"}
        return message

    return limited


def _add_headers(send: Send) -> Send:
    """Return a `send` that adds the security headers to each response."""
    extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name for name, _ in message.get("headers", [])}
            message["headers"] = [*message.get("headers", []), *(pair for pair in extra if pair[0] not in given)]
        await send(message)

    return with_headers


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"retry-after", b"60")] if status == 429 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
