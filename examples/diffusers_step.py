"""A diffusion model of Diffusers with a loss on noise and images: accelerate launch examples/diffusers_step.py."""

import argparse

import torch
from _tiny import NoisyImages
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DModel
from torch.utils.data import DataLoader

from lossmith import LossMonitor
from lossmith.integrations.accelerate import prepare_monitor

LOSS = "L2.on(pred='predicted_noise', target='noise') + 0.01*SSIM"
"""The mean squared error of the noise, and SSIM of the image that the prediction stands for."""


def main() -> None:
    """Train for some steps and print the metrics of logged steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    accelerator = Accelerator(gradient_accumulation_steps=2)
    torch.manual_seed(0)
    channels = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    model = UNet2DModel(sample_size=32, **channels, **blocks)
    scheduler = DDPMScheduler()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(NoisyImages(), batch_size=8, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    monitor = prepare_monitor(accelerator, LossMonitor(LOSS, log_every=50), optimizer)  # 1
    alphas = scheduler.alphas_cumprod.to(accelerator.device)
    while monitor.steps < args.steps:
        for _, clean in loader:
            with accelerator.accumulate(model):
                image, noise = 2 * clean - 1, torch.randn_like(clean)
                timesteps = torch.randint(1000, (len(image),), device=image.device)
                noisy = scheduler.add_noise(image, noise, timesteps)
                predicted = model(noisy, timesteps).sample
                alpha = alphas[timesteps].view(-1, 1, 1, 1)
                denoised = ((noisy - (1 - alpha).sqrt() * predicted) / alpha.sqrt()).clamp(-1, 1)
                pair = {"pred": (denoised + 1) / 2, "target": clean}
                loss = monitor(predicted_noise=predicted, noise=noise, **pair)  # 2
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            if monitor.should_log:  # 3
                accelerator.print(monitor.steps, monitor.metrics())
    accelerator.end_training()


if __name__ == "__main__":
    main()
