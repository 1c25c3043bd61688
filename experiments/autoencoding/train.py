"""Trains one autoencoder of the experiment; all have the same steps, pictures and network.

    python experiments/autoencoding/train.py NAME --images DIR [DIR ...] --out DIR

DIR are folders of pictures to train on, such as BSDS500's 200 training pictures and 53 photographs. Runs go to
OUT/NAME; the same line again goes on. One thread.
"""

import argparse
from pathlib import Path

import torch

from lossmith.train import Settings
from lossmith.train.trainer import train

STEPS = 1000
FIRST = "L1 + 0.01*perceptual('embedded')"
VGG = "L1 + 0.01*perceptual('vgg16')"
THEN = "Ramp(0.0, 0.1, steps=150, since=350) * Adversarial('patch', 'hinge', width=16, discriminator_start_step=250)"
RUNS = {
    "l1": {"loss": "L1"},
    "l1_kl": {"loss": "L1 + 1e-6*KL"},
    "kl": {"loss": f"{FIRST} + 1e-6*KL"},
    "kl_gan": {"loss": f"{FIRST} + 1e-6*KL + {THEN}", "balance": "adaptive('Adversarial')"},
    "vgg": {"loss": f"{VGG} + 1e-6*KL"},
    "vgg_gan": {"loss": f"{VGG} + 1e-6*KL + {THEN}", "balance": "adaptive('Adversarial')"},
    "vq_gan": {"loss": f"{FIRST} + VQCommitment + {THEN}", "balance": "adaptive('Adversarial')"},
}
"""Each run's formula: pixels alone, with the latents in order, with features, and with a critic that joins."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("name", choices=RUNS)
    arguments.add_argument("--images", nargs="+", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    latent = {"latent": "vq" if given.name.startswith("vq") else "kl", "downsampling": 4}
    both = given.out / "pictures"
    both.mkdir(parents=True, exist_ok=True)
    for folder in given.images:
        if not (link := both / folder.name).is_symlink():
            link.symlink_to(folder.resolve())
    settings = Settings(
        images=str(both),
        task="autoencoding",
        scale=1,
        options=latent,
        model={"name": "autoencoder", **latent, "channels": 32},
        steps=STEPS,
        batch=8,
        crop=64,
        lr=1e-3,
        warmup=50,
        log_every=50,
        val_every=STEPS,
        val_count=4,
        checkpoint_every=300,
        **RUNS[given.name],
    )
    train(settings, given.out / given.name, accelerator="cpu", workers=0)


if __name__ == "__main__":
    main()
