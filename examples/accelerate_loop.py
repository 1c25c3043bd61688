"""A loop of Accelerate with a loss monitor: accelerate launch examples/accelerate_loop.py [--steps 200]."""

import argparse

import torch
from _tiny import NoisyImages, TinyDenoiser
from accelerate import Accelerator
from torch.utils.data import DataLoader

from lossmith import LossMonitor
from lossmith.integrations.accelerate import prepare_monitor


def main() -> None:
    """Train for some steps and send the metrics to Accelerate's trackers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", default="runs")
    args = parser.parse_args()
    accelerator = Accelerator(gradient_accumulation_steps=2, log_with="tensorboard", project_dir=args.out)
    accelerator.init_trackers("accelerate")
    torch.manual_seed(0)
    model = TinyDenoiser()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loader = DataLoader(NoisyImages(), batch_size=8, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    monitor = prepare_monitor(accelerator, LossMonitor("L1 + 0.1*SSIM", log_every=50), optimizer)  # 1
    while monitor.steps < args.steps:
        for noisy, clean in loader:
            with accelerator.accumulate(model):
                accelerator.backward(monitor(model(noisy), clean))  # 2
                optimizer.step()
                optimizer.zero_grad()
            if monitor.should_log:  # 3
                accelerator.log(monitor.metrics(), step=monitor.steps)
    accelerator.end_training()


if __name__ == "__main__":
    main()
