"""No step copies a value from the device to the host or back, which would synchronise a GPU."""

import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lossmith import L1, TV, Distance, Knob, parse, pinned, tiled
from lossmith._repr import repr_of
from lossmith.engine.nonfinite import NonFiniteGuard

sys.path.insert(0, str(Path(__file__).parent / "losses"))  # for its table of all losses with their inputs
from test_contract import MEMBERS, make_inputs, min_batch_size

aten = torch.ops.aten
SYNCHRONISING_OPERATORS = {
    aten._local_scalar_dense,  # item, float, int, bool, index
    aten.is_nonzero,
    aten.allclose,
    aten.equal,
    aten.nonzero,  # the size of this result, and of those below, depends on the values
    aten.masked_select,
    aten.repeat_interleave,
    aten._unique2,
    aten.unique_dim,
}
INDEXING_OPERATORS = {aten.index, aten._unsafe_index, aten.index_put, aten.index_put_, aten._index_put_impl_}
TO_HOST = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__array__}
FROM_HOST = {torch.tensor, torch.as_tensor, torch.from_numpy}


class SynchronisationError(Exception):
    """A value was copied between device and host."""


class OperatorCheck(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masks = [i for i in args[1] if i is not None] if func.overloadpacket in INDEXING_OPERATORS else []
        if func.overloadpacket in SYNCHRONISING_OPERATORS or any(i.dtype in (torch.bool, torch.uint8) for i in masks):
            raise SynchronisationError(func)
        return func(*args, **(kwargs or {}))


class FunctionCheck(TorchFunctionMode):
    """Forbid functions that a CPU does not dispatch and a GPU copies for; a single number needs no copy."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in TO_HOST or (func in FROM_HOST and not isinstance(args[0], int | float)):
            raise SynchronisationError(func.__name__)
        return func(*args, **(kwargs or {}))


class SynchronisationForbidden:
    """On a CPU, forbid what would synchronise a GPU; on a GPU, use PyTorch's own check."""

    def __init__(self, device="cpu"):
        # the CPU stands for a GPU, whose values the host cannot read
        on_device = mock.patch("lossmith.device.HOST_TYPES", ())
        self.modes = [on_device, OperatorCheck(), FunctionCheck()] if device == "cpu" else []

    def __enter__(self):
        for mode in self.modes:
            mode.__enter__()
        if not self.modes:
            torch.cuda.set_sync_debug_mode("error")

    def __exit__(self, *raised):
        for mode in reversed(self.modes):
            mode.__exit__(*raised)
        if not self.modes:
            torch.cuda.set_sync_debug_mode("default")


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[cuda, pytest.mark.device])])


def make_loss_and_inputs(member, with_random_weights, device):
    """Return a loss and its inputs; those that are learned require a gradient."""
    loss = with_random_weights(parse(member.text)).to(device)
    inputs = {
        name: tensor.to(device) for name, tensor in make_inputs(loss, member, max(2, min_batch_size(loss))).items()
    }
    examples = member.examples(loss)
    for name, tensor in inputs.items():
        tensor.requires_grad_(bool(examples[name].requires_grad))
    return loss, inputs


@pytest.mark.slow
@every_device
@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.text)
def test_a_step_does_not_synchronise(member, device, with_random_weights):
    loss, inputs = make_loss_and_inputs(member, with_random_weights, device)

    def step():
        loss(**inputs).backward()
        values, _ = loss.evaluate_with_gradient_norms(inputs)
        other = loss.reweighted([0.5 * weight.value_at() for weight in loss.weights])
        other.weighted_sum(values).backward()

    step()  # loads the weights
    with SynchronisationForbidden(device):
        step()


WITH_DISCRIMINATOR = [
    member for member in MEMBERS if any(term.distance.discriminator_step for term in parse(member.text).terms)
]


@every_device
@pytest.mark.parametrize("member", WITH_DISCRIMINATOR, ids=lambda member: member.text)
def test_a_discriminator_step_does_not_synchronise(member, device, with_random_weights):
    loss, inputs = make_loss_and_inputs(member, with_random_weights, device)
    loss.step_discriminators(inputs)
    with SynchronisationForbidden(device):
        loss.step_discriminators(inputs)


