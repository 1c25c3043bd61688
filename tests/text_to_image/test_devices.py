"""Several devices, sharded weights and accumulation: each gives the training of one device with the whole batch.

Two processes run this file.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import get_rank
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing import assert_close

from lossmith import parse
from lossmith.text_to_image.captions.training_set import CaptionTrainingSet
from lossmith.text_to_image.models.denoiser import Denoiser
from lossmith.text_to_image.task import TextToImage
from lossmith.train import Settings, train

LOSS = "imagen + 0.1*Gate()*L1 + 0.02*AttentionMask('squared')"
FOUR = {"loss": LOSS, "steps": 3, "batch": 4, "log_every": 1, "lr": 1e-3, "clip": 1.0}
FOUR |= {"options": {"encoder": "words", "drop": 0.0}}
SIDE, WORLD = 16, 2

item = CaptionTrainingSet.__getitem__


def steady(items, index):
    """An item with a noise and a level that are its own, whichever device sees it, in whichever pass."""
    chance = torch.Generator().manual_seed(index)
    drawn = {"time": torch.rand((), generator=chance), "noise": torch.randn(3, SIDE, SIDE, generator=chance)}
    return item(items, index) | drawn


def batches(rank=None):
    """Three joint batches of four captioned pictures, or one process's half of each."""
    chance = torch.Generator().manual_seed(3)
    for _ in range(3):
        batch = {
            "target": torch.rand(4, 3, SIDE, SIDE, generator=chance),
            "tokens": torch.randn(4, 5, 12, generator=chance),
            "token_mask": torch.ones(4, 5, dtype=torch.bool),
            "pooled": torch.randn(4, 12, generator=chance),
            "group": torch.arange(4),
            "masks": (torch.rand(4, 2, SIDE, SIDE, generator=chance) < 0.5).float(),
            "words": torch.rand(4, 2, 5, generator=chance) < 0.5,
            "time": torch.rand(4, generator=chance),
            "noise": torch.randn(4, 3, SIDE, SIDE, generator=chance),
        }
        yield {name: view if rank is None else view[2 * rank :][:2] for name, view in batch.items()}


def stepped(rank=None):
    """The weights after three steps; where there are several processes, each keeps a part of them."""
    torch.manual_seed(0)
    model = Denoiser(side=SIDE, text=12, channels=[8, 16], heads=1, checkpointing=True)
    if rank is not None:
        mesh = init_device_mesh("cpu", (WORLD,))
        for block in [*model.unet.down_blocks, model.unet.mid_block, *model.unet.up_blocks]:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    loss = parse(LOSS)
    task = TextToImage(drop=0.0, encoder="words").with_inputs(loss.input_names)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for batch in batches(rank):
        optimizer.zero_grad()
        loss(**task.compute_inputs(model, batch)).backward()
        optimizer.step()
    state = model.state_dict()
    return state if rank is None else {name: shard.full_tensor() for name, shard in state.items()}


def work(settings, out):
    """What each of two processes does: a run of both together, and the steps with sharded weights."""
    CaptionTrainingSet.__getitem__ = steady
    train(Settings(**json.loads(settings)), out, accelerator="cpu", devices=WORLD, workers=0)
    torch.save(stepped(get_rank()), Path(out) / f"sharded_{get_rank()}.pt")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, run):
    """Gives the folder of a run on one device, whose weights have moved, and what trains others like it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CaptionTrainingSet, "__getitem__", steady)

        def made(**more):
            out = tmp_path_factory.mktemp("alone") / "run"
            run(out, **{**FOUR, **more})
            return out

        yield made(), made


@pytest.fixture(scope="module")
def together(alone, tmp_path_factory):
    """The folder of the same run in two processes."""
    settings, out = json.loads((alone[0] / "config.json").read_text()), tmp_path_factory.mktemp("together") / "run"
    settings.pop("lossmith")
    words = [sys.executable, __file__, json.dumps(settings), out]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return out


def flat(folder):
    return torch.cat([weight.flatten() for _, weight in sorted(load_file(folder / "model.safetensors").items())])


def same(folder, alone):
    """The terms of each step are those of one device, and the weights lie as far from its as rounding has it."""
    lines = [(each / "log.jsonl").read_text().splitlines() for each in (folder, alone[0])]
    for one, other in zip(*lines, strict=True):
        assert json.loads(one)["terms"] == pytest.approx(json.loads(other)["terms"], rel=1e-4)
    begun = flat(alone[1](lr=0.0))
    way = (flat(alone[0]) - begun).norm()
    assert way > 0.01
    assert (flat(folder) - flat(alone[0])).norm() < 0.01 * way  # Adam makes much of gradients that are nearly zero


def test_two_devices_train_as_one_does(together, alone):
    same(together, alone)


def test_passes_add_up_to_the_larger_batch(alone):
    same(alone[1](batch=2, accumulate=2), alone)


def test_two_processes_with_sharded_weights_train_as_one_does(together):
    wanted = stepped()
    for rank in range(WORLD):
        found = torch.load(together / f"sharded_{rank}.pt", weights_only=True)
        assert_close(found, dict(wanted), rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    work(*sys.argv[1:])
