"""During a step no value is copied to the host, where a GPU would wait for it, and none from there."""

import sys
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lossmith import L1, TV, Distance, Knob, parse, pinned, tiled
from lossmith._repr import repr_of
from lossmith.engine.nonfinite import NonFiniteGuard

sys.path.insert(0, str(Path(__file__).parent / "losses"))  # whose table has all losses, with views for each
from test_contract import MEMBERS, few, views_of

aten = torch.ops.aten
LOOKS = {
    aten._local_scalar_dense,  # item, float, int, bool, index
    aten.is_nonzero,
    aten.allclose,
    aten.equal,
    aten.nonzero,  # whose result is as long as the values say, as are the next
    aten.masked_select,
    aten.repeat_interleave,
    aten._unique2,
    aten.unique_dim,
}
INDEXING = {aten.index, aten._unsafe_index, aten.index_put, aten.index_put_, aten._index_put_impl_}
TAKES_AWAY = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__array__}
BRINGS = {torch.tensor, torch.as_tensor, torch.from_numpy}


class Looked(Exception):
    """A value was looked at."""


class Operators(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masks = [i for i in args[1] if i is not None] if func.overloadpacket in INDEXING else []
        if func.overloadpacket in LOOKS or any(i.dtype in (torch.bool, torch.uint8) for i in masks):
            raise Looked(func)
        return func(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    """What a CPU does not even dispatch; a GPU would copy. A lone number is handed to its kernels as it is."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in TAKES_AWAY or (func in BRINGS and not isinstance(args[0], int | float)):
            raise Looked(func.__name__)
        return func(*args, **(kwargs or {}))


class UnderWatch:
    """On a CPU, forbids what would make a GPU wait; on a GPU, PyTorch itself does."""

    def __init__(self, device="cpu"):
        self.modes = [Operators(), Functions()] if device == "cpu" else []

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
every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=cuda)])


def made(member, with_random_weights, device):
    """A loss and its views, of which those that learn ask for a gradient."""
    loss = with_random_weights(parse(member.text)).to(device)
    views = {name: view.to(device) for name, view in views_of(loss, member, max(2, few(loss))).items()}
    for name, view in views.items():
        view.requires_grad_(bool(member.view(name).learns))
    return loss, views


@every_device
@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.text)
def test_a_step_looks_at_no_value(member, device, with_random_weights):
    loss, views = made(member, with_random_weights, device)

    def step():
        loss(**views).backward()
        values, _ = loss.evaluate_with_gradient_norms(views)
        other = loss.reweighted([0.5 * weight.value_at() for weight in loss.weights])
        other.weighted_sum(values).backward()

    step()  # finds the weights
    with UnderWatch(device):
        step()


LEARNING = [member for member in MEMBERS if any(term.distance.discriminator_step for term in parse(member.text).terms)]


@every_device
@pytest.mark.parametrize("member", LEARNING, ids=lambda member: member.text)
def test_a_step_of_a_critic_looks_at_no_value(member, device, with_random_weights):
    loss, views = made(member, with_random_weights, device)
    loss.step_discriminators(views)
    with UnderWatch(device):
        loss.step_discriminators(views)


@pytest.fixture
def stack(with_random_weights):
    return with_random_weights(parse("L1 + 0.1 * perceptual('vgg16', 'conv2_1') + Ramp(0, 1, steps=9) * style('vgg16') + TV"))


@every_device
def test_pinned_views_and_autocast_change_nothing_of_that(stack, image_pair, device):
    pred, target = (picture.to(device) for picture in image_pair())
    pred.requires_grad_()
    fixed = pinned(stack, target=target)

    def step():
        fixed(pred, step=3).backward()
        with torch.autocast(device, torch.bfloat16):
            fixed(pred, step=3).backward()

    step()
    with UnderWatch(device):
        step()


@every_device
@pytest.mark.parametrize("spoilt", [False, True])
def test_a_guard_decides_on_the_device(stack, image_pair, device, spoilt):
    pred, target = (picture.to(device) for picture in image_pair())
    pred = torch.where(torch.arange(2, device=device).view(2, 1, 1, 1) == 1, torch.nan, pred) if spoilt else pred
    pred.requires_grad_()

    def step():
        guard = NonFiniteGuard(scaled=False)
        values = guard.zero_nonfinite(stack.evaluate({"pred": pred, "target": target}, guard=guard))
        stack.weighted_sum(values, step=3).backward()

    step()
    with UnderWatch(device):
        step()
    assert pred.grad.isfinite().all()


@every_device
def test_tiles_and_gradients_change_nothing_of_that(stack, image_pair, device):
    pred, target = (picture.to(device) for picture in image_pair(side=48))
    pred.requires_grad_()
    in_tiles = tiled(stack, 16)

    def step():
        in_tiles(pred, target, step=3).backward()
        stack.gradients({"pred": pred, "target": target})

    step()
    with UnderWatch(device):
        step()


@every_device
def test_a_knob_that_is_a_tensor_is_not_looked_at(image_pair, device):
    pred, target = (picture.to(device) for picture in image_pair())
    loss = L1() + Knob("lam") * TV()
    with UnderWatch(device):
        loss(pred.requires_grad_(), target, lam=torch.full((2,), 0.3, device=device)).backward()


class Curious(Distance):
    def __init__(self, look):
        super().__init__()
        self.look = look

    def measure(self, pred):
        values = pred.flatten(1).mean(dim=1)
        self.look(values)
        return values

    def __repr__(self):
        return repr_of(self)


CURIOSITY = {
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


@pytest.mark.parametrize("look", CURIOSITY)
def test_a_look_would_be_seen(look, image_pair):
    with UnderWatch(), pytest.raises(Looked):
        Curious(CURIOSITY[look])(image_pair()[0])


def test_a_look_in_the_backward_pass_would_be_seen(image_pair):
    pred = image_pair()[0].requires_grad_()
    pred.register_hook(lambda gradient: gradient.sum().item())
    with UnderWatch(), pytest.raises(Looked):
        L1()(pred, pred.detach() + 1).backward()
