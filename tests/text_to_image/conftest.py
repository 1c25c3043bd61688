"""Tiny captioned images, networks and runs."""

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from lossmith.models import load_network
from lossmith.text_to_image.encoders import TextEmbedding
from lossmith.text_to_image.models import Denoiser
from lossmith.train import Settings, train

pytest.importorskip("diffusers")

MODEL = {"name": "denoiser", "channels": [8, 16], "heads": 1}
COMMON = {"task": "text-to-image", "images": "shapes", "scale": 1, "crop": 16, "batch": 3, "val_count": 2}
COMMON |= {
    "log_every": 2,
    "lr": 1e-2,
    "model": MODEL,
    "options": {"encoder": "words"},
    "val_every": 100,
    "schedule": "constant",
}
TINY = {"side": 16, "text_dim": 12, "channels": [8, 16], "heads": 1}


@pytest.fixture
def text():
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False], [True] * 5])
    tokens = torch.randn(3, 5, 12, generator=generator) * mask[..., None]
    return TextEmbedding(tokens, mask, torch.randn(3, 12, generator=generator))


@pytest.fixture
def batch(text):
    """Three captioned images, two of them of one group."""
    generator = torch.Generator().manual_seed(2)
    masks = torch.zeros(3, 2, 16, 16)
    masks[:, 0, :8] = 1
    words = torch.zeros(3, 2, 5, dtype=torch.bool)
    words[:, 0, 1] = True
    return {
        "target": torch.rand(3, 3, 16, 16, generator=generator),
        "tokens": text.tokens,
        "token_mask": text.mask,
        "pooled": text.pooled,
        "index": torch.tensor([4, 5, 9]),
        "group": torch.tensor([4, 4, 9]),
        "masks": masks,
        "words": words,
    }


@pytest.fixture
def build_denoiser():
    """A function that builds a tiny network whose last layer is not zero, so that its output depends on its input."""

    def build(scale=1, **options):
        torch.manual_seed(0)
        model = Denoiser(scale, **{**TINY, **options})
        torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
        return model

    return build


@pytest.fixture(scope="session")
def run_training():
    """A function that trains a tiny network in a folder and returns its weights."""

    def run(out, loss="imagen", steps=3, **more):
        settings = Settings(**{**COMMON, "loss": loss, "steps": steps, "checkpoint_every": 100, **more})
        train(settings, out, console=Console(quiet=True), device="cpu", workers=0)
        return load_network(out / "model.safetensors")[0].state_dict()

    return run


@pytest.fixture(scope="session")
def write_captioned_images():
    """A function that writes a folder of squares of noise, each with two captions."""

    def write(folder, count):
        folder.mkdir()
        for k in range(count):
            noise = np.random.default_rng([k, len(folder.name)]).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{k}.png")
            (folder / f"{k}.txt").write_text(f"{folder.name} {k}\nnumber {k} of {folder.name}\n")
        return str(folder)

    return write
