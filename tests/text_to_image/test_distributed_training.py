"""Training on several devices, with sharded weights and with accumulation equals training on the whole batch.

Two processes run this file as a script.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch.distributed import barrier, get_rank
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing import assert_close

from lossmith import parse
from lossmith.text_to_image import CaptionTrainingSet, Denoiser, TextToImage
from lossmith.train import Settings, train

pytestmark = pytest.mark.slow

LOSS = "imagen + 0.1*Gate()*L1 + 0.02*AttentionMask('squared')"
SETTINGS = {"loss": LOSS, "steps": 3, "batch": 4, "log_every": 1, "lr": 1e-3, "clip": 1.0}
SETTINGS |= {"options": {"encoder": "words", "caption_dropout": 0.0}}
SIDE, WORLD_SIZE = 16, 2

get_item = CaptionTrainingSet.__getitem__


def get_item_with_noise(samples, index):
    """Return an item with its own noise and time, so that they do not depend on device and micro-batch."""
    generator = torch.Generator().manual_seed(index)
    noise = {"time": torch.rand((), generator=generator), "noise": torch.randn(3, SIDE, SIDE, generator=generator)}
    return get_item(samples, index) | noise


def make_batches(rank=None):
    """Yield three batches of four captioned images, or one process's half of each."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        batch = {
            "target": torch.rand(4, 3, SIDE, SIDE, generator=generator),
            "tokens": torch.randn(4, 5, 12, generator=generator),
            "token_mask": torch.ones(4, 5, dtype=torch.bool),
            "pooled": torch.randn(4, 12, generator=generator),
            "group": torch.arange(4),
            "masks": (torch.rand(4, 2, SIDE, SIDE, generator=generator) < 0.5).float(),
            "words": torch.rand(4, 2, 5, generator=generator) < 0.5,
            "time": torch.rand(4, generator=generator),
            "noise": torch.randn(4, 3, SIDE, SIDE, generator=generator),
        }
        yield {name: value if rank is None else value[2 * rank :][:2] for name, value in batch.items()}


def train_three_steps(rank=None):
    """Return the weights after three steps, sharded over the processes unless `rank` is None."""
    torch.manual_seed(0)
    model = Denoiser(side=SIDE, text_dim=12, channels=[8, 16], heads=1, checkpointing=True)
    if rank is not None:
        mesh = init_device_mesh("cpu", (WORLD_SIZE,))
        for block in [*model.unet.down_blocks, model.unet.mid_block, *model.unet.up_blocks]:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    loss = parse(LOSS)
    task = TextToImage(caption_dropout=0.0, encoder="words").with_inputs(loss.input_names)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for batch in make_batches(rank):
        optimizer.zero_grad()
        loss(**task.compute_inputs(model, batch)).backward()
        optimizer.step()
    state = model.state_dict()
    return state if rank is None else {name: shard.full_tensor() for name, shard in state.items()}


def run_process(settings, out):
    """Run the work of each process: a run of both together, and the steps with sharded weights."""
    CaptionTrainingSet.__getitem__ = get_item_with_noise
    train(Settings(**json.loads(settings)), out, device="cpu", devices=WORLD_SIZE, workers=0)
    torch.save(train_three_steps(get_rank()), Path(out) / f"sharded_{get_rank()}.pt")


def run_sharded_process(settings, out):
    """Train two of three steps with sharded weights, keep a copy of the folder, and resume."""
    CaptionTrainingSet.__getitem__ = get_item_with_noise
    options = json.loads(settings)
    for steps in (2, 3):
        train(
            Settings(**{**options, "steps": steps}), out, device="cpu", devices=WORLD_SIZE, workers=0, strategy="fsdp"
        )
        barrier()
        if get_rank() == 0 and steps == 2:
            shutil.copytree(out, f"{out}_2")
        barrier()


@pytest.fixture(scope="module")
def single_run(tmp_path_factory, run_training):
    """The folder of a run on one device, and a function that runs others like it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CaptionTrainingSet, "__getitem__", get_item_with_noise)

        def run(**more):
            out = tmp_path_factory.mktemp("single") / "run"
            run_training(out, **{**SETTINGS, **more})
            return out

        yield run(), run


@pytest.fixture(scope="module")
def double_run(single_run, tmp_path_factory):
    """The folder of the same run in two processes."""
    settings, out = json.loads((single_run[0] / "config.json").read_text()), tmp_path_factory.mktemp("double") / "run"
    settings.pop("lossmith")
    command = [sys.executable, __file__, json.dumps(settings), out]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def sharded_run(single_run, tmp_path_factory):
    """The folder of the same run in two processes with a sharded network, resumed after two of three steps."""
    out = tmp_path_factory.mktemp("sharded") / "run"
    settings = json.loads((single_run[0] / "config.json").read_text())
    settings.pop("lossmith")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [__file__, json.dumps(settings), str(out), "fsdp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return out


def flat_weights(folder):
    return torch.cat([weight.flatten() for _, weight in sorted(load_file(folder / "model.safetensors").items())])


def assert_same_training(folder, single_run):
    """Assert that the terms of each step, and the weights up to rounding, are those of one device."""
    lines = [(each / "log.jsonl").read_text().splitlines() for each in (folder, single_run[0])]
    for one, other in zip(*lines, strict=True):
        assert json.loads(one)["terms"] == pytest.approx(json.loads(other)["terms"], rel=1e-4)
    initial = flat_weights(single_run[1](lr=0.0))
    distance = (flat_weights(single_run[0]) - initial).norm()
    assert distance > 0.01
    # Adam amplifies gradients that are nearly zero
    assert (flat_weights(folder) - flat_weights(single_run[0])).norm() < 0.01 * distance


def test_two_devices_train_as_one_does(double_run, single_run):
    assert_same_training(double_run, single_run)


def test_two_devices_with_shards_of_the_network_train_and_resume_as_one_does(sharded_run, single_run):
    assert_same_training(sharded_run, single_run)
    difference = (flat_weights(sharded_run) - flat_weights(single_run[0])).abs()
    assert (difference > 1e-5).float().mean() < 1e-3  # those whose gradient is nearly zero


def test_one_device_resumes_a_run_with_shards(sharded_run, single_run, monkeypatch):
    monkeypatch.setattr(CaptionTrainingSet, "__getitem__", get_item_with_noise)
    out = Path(f"{sharded_run}_2")
    settings = json.loads((single_run[0] / "config.json").read_text())
    settings.pop("lossmith")
    train(Settings(**settings), out, console=Console(quiet=True), device="cpu", workers=0)
    assert_same_training(out, single_run)


def test_gradient_accumulation_equals_the_larger_batch(single_run):
    assert_same_training(single_run[1](batch=2, accumulate=2), single_run)


def test_two_processes_with_sharded_weights_train_as_one_does(double_run):
    expected = train_three_steps()
    for rank in range(WORLD_SIZE):
        found = torch.load(double_run / f"sharded_{rank}.pt", weights_only=True)
        assert_close(found, dict(expected), rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    (run_sharded_process if sys.argv[3:] else run_process)(*sys.argv[1:3])
