"""External losses: one value per image, the data range, and frozen modules."""

import copy

import piq
import pytest
import torch
from torch import nn

from lossmith import L1, L2, External, Hybrid, Knob, parse


class Net(nn.Module):
    """A loss with a network: random in training mode, with trainable weights."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x, y):
        return (self.drop(self.conv(x)) - self.drop(self.conv(y))).abs().mean()


def mse(x, y):
    return (x - y).square().mean()


def test_a_mean_over_the_batch_becomes_one_value_per_image(image_pair):
    inputs = dict(zip(("pred", "target"), image_pair(n=3), strict=True))
    torch.testing.assert_close(External(mse).evaluate(inputs)["External"], L2().evaluate(inputs)["L2"])


def test_a_sum_over_the_batch_does_not_grow_with_it(image_pair):
    x, y = image_pair(n=2)
    loss = External(lambda x, y: (x - y).abs().sum())
    torch.testing.assert_close(loss(torch.cat([x, x]), torch.cat([y, y])), loss(x, y))


def test_values_of_a_batched_callable_are_unchanged(image_pair):
    inputs = dict(zip(("pred", "target"), image_pair(n=3), strict=True))
    loss = External(lambda x, y: (x - y).square().mean(dim=(1, 2, 3), keepdim=True), batched=True)
    torch.testing.assert_close(loss.evaluate(inputs)["External"], L2().evaluate(inputs)["L2"])


def test_one_number_of_a_batched_callable_is_given_to_every_image(image_pair):
    inputs = dict(zip(("pred", "target"), image_pair(n=3), strict=True))
    values = External(mse, batched=True).evaluate(inputs)["External"]
    torch.testing.assert_close(values, mse(inputs["pred"], inputs["target"]).expand(3))


def test_it_is_called_once_per_image_or_once_per_batch(image_pair):
    calls = []

    def count_calls(x, y):
        calls.append(len(x))
        return mse(x, y)

    External(count_calls)(*image_pair(n=3))
    External(count_calls, batched=True)(*image_pair(n=3))
    assert calls == [1, 1, 1, 3]


@pytest.mark.parametrize(
    ("data_range", "lowest", "highest"), [(1.0, 0.0, 1.0), (255, 0.0, 255.0), ((-1, 1), -1.0, 1.0)]
)
def test_images_are_scaled_to_the_data_range(data_range, lowest, highest):
    seen = []

    def record(x, y):
        seen.extend((y.min().item(), x.max().item()))
        return mse(x, y)

    External(record, data_range)(torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))
    assert seen == [lowest, highest]


def test_it_is_a_term_like_any_other(image_pair):
    loss = L1() + Knob("lam") * External(piq.GMSDLoss())
    assert loss.names == ("L1", "External")
    x, y = image_pair()
    lam = torch.tensor([0.0, 2.0])
    gmsd = torch.stack([piq.gmsd(x[:1], y[:1]), piq.gmsd(x[1:], y[1:])])
    torch.testing.assert_close(loss(x, y, lam=lam), L1()(x, y) + (lam * gmsd).mean())


def test_no_gradient_reaches_the_target(image_pair):
    x, y = image_pair()
    External(mse)(x.requires_grad_(), y.requires_grad_()).backward()
    assert x.grad.abs().sum() > 0
    assert y.grad is None


def test_a_parent_does_not_change_the_frozen_module(image_pair):
    loss = L1() + External(Net())
    before = loss(*image_pair())
    parent = nn.ModuleList([loss]).train().half().requires_grad_(True)
    assert torch.equal(loss(*image_pair()), before)
    assert not list(parent.parameters())
    assert not parent.state_dict()


def test_the_given_module_is_unchanged():
    net = Net()
    External(net)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())


def test_the_frozen_parts_are_described():
    assert External(Net()).frozen_parts == "112 trainable parameters and Dropout in training mode"
    assert not External(Net().eval().requires_grad_(False)).frozen_parts
    assert not External(mse).frozen_parts


def test_a_module_moves_with_the_loss_and_is_not_cast():
    loss = Hybrid([*External(Net()).terms])
    weight = loss.double().terms[0].distance.function.conv.weight
    assert (weight.device.type, weight.dtype) == ("cpu", torch.float32)
    assert copy.deepcopy(loss).to("meta").terms[0].distance.function.conv.weight.is_meta


def test_half_precision_images_are_converted_to_float32(image_pair):
    seen = []
    loss = External(lambda x, y: (seen.append(x.dtype), mse(x, y))[1])
    loss(*(image.half() for image in image_pair()))
    assert set(seen) == {torch.float32}


def test_parsing_its_text_raises_with_the_reason():
    loss = External(mse, (-1, 1), batched=True)
    assert repr(loss) == 'External("mse", data_range=[-1, 1], batched=True)'
    with pytest.raises(ValueError, match=r"Python callable.*a formula cannot name; got the text 'mse'"):
        parse(repr(loss))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"function": 3}, "needs a callable .* got a int"),
        ({"function": mse, "data_range": 0}, "data_range .* got 0"),
        ({"function": mse, "data_range": (1, -1)}, "data_range"),
        ({"function": mse, "data_range": "255"}, "data_range"),
        ({"function": mse, "data_range": float("nan")}, "data_range"),
        ({"function": mse, "batched": 1}, "batched must be True or False"),
    ],
)
def test_invalid_arguments_raise(arguments, words):
    with pytest.raises(ValueError, match=words):
        External(**arguments)


@pytest.mark.parametrize(
    ("function", "batched", "words"),
    [
        (lambda x, y: 0.5, False, r"must return a tensor.*got a float"),
        (lambda x, y: (x - y).abs(), False, r"got \(1, 3, 32, 32\) for one image"),
        (lambda x, y: (x - y).abs(), True, r"got \(2, 3, 32, 32\) for 2 images"),
    ],
)
def test_an_invalid_result_raises(function, batched, words, image_pair):
    with pytest.raises(ValueError, match=words):
        External(function, batched=batched)(*image_pair())


@pytest.mark.parametrize("data_range", [1, 255])
def test_an_error_about_the_range_is_explained_by_the_images(data_range, image_pair):
    x, y = image_pair()
    loss = External(piq.SSIMLoss(data_range=data_range), data_range=data_range)
    assert loss(x, y).isfinite()
    with pytest.raises(ValueError, match=r"failed \(.*images reach from -\d+\.?\d* to .*x\.clamp\(0, ") as caught:
        loss(x - 1, y)
    assert "\n" not in str(caught.value)


def test_other_errors_of_the_callable_are_unchanged(image_pair):
    def broken(x, y):
        raise ValueError("something else")

    x, y = image_pair()
    with pytest.raises(ValueError, match=r"^something else$"):
        External(broken)(x.clamp(0, 1), y)
