"""The Trainer of Transformers with a loss monitor: python examples/transformers_trainer.py [--steps 200]."""

import argparse

import torch
from _tiny import NoisyImages, TinyDenoiser
from torch import Tensor
from transformers import Trainer, TrainingArguments

from lossmith import LossMonitor
from lossmith.integrations.transformers import MonitorTrainerCallback


class Denoiser(torch.nn.Module):
    """A model with the interface of Transformers: a dictionary of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.model = TinyDenoiser()

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """Return the images without noise."""
        return {"reconstruction": self.model(pixel_values)}


def main() -> None:
    """Train for some steps; the Trainer prints and reports the metrics of logged steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", default="runs/transformers")
    args = parser.parse_args()
    dataset = [{"pixel_values": noisy, "labels": clean} for noisy, clean in NoisyImages()]
    arguments = TrainingArguments(
        args.out,
        max_steps=args.steps,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=2e-3,
        save_steps=args.steps,
        logging_steps=50,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(Denoiser(), arguments, train_dataset=dataset)
    monitor = LossMonitor("L1 + 0.1*SSIM", log_every=50)  # 1
    MonitorTrainerCallback(trainer, monitor, output="reconstruction")  # 2
    trainer.train()


if __name__ == "__main__":
    main()
