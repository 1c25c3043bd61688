"""A loop of plain PyTorch with a loss monitor: python examples/plain.py [--steps 200]."""

import argparse

import torch
from _tiny import NoisyImages, TinyDenoiser
from torch.utils.data import DataLoader

from lossmith import LossMonitor


def main() -> None:
    """Train for some steps and print the metrics of logged steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--accumulate", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = TinyDenoiser().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    monitor = LossMonitor("L1 + 0.1*SSIM", optimizer, log_every=50).to(device)  # 1
    loader = DataLoader(NoisyImages(), batch_size=8, shuffle=True)
    while monitor.steps < args.steps:
        for i, (noisy, clean) in enumerate(loader):
            loss = monitor(model(noisy.to(device)), clean.to(device))  # 2
            (loss / args.accumulate).backward()
            if (i + 1) % args.accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
            if monitor.should_log:  # 3
                print(monitor.steps, monitor.metrics())


if __name__ == "__main__":
    main()
