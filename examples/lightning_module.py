"""A LightningModule with a loss monitor: python examples/lightning_module.py [--steps 200]."""

import argparse

import lightning
import torch
from _tiny import NoisyImages, TinyDenoiser
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from lossmith import LossMonitor
from lossmith.integrations.lightning import MonitorCallback


class Denoising(lightning.LightningModule):
    """A module whose loss is a monitor."""

    def __init__(self) -> None:
        super().__init__()
        self.model = TinyDenoiser()
        self.loss = LossMonitor("L1 + 0.1*SSIM", log_every=50)  # 1

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        noisy, clean = batch
        return self.loss(self.model(noisy), clean)  # 2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer of the network."""
        return torch.optim.AdamW(self.model.parameters(), lr=2e-3)


def main() -> None:
    """Train for some steps and write the metrics as CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", default="runs")
    args = parser.parse_args()
    lightning.seed_everything(0)
    trainer = lightning.Trainer(
        max_steps=args.steps,
        accumulate_grad_batches=2,
        logger=CSVLogger(args.out),
        callbacks=[MonitorCallback()],  # 3
    )
    trainer.fit(Denoising(), DataLoader(NoisyImages(), batch_size=8, shuffle=True))


if __name__ == "__main__":
    main()