@pytest.fixture
def stack(with_random_weights):
    return with_random_weights(
        parse("L1 + 0.1 * perceptual('vgg16', 'conv2_1') + Ramp(0, 1, steps=9) * style('vgg16') + TV")
    )


@every_device
def test_pinned_inputs_and_autocast_do_not_synchronise(stack, image_pair, device):
    pred, target = (image.to(device) for image in image_pair())
    pred.requires_grad_()
    pinned_loss = pinned(stack, target=target)

    def step():
        pinned_loss(pred, step=3).backward()
        with torch.autocast(device, torch.bfloat16):
            pinned_loss(pred, step=3).backward()

    step()
    with SynchronisationForbidden(device):
        step()


@every_device
@pytest.mark.parametrize("has_nan", [False, True])
def test_a_nonfinite_guard_does_not_synchronise(stack, image_pair, device, has_nan):
    pred, target = (image.to(device) for image in image_pair())
    pred = torch.where(torch.arange(2, device=device).view(2, 1, 1, 1) == 1, torch.nan, pred) if has_nan else pred
    pred.requires_grad_()

    def step():
        guard = NonFiniteGuard(scaled=False)
        values = guard.zero_nonfinite(stack.evaluate({"pred": pred, "target": target}, guard=guard))
        stack.weighted_sum(values, step=3).backward()

    step()
    with SynchronisationForbidden(device):
        step()
    assert pred.grad.isfinite().all()


@pytest.mark.slow
@every_device
def test_tiles_and_gradients_do_not_synchronise(stack, image_pair, device):
    pred, target = (image.to(device) for image in image_pair(side=48))
    pred.requires_grad_()
    tiled_loss = tiled(stack, 16)

    def step():
        tiled_loss(pred, target, step=3).backward()
        stack.gradients({"pred": pred, "target": target})

    step()
    with SynchronisationForbidden(device):
        step()


@every_device
def test_a_tensor_as_knob_value_does_not_synchronise(image_pair, device):
    pred, target = (image.to(device) for image in image_pair())
    loss = L1() + Knob("lam") * TV()
    loss(pred, target, lam=1.0)  # the first call reads the range of the images
    with SynchronisationForbidden(device):
        loss(pred.requires_grad_(), target, lam=torch.full((2,), 0.3, device=device)).backward()


class SynchronisingDistance(Distance):
    def __init__(self, synchronise):
        super().__init__()
        self.synchronise = synchronise

    def measure(self, pred):
        values = pred.flatten(1).mean(dim=1)
        self.synchronise(values)
        return values

    def __repr__(self):
        return repr_of(self)


SYNCHRONISATIONS = {
    "item": lambda x: x[0].item(),
    "float": lambda x: float(x[0]),
    "int": lambda x: int(x[0]),
    "bool": lambda x: bool((x > 0).all()),
    "if": lambda x: 1 if x.sum() > 0 else 0,
    "equal": lambda x: torch.equal(x, x),
    "allclose": lambda x: torch.allclose(x, x),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "set by mask": lambda x: x.clone().index_put_((x > 0,), x.new_zeros(())),
    "unique": lambda x: x.unique(),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.detach().numpy(),
    "cpu": lambda x: x.cpu(),
    "list": lambda x: x * torch.tensor([1.0, 2.0]),
}


@pytest.mark.parametrize("name", SYNCHRONISATIONS)
def test_a_synchronisation_is_detected(name, image_pair):
    pred, _ = image_pair()
    loss = SynchronisingDistance(SYNCHRONISATIONS[name])
    with SynchronisationForbidden(), pytest.raises(SynchronisationError):
        loss.evaluate({"pred": pred})


def test_a_synchronisation_in_the_backward_pass_is_detected(image_pair):
    pred = image_pair()[0].requires_grad_()
    pred.register_hook(lambda gradient: gradient.sum().item())
    with SynchronisationForbidden(), pytest.raises(SynchronisationError):
        L1().evaluate({"pred": pred, "target": pred.detach() + 1})["L1"].mean().backward()
