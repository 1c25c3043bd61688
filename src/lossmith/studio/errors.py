"""Errors that the page shows to the user."""

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import gradio as gr

__all__ = ["user_errors"]


@contextmanager
def user_errors() -> Iterator[None]:
    """Show the message of a ValueError or OSError in the page, without a traceback in the terminal."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gr.Error(escape(str(error)), print_exception=False) from error
