"""Strategies of several processes: what is refused, and states of optimizers in other memory layouts."""

import pytest
import torch
from torch.testing import assert_close

from lossmith.train import Settings, train
from lossmith.train.strategies import build_strategy, match_strides


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fsdp", 1, "32"), "needs at least 2 processes; got 1"),
        (("fsdp", 2, "16-mixed"), "trains with precision 32 or bf16-mixed; got 16-mixed"),
        (("zero3", 2, "32"), "strategy must be one of"),
    ],
)
def test_what_cannot_be_sharded_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        build_strategy(*arguments)
    assert "\n" not in str(raised.value)


def test_a_strategy_is_refused_before_the_folder_is_touched(tmp_path):
    settings = Settings(loss="L1", steps=1, images=str(tmp_path), task="super-resolution", scale=2)
    with pytest.raises(ValueError, match="at least 2 processes"):
        train(settings, tmp_path / "run", strategy="fsdp", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_fused_optimizer_continues_from_states_in_another_memory_layout():
    def step(weight, optimizer):
        weight.grad = torch.linspace(-1, 1, weight.numel()).view(weight.shape).to(memory_format=torch.channels_last)
        optimizer.step()

    results = []
    for is_contiguous in (False, True):
        weight = torch.nn.Parameter(torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last))
        optimizer = torch.optim.Adam([weight], fused=True)
        step(weight, optimizer)
        if is_contiguous:
            state = optimizer.state[weight]
            state |= {key: state[key].contiguous() for key in ("exp_avg", "exp_avg_sq")}
        match_strides(optimizer)
        step(weight, optimizer)
        results.append(weight.detach())
    assert_close(*results, rtol=0, atol=0)
