"""The page of the studio: its tabs."""

from collections.abc import Sequence

import gradio as gr

from lossmith.inference.image_network import ImageNetwork
from lossmith.studio.formula_tab import build_formula_tab
from lossmith.studio.image_tab import ImageTab
from lossmith.studio.settings import StudioSettings
from lossmith.studio.temporary import use_temporary_folder

__all__ = ["build_app"]

MAX_NETWORKS = 4
CACHE_SECONDS = 3600
"""Age at which uploads and downloads are deleted, and the interval of the check."""


def build_app(sources: Sequence[str], settings: StudioSettings) -> gr.Blocks:
    """Return the page of the studio.

    Args:
        sources: Run folders, files of weights or names of networks; at most four.
        settings: The settings.

    Raises:
        ValueError: There is no network or more than four, or a network cannot be loaded.
    """
    use_temporary_folder()
    if not 1 <= len(sources) <= MAX_NETWORKS:
        raise ValueError(f"studio takes 1 to {MAX_NETWORKS} networks; got {len(sources)}.")
    networks = [ImageNetwork.load(source, settings.device) for source in sources]
    tab = ImageTab(networks, settings)
    cache = (CACHE_SECONDS, CACHE_SECONDS)
    app: gr.Blocks = gr.Blocks(title="lossmith studio", analytics_enabled=False, delete_cache=cache)
    with app:
        with gr.Tabs():
            with gr.Tab("Image"):
                tab.build()
            with gr.Tab("Formula"):
                build_formula_tab(settings)
        app.unload(tab.forget)
    app.queue(max_size=settings.queue_length, api_open=False)
    return app
