"""Features of a module of one's own in perceptual and style losses."""

import copy
import pickle

import pytest
import torch
from torch import nn

from lossmith import L1, L2, ExpressionError, Gram, parse, perceptual, save, style
from lossmith.lenses import ModuleFeatures


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3))


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 16, 16, generator=generator), torch.rand(2, 3, 16, 16, generator=generator)


def test_perceptual_and_style_compare_the_features_of_the_module_in_eval_mode(net, images):
    frozen = copy.deepcopy(net).eval()
    (x2, y2), (x3, y3) = ([frozen[:end](image) for image in images] for end in (3, 4))
    expected = (x2 - y2).abs().mean() + 0.5 * (x3 - y3).abs().mean()
    torch.testing.assert_close(perceptual(net, {"2": 1.0, "3": 0.5})(*images), expected)
    grams = [f.flatten(2) @ f.flatten(2).mT / f[0].numel() for f in (x2, y2)]
    torch.testing.assert_close(style(net, "2")(*images), (grams[0] - grams[1]).square().mean())


def test_images_are_normalised_by_mean_and_std(net, images):
    loss = L2() @ ModuleFeatures(net, "0", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    x, y = (net[0]((image - mean) / std) for image in images)
    torch.testing.assert_close(loss(*images), (x - y).square().mean())


def test_the_module_is_left_as_it_is_and_later_training_does_not_change_the_loss(net, images):
    loss = perceptual(net, "3")
    before = loss(*images)
    assert net.training and all(p.requires_grad for p in net.parameters())
    with torch.no_grad():
        net[0].weight.mul_(2)
    torch.testing.assert_close(loss(*images), before)
    assert not torch.isclose(perceptual(net, "3")(*images), before)


def test_terms_on_one_module_share_one_pass_and_other_modules_do_not(net, images):
    calls = []
    net[0].register_forward_hook(lambda *_: calls.append(1))
    other = copy.deepcopy(net)
    loss = perceptual(net, "2") + style(net, "3") + L1() @ Gram() @ ModuleFeatures(net, "2")
    assert len(loss.networks) == 1
    loss(*images)
    calls.clear()
    loss(*images)
    assert len(calls) == 2  # one of the prediction, one of the target
    assert len((perceptual(net, "2") + perceptual(other, "2")).networks) == 2


def test_the_text_names_class_and_weights_and_cannot_be_parsed(net, tmp_path):
    loss = perceptual(net, "3")
    text = repr(loss)
    assert text.startswith('L1() @ ModuleFeatures("Sequential-')
    with pytest.raises(ExpressionError, match=r"needs a torch\.nn\.Module, which a formula cannot name"):
        parse(text)
    with pytest.raises(ValueError, match="cannot be saved, since its text cannot be read again"):
        save(loss, tmp_path / "loss.json")


def test_a_copy_and_a_pickled_loss_have_the_same_value(net, images):
    loss = perceptual(net, "3")
    for again in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        torch.testing.assert_close(again(*images), loss(*images))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: perceptual(net), "perceptual on a module of your own has no default layers"),
        (lambda net: style(net, "2", weights="x.pth"), "style on a module of your own has its own weights"),
        (lambda net: perceptual(net, "9"), "has no layer '9'; its layers run from '0' to '3'"),
        (lambda net: perceptual(nn.Linear(2, 2), "0"), "takes no image batch"),
        (lambda net: perceptual(3), r"or a torch\.nn\.Module; got 3"),
        (lambda net: ModuleFeatures(net, "2", std=(1, 0, 1)), r"std must be three numbers.*positive"),
        (lambda net: ModuleFeatures(net, "2", mean=(1,)), "mean must be three numbers"),
    ],
)
def test_a_wrong_argument_raises_one_line(make, message, net):
    with pytest.raises(ValueError, match=message) as caught:
        make(net)
    assert "\n" not in str(caught.value)
