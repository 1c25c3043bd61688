"""State dicts in the files of other tools: read without executing code, and without the prefixes of wrappers."""

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossmith.models.spandrel_model import SpandrelModel, import_spandrel

__all__ = ["detect_network", "read_state_dict"]

GENERATOR_NAMES = ("net_g_ema", "net_g", "netG_ema", "netG", "generator_ema", "generator")
"""The names of the restoring network in trainers of adversarial networks; averaged weights come first."""

WRAPPER_PREFIXES = ("module.", *(f"{name}." for name in GENERATOR_NAMES), "ema_model.", "model.", "network.")
"""The prefixes of keys in the checkpoints of DataParallel, averaged models and Lightning modules."""


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """Return the state dict in a file, without executing code from it.

    The prefix "_orig_mod." of torch.compile is removed from all keys.

    Raises:
        ValueError: The file cannot be read safely, or contains no state dict.
    """
    from safetensors.torch import load_file

    try:
        if file.suffix.lower() == ".safetensors":
            return _without_compile_prefix(load_file(file))
        with torch.serialization.safe_globals(_numpy_scalar_globals()):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many exception types
        raise ValueError(
            f"{str(file)!r} contains no weights that can be read safely: {_describe_error(error)}."
        ) from error
    state = _find_state_dict(content) if isinstance(content, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{str(file)!r} contains no state dict, but a {type(content).__name__} of other objects.")
    return _without_compile_prefix(state)


def detect_network(state: Mapping[str, Tensor], source: str) -> SpandrelModel:
    """Return the network of a state dict as it is, or of the part of it below the prefix of a wrapper.

    Args:
        state: The state dict.
        source: The name of the weights in error messages.

    Raises:
        ValueError: No architecture of spandrel has such weights; the message is that of the whole state dict.
    """
    first_error: ValueError | None = None
    for candidate in _unwrap(state):
        try:
            return SpandrelModel.from_weights(candidate, source)
        except ValueError as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def _unwrap(state: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """Yield the state dict, then the parts below each prefix, outermost first."""
    yield state
    for prefix in WRAPPER_PREFIXES:
        if part := {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}:
            yield from _unwrap(part)


def _find_state_dict(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict in a checkpoint, which may lie below the name of the network."""
    for name in GENERATOR_NAMES:
        if isinstance(content.get(name), dict):
            return _find_state_dict(content[name])
    return dict(import_spandrel().canonicalize_state_dict(content))


def _without_compile_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace("_orig_mod.", ""): value for key, value in state.items()}


def _numpy_scalar_globals() -> list[Any]:
    """Return what the pickles of NumPy's numbers refer to, such as a PSNR beside the weights; they hold no code."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = (np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.float16, np.float32, np.float64)
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*names, np.dtype, *(type(np.dtype(kind)) for kind in kinds)]


def _describe_error(error: Exception) -> str:
    """Return the reason in one line, without PyTorch's advice to load the file unsafely."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if not isinstance(error, pickle.UnpicklingError):
        return reason
    found = re.search(r"(?:GLOBAL|global|class|function) ([\w.]+\.\w+)", str(error))
    what = f"it refers to {found[1]}" if found else "it holds other objects than tensors, numbers and text"
    return f"{what}. Where the file was written, save the weights alone: torch.save(model.state_dict(), path)"
