import weakref

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lossmith.engine.frozen import (
    count_flops,
    count_saved_bytes,
    prepare_steps,
    run_frozen,
)
from lossmith.engine.layers import Conv, MaxPool, ReLU

LAYER_SETS = [{"conv1"}, {"relu1"}, {"conv3"}, {"relu1", "pool1", "conv2"}, {"relu3"}]
SHAPES = [(1, 3, 16, 16), (4, 3, 17, 23)]


def network(kernel=2, ceil=False):
    g = torch.Generator().manual_seed(0)
    steps = []
    for i, (in_channels, out_channels) in enumerate([(3, 5), (5, 8), (8, 6)], start=1):
        weight, bias = torch.randn(out_channels, in_channels, 3, 3, generator=g), torch.randn(out_channels, generator=g)
        steps += [Conv(f"conv{i}", weight, bias, 1, 1), ReLU(f"relu{i}"), MaxPool(f"pool{i}", kernel, 2, ceil)]
    return steps


def run_and_count(steps, image, layers, dtype):
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        maps = run_frozen(steps, image, layers, dtype=dtype)
    return sum(kept.values()), maps


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("steps", [network(), network(3), network(3, ceil=True)])
@pytest.mark.parametrize("layers", LAYER_SETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_saved_bytes_are_those_predicted(shape, layers, steps, dtype):
    image = torch.rand(shape, dtype=torch.float64).to(torch.promote_types(dtype, torch.float32)).requires_grad_()
    measured, _ = run_and_count(steps, image, layers, dtype)
    assert measured == count_saved_bytes(steps, shape, layers, dtype=dtype)


def test_the_saved_bytes_of_a_split_batch_are_those_predicted(monkeypatch):
    monkeypatch.setattr("lossmith.engine.frozen.cost.MAX_ACTIVATION_ELEMENTS", 2 * 5 * 17 * 23)
    image = torch.rand(5, 3, 17, 23, requires_grad=True)
    measured, _ = run_and_count(network(), image, {"conv3"}, torch.float32)
    assert measured == count_saved_bytes(network(), image.shape, {"conv3"})


def test_a_forward_pass_partly_in_float32_saves_no_more():
    image = torch.rand(2, 3, 17, 23, requires_grad=True)
    ready = prepare_steps(network(), dtype=torch.bfloat16, fp32_until="pool1")
    assert run_and_count(ready, image, {"conv3"}, None)[0] == count_saved_bytes(
        ready, image.shape, {"conv3"}, dtype=torch.bfloat16
    )


def test_a_relu_saves_one_bit_and_a_pool_two():
    steps = [Conv("conv", torch.zeros(64, 3, 3, 3), torch.zeros(64), 1, 1), ReLU("relu"), MaxPool("pool")]
    assert count_saved_bytes(steps, (1, 3, 16, 16), {"relu"}) == 64 * 16 * 16 // 8
    assert count_saved_bytes(steps, (1, 3, 16, 16), {"relu", "pool"}) == 64 * 16 * 16 // 8 + 64 * 8 * 8 // 4
    assert count_saved_bytes(steps, (1, 3, 16, 16), {"pool"}) == 64 * 8 * 8 * 3 // 8  # the ReLU comes after the pool


def test_the_first_convolution_saves_nothing():
    assert count_saved_bytes(network(), (1, 3, 16, 16), {"conv1"}) == 0


def test_nothing_is_saved_without_a_gradient():
    measured, _ = run_and_count(network(), torch.rand(1, 3, 16, 16), {"conv3"}, torch.float32)
    assert measured == 0


def test_saved_bits_are_freed_with_the_features():
    freed = []
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    maps = run_frozen(network(), image, {"conv3"})
    for word in maps["conv3"].grad_fn.saved_tensors:
        weakref.finalize(word, freed.append, True)
    expected = len(maps["conv3"].grad_fn.saved_tensors)
    del word, maps
    assert len(freed) == expected


@pytest.mark.parametrize("layers", LAYER_SETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_flops_are_those_counted(shape, layers):
    image = torch.rand(shape, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        maps = run_frozen(network(), image, layers)
    forward = counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        sum(m.sum() for m in maps.values()).backward()
    assert (forward, counter.get_total_flops()) == count_flops(network(), shape, layers)


def test_plain_autograd_has_equal_flops():
    image = torch.rand(2, 3, 17, 23, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        x = image
        for step in network():
            x = step(x)
        x.sum().backward()
    assert counter.get_total_flops() == sum(count_flops(network(), image.shape, {"pool3"}))


def test_a_network_that_is_prepared_twice_is_copied_once():
    steps = prepare_steps(network(), dtype=torch.bfloat16)
    again = prepare_steps(steps, dtype=torch.bfloat16)
    weights = [(a.weight, b.backward_weight) for a, b in zip(steps, again, strict=True) if isinstance(a, Conv)]
    assert all(a.data_ptr() == b.data_ptr() for a, b in weights)
    assert all(a.is_contiguous(memory_format=torch.channels_last) for a, _ in weights)
