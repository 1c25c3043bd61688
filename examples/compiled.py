"""A compiled training step with a loss monitor: python examples/compiled.py [--steps 200] [--backend inductor]."""

import argparse

import torch
from _tiny import NoisyImages, TinyDenoiser
from torch import Tensor
from torch.utils.data import DataLoader

from lossmith import LossMonitor


def main() -> None:
    """Train for some steps and print the metrics of logged steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--backend", default="inductor")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = TinyDenoiser()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    monitor = LossMonitor("L1 + 0.1*SSIM", optimizer, log_every=50)  # 1

    @torch.compile(backend=args.backend)
    def compute_loss(noisy: Tensor, clean: Tensor) -> Tensor:
        return monitor(model(noisy), clean)  # 2: the network is compiled; the monitor runs as it is

    loader = DataLoader(NoisyImages(), batch_size=8, shuffle=True)
    while monitor.steps < args.steps:
        for noisy, clean in loader:
            optimizer.zero_grad()
            compute_loss(noisy, clean).backward()
            optimizer.step()
            if monitor.should_log:  # 3
                print(monitor.steps, monitor.metrics())


if __name__ == "__main__":
    main()
