"""External losses: a value an image, the range that they want, and a module that nobody changes."""

import copy

import piq
import pytest
import torch
from torch import nn

from lossmith import L1, L2, External, Hybrid, Knob, parse


class Net(nn.Module):
    """A loss with a network: random in training mode, and with weights that train."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x, y):
        return (self.drop(self.conv(x)) - self.drop(self.conv(y))).abs().mean()


def mse(x, y):
    return (x - y).square().mean()


def test_a_mean_over_the_batch_becomes_a_value_an_image(image_pair):
    views = dict(zip(("pred", "target"), image_pair(n=3), strict=True))
    torch.testing.assert_close(External(mse).evaluate(views)["External"], L2().evaluate(views)["L2"])


def test_a_sum_over_the_batch_does_not_grow_with_it(image_pair):
    x, y = image_pair(n=2)
    loss = External(lambda x, y: (x - y).abs().sum())
    torch.testing.assert_close(loss(torch.cat([x, x]), torch.cat([y, y])), loss(x, y))


def test_batched_values_are_taken_as_they_are(image_pair):
    views = dict(zip(("pred", "target"), image_pair(n=3), strict=True))
    each = External(lambda x, y: (x - y).square().mean(dim=(1, 2, 3), keepdim=True), batched=True)
    torch.testing.assert_close(each.evaluate(views)["External"], L2().evaluate(views)["L2"])


def test_one_number_a_batch_stands_for_every_image(image_pair):
    views = dict(zip(("pred", "target"), image_pair(n=3), strict=True))
    values = External(mse, batched=True).evaluate(views)["External"]
    torch.testing.assert_close(values, mse(views["pred"], views["target"]).expand(3))


def test_it_is_called_once_an_image_or_once_a_batch(image_pair):
    calls = []

    def counted(x, y):
        calls.append(len(x))
        return mse(x, y)

    External(counted)(*image_pair(n=3))
    External(counted, batched=True)(*image_pair(n=3))
    assert calls == [1, 1, 1, 3]


@pytest.mark.parametrize(
    ("data_range", "lowest", "highest"), [(1.0, 0.0, 1.0), (255, 0.0, 255.0), ((-1, 1), -1.0, 1.0)]
)
def test_it_gets_the_range_that_it_wants(data_range, lowest, highest):
    seen = []

    def look(x, y):
        seen.extend((y.min().item(), x.max().item()))
        return mse(x, y)

    External(look, data_range)(torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))
    assert seen == [lowest, highest]


def test_it_is_a_term_as_any_other(image_pair):
    loss = L1() + Knob("lam") * External(piq.GMSDLoss())
    assert loss.names == ("L1", "External")
    x, y = image_pair()
    each = torch.tensor([0.0, 2.0])
    gmsd = torch.stack([piq.gmsd(x[:1], y[:1]), piq.gmsd(x[1:], y[1:])])
    torch.testing.assert_close(loss(x, y, lam=each), L1()(x, y) + (each * gmsd).mean())


def test_no_gradient_reaches_the_target(image_pair):
    x, y = image_pair()
    External(mse)(x.requires_grad_(), y.requires_grad_()).backward()
    assert x.grad.abs().sum() > 0
    assert y.grad is None


def test_a_module_is_frozen_whatever_its_parent_does(image_pair):
    loss = L1() + External(Net())
    before = loss(*image_pair())
    parent = nn.ModuleList([loss]).train().half().requires_grad_(True)
    assert torch.equal(loss(*image_pair()), before)
    assert not list(parent.parameters())
    assert not parent.state_dict()


def test_the_callers_module_stays_as_it_is():
    net = Net()
    External(net)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())


def test_what_freezing_changed_is_said():
    assert External(Net()).arrived == "112 numbers that would train and Dropout in training mode"
    assert not External(Net().eval().requires_grad_(False)).arrived
    assert not External(mse).arrived


def test_a_module_moves_with_the_loss_and_is_not_cast():
    loss = Hybrid([*External(Net()).terms])
    weight = loss.double().terms[0].loss.function.conv.weight
    assert (weight.device.type, weight.dtype) == ("cpu", torch.float32)
    assert copy.deepcopy(loss).to("meta").terms[0].loss.function.conv.weight.is_meta


def test_half_precision_pictures_arrive_in_full_precision(image_pair):
    seen = []
    loss = External(lambda x, y: (seen.append(x.dtype), mse(x, y))[1])
    loss(*(picture.half() for picture in image_pair()))
    assert set(seen) == {torch.float32}


def test_its_text_cannot_be_parsed_and_says_why():
    loss = External(mse, (-1, 1), batched=True)
    assert repr(loss) == 'External("mse", data_range=[-1, 1], batched=True)'
    with pytest.raises(ValueError, match=r'Python callable.*no formula can name; got the text "mse"'):
        parse(repr(loss))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"function": 3}, "wants a callable .* got a int"),
        ({"function": mse, "data_range": 0}, "data_range .* got 0"),
        ({"function": mse, "data_range": (1, -1)}, "data_range"),
        ({"function": mse, "data_range": "255"}, "data_range"),
        ({"function": mse, "data_range": float("nan")}, "data_range"),
        ({"function": mse, "batched": 1}, "batched=True or False"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        External(**arguments)


@pytest.mark.parametrize(
    ("function", "batched", "words"),
    [
        (lambda x, y: 0.5, False, r"gave a float; it wants a tensor"),
        (lambda x, y: (x - y).abs(), False, r"gave \(1, 3, 32, 32\) for one image"),
        (lambda x, y: (x - y).abs(), True, r"gave \(2, 3, 32, 32\) for 2 images"),
    ],
)
def test_a_result_that_is_no_value_is_refused(function, batched, words, image_pair):
    with pytest.raises(ValueError, match=words):
        External(function, batched=batched)(*image_pair())
