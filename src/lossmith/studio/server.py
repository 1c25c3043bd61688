"""Start the studio's server."""

import signal
import sys
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from lossmith.studio.limits import RequestGuard
from lossmith.studio.passwords import PasswordFile
from lossmith.studio.settings import StudioSettings
from lossmith.studio.temporary import use_temporary_folder

__all__ = ["launch_options", "serve"]

STYLES = (("lossmith.report", "compare.css"), ("lossmith.studio", "studio.css"))
SCRIPTS = (("lossmith.report", "compare.js"), ("lossmith.studio", "studio.js"))
"""The viewer of the reports, and what joins it to the page."""
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Arial", "sans-serif"]
MONO_FONTS = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]
"""Fonts of the computer; a theme's own fonts would be loaded from the network."""


def launch_options(settings: StudioSettings) -> dict[str, Any]:
    """Return the arguments of :meth:`gradio.Blocks.launch`: loopback, no tunnel, no telemetry, no pages besides."""
    host = settings.host.strip("[]")
    return {
        "server_name": f"[{host}]" if ":" in host else host,  # IPv6 as in an address
        "server_port": settings.port,
        "share": False,
        "inbrowser": settings.opens_browser,
        "max_file_size": f"{settings.max_upload_mb}mb",
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "mcp_server": False,
        "pwa": False,
        "show_error": True,
        "quiet": True,
        "auth": PasswordFile(settings.auth).check if isinstance(settings.auth, Path) else None,
        "app_kwargs": {"middleware": _middleware(settings)},
        "theme": gr.themes.Base(font=FONTS, font_mono=MONO_FONTS, primary_hue="neutral", radius_size="md"),
        "css": _read_assets(STYLES),
        "head": f"<script>{{\n{_read_assets(SCRIPTS)}}}</script>",
    }


def serve(app: gr.Blocks, settings: StudioSettings, *, blocks: bool = True) -> str:
    """Start the server, and return its address.

    Args:
        app: The page.
        settings: The settings.
        blocks: Whether to return only when the server ends.

    Raises:
        ValueError: The port is in use.
    """
    try:
        _, address, _ = app.launch(prevent_thread_lock=True, **launch_options(settings))
    except OSError as error:  # Gradio's message names an environment variable
        port = "The ports 7860 to 7959 are" if settings.port is None else f"The port {settings.port} is"
        raise ValueError(f"{port} in use; choose another one with --port.") from error
    print(f"lossmith studio: {address}", flush=True)
    if blocks:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the temporary files are removed
        app.block_thread()
    return str(address)


def _middleware(settings: StudioSettings) -> list[Middleware]:
    """Return what each request passes before Gradio sees it, the first one first."""
    guard = Middleware(
        RequestGuard,
        requests_per_minute=settings.requests_per_minute,
        max_upload_mb=settings.max_upload_mb,
        folder=use_temporary_folder(),
        max_temporary_mb=settings.max_temporary_mb,
    )
    return [Middleware(TrustedHostMiddleware, allowed_hosts=settings.allowed_hosts), guard]


def _read_assets(assets: Iterable[tuple[str, str]]) -> str:
    return "\n".join((files(package) / name).read_text(encoding="utf-8") for package, name in assets)
