"""Train one autoencoder of the experiment; all have the same steps, images and network.

    python experiments/autoencoding/train.py NAME --images DIR [DIR ...] --out DIR

--images takes folders of training images, such as BSDS500's 200 training images and 53 photographs. The run folder is
OUT/NAME; rerun the command to resume. One thread.
"""

import argparse
from pathlib import Path

import torch

from lossmith.train import Settings
from lossmith.train.trainer import train

STEPS = 1000
EMBEDDED = "L1 + 0.01*perceptual('embedded')"
VGG = "L1 + 0.01*perceptual('vgg16')"
GAN = "Ramp(0.0, 0.1, steps=150, since=350) * Adversarial('patch', 'hinge', width=16, discriminator_start_step=250)"
RUNS = {
    "l1": {"loss": "L1"},
    "l1_kl": {"loss": "L1 + 1e-6*KL"},
    "kl": {"loss": f"{EMBEDDED} + 1e-6*KL"},
    "kl_gan": {"loss": f"{EMBEDDED} + 1e-6*KL + {GAN}", "balance": "adaptive('Adversarial')"},
    "vgg": {"loss": f"{VGG} + 1e-6*KL"},
    "vgg_gan": {"loss": f"{VGG} + 1e-6*KL + {GAN}", "balance": "adaptive('Adversarial')"},
    "vq_gan": {"loss": f"{EMBEDDED} + VQCommitment + {GAN}", "balance": "adaptive('Adversarial')"},
}
"""The formula of each run: pixels alone, then with a latent regularizer, a perceptual term and a discriminator."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RUNS)
    parser.add_argument("--images", nargs="+", type=Path, required=True, help="folders of training images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    latent = {"latent": "vq" if args.name.startswith("vq") else "kl", "downsampling": 4}
    images = args.out / "images"
    images.mkdir(parents=True, exist_ok=True)
    for folder in args.images:
        if not (link := images / folder.name).is_symlink():
            link.symlink_to(folder.resolve())
    settings = Settings(
        images=str(images),
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
        **RUNS[args.name],
    )
    train(settings, args.out / args.name, device="cpu", workers=0)


if __name__ == "__main__":
    main()
