"""The studio: a page in the browser that restores images with a knob and examines a formula."""

from lossmith.studio.app import build_app
from lossmith.studio.server import serve
from lossmith.studio.settings import StudioSettings

__all__ = ["StudioSettings", "build_app", "serve"]
