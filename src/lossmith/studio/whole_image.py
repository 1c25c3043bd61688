"""Restore the whole image of a session for download."""

import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from lossmith.formula.weight import WeightValue
from lossmith.inference.image_network import ImageNetwork
from lossmith.inference.knob_settings import knobs_of_map
from lossmith.inference.restore import RestoringJob
from lossmith.studio.session import SEED, ImageSession

__all__ = ["restore_whole_image"]

MAX_OUTPUT_MEGAPIXELS = 200
"""The largest output that is computed in memory, in millions of pixels."""


def restore_whole_image(session: ImageSession, seconds: float) -> tuple[Path, str]:
    """Restore the whole image with the selected network, and return the file and a line about it.

    Args:
        session: The session.
        seconds: The time limit, which is checked after each tile.

    Raises:
        ValueError: The output would be too large, or the time limit is exceeded.
    """
    network = session.networks[session.selected]
    megapixels = session.size[0] * session.size[1] * network.model.scale**2 / 1e6
    if megapixels > MAX_OUTPUT_MEGAPIXELS:
        raise ValueError(
            f"The output would have {megapixels:.0f} megapixels; the studio writes up to {MAX_OUTPUT_MEGAPIXELS}. "
            "Use the command."
        )
    seed = SEED if network.model.uses_noise else None
    has_map = session.has_painting and network.knob is not None
    end = time.monotonic() + seconds

    def check_time(done: int, total: int) -> None:
        if done < total and time.monotonic() >= end:
            raise ValueError(f"stopped after {seconds:g} seconds, at {done} of {total} tiles; use the command")

    knobs = _knob_values(session, network)
    job = RestoringJob(network.model, network.pixels, knobs, has_map=has_map, seed=seed, on_tile_end=check_time)
    for old in session.folder.iterdir():
        old.unlink()
    line = job.run(session.file, session.folder / session.file.stem, has_suffix=False)
    (out,) = session.folder.iterdir()
    return out, line.partition(": ")[2]


def _knob_values(session: ImageSession, network: ImageNetwork) -> Callable[[Tensor], dict[str, WeightValue]]:
    """Return the function from the network's input to its knob values."""
    knob, position = network.knob, session.knob
    if knob is None:
        return lambda image: {}
    if isinstance(position, Tensor):
        return lambda image: knobs_of_map(knob, position, image)
    return lambda image: knob.knobs_at(position)
