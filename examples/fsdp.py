"""A network sharded over processes with FSDP2: torchrun --nproc-per-node 2 examples/fsdp.py [--steps 200]."""

import argparse

import torch
import torch.distributed as dist
from _tiny import NoisyImages, TinyDenoiser
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, DistributedSampler

from lossmith import LossMonitor


def main() -> None:
    """Train for some steps; the first process prints the metrics of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    device = torch.device("cuda", dist.get_rank()) if torch.cuda.is_available() else torch.device("cpu")
    torch.manual_seed(0)
    model = TinyDenoiser().to(device)
    fully_shard(model, mesh=init_device_mesh(device.type, (dist.get_world_size(),)))  # the monitor is not sharded
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    monitor = LossMonitor("L1 + 0.1*SSIM", optimizer, log_every=50).to(device)  # 1
    data = NoisyImages()
    loader = DataLoader(data, batch_size=4, sampler=DistributedSampler(data, shuffle=False))
    while monitor.steps < args.steps:
        for noisy, clean in loader:
            optimizer.zero_grad()
            monitor(model(noisy.to(device)), clean.to(device)).backward()  # 2
            optimizer.step()
            if monitor.should_log:  # 3
                metrics = monitor.metrics()  # in all processes
                if dist.get_rank() == 0:
                    print(monitor.steps, metrics, flush=True)
    dist.barrier()  # a process that ends while a thread of the group still holds tensors can abort
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
