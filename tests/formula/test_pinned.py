"""Pinned inputs pass the networks once."""

import pytest
import torch

from lossmith import L1, parse, pinned
from lossmith.formula.pinned import PinnedLoss
from lossmith.lenses.sequential_network import SequentialNetwork

SIDE = 32


@pytest.fixture
def stack(with_random_weights):
    text = "L1 + perceptual('vgg16', ['conv2_2', 'conv3_3']) + style('vgg16', 'relu2_1') + lpips('vgg') + TV"
    return with_random_weights(parse(text))


@pytest.fixture
def passes(monkeypatch):
    seen = []
    run = SequentialNetwork.__call__

    def counted(self, image, layers):
        seen.append((len(image), set(layers)))
        return run(self, image, layers)

    monkeypatch.setattr(SequentialNetwork, "__call__", counted)
    return seen


def both(image_pair, n=2):
    pred, target = image_pair(n=n, side=SIDE, dtype=torch.float64)
    return pred.requires_grad_(), target


@pytest.mark.slow
def test_value_and_gradient_equal_those_of_the_loss(stack, image_pair):
    pred, target = both(image_pair)
    fixed = pinned(stack, target=target)
    found, expected = fixed(pred), stack(pred, target)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(value, pred)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=0)


@pytest.mark.slow
def test_a_pinned_input_passes_the_network_once(stack, image_pair, passes):
    pred, target = both(image_pair)
    fixed = pinned(stack, target=target)
    assert len(passes) == 1
    for _ in range(3):
        fixed(pred)
    assert len(passes) == 1 + 3


def test_gram_matrices_are_kept_and_not_their_features(with_random_weights, image_pair):
    _, target = both(image_pair)
    assert (
        pinned(with_random_weights(parse("style('vgg16', 'relu2_1')")), target=target).kept_bytes == 2 * 128 * 128 * 8
    )


@pytest.mark.slow
def test_the_value_does_not_depend_on_the_limit(stack, image_pair, passes):
    pred, target = both(image_pair)
    whole = pinned(stack, target=target)
    for limit in (0, 2 * 128 * 128 * 8, whole.kept_bytes - 1, whole.kept_bytes):
        fixed = pinned(stack, target=target, limit=limit)
        assert fixed.kept_bytes <= limit
        torch.testing.assert_close(fixed(pred), stack(pred, target), rtol=1e-12, atol=0)
    assert fixed.kept_bytes == whole.kept_bytes


def test_maps_beyond_the_limit_pass_the_network_only_to_their_layer(with_random_weights, image_pair, passes):
    pred, target = both(image_pair)
    loss = with_random_weights(parse("style('vgg16', 'relu1_1') + L1 @ VGG('vgg16', 'relu5_1')"))
    fixed = pinned(loss, target=target, limit=2 * 512 * 2 * 2 * 8)
    passes.clear()
    fixed(pred)
    assert (2, {"relu1_1"}) in passes


def test_one_image_is_used_for_the_whole_batch(stack, image_pair):
    pred, target = both(image_pair)
    one = target[:1]
    expected = stack(pred, one.expand_as(pred))
    torch.testing.assert_close(pinned(stack, target=one)(pred), expected, rtol=1e-12, atol=0)


@pytest.mark.slow
def test_two_inputs_can_be_pinned(with_random_weights, image_pair):
    pred, target = both(image_pair, n=1)
    loss = with_random_weights(parse("gatys"))
    inputs = {"content": target, "style": target.flip(-1)}
    torch.testing.assert_close(pinned(loss, **inputs)(pred), loss(pred, **inputs), rtol=1e-12, atol=0)


def test_a_pinned_loss_no_longer_reads_the_input(stack, image_pair):
    fixed = pinned(stack, target=both(image_pair)[1])
    assert fixed.input_names == {"pred"}
    assert repr(fixed) == repr(stack)
    assert isinstance(fixed, PinnedLoss)


@pytest.mark.slow
def test_gradient_norms_equal_those_of_the_loss(stack, image_pair):
    pred, target = both(image_pair)
    values, norms = pinned(stack, target=target).evaluate_with_gradient_norms({"pred": pred})
    wanted_values, expected = stack.evaluate_with_gradient_norms({"pred": pred, "target": target})
    torch.testing.assert_close(norms, expected)
    torch.testing.assert_close(values, wanted_values)


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        (lambda x: pinned(L1(), style=x), r"L1\(\) reads pred, target; it has no input 'style'"),
        (lambda x: pinned(L1()), "pinned needs inputs to fix, as in pinned"),
        (lambda x: pinned(L1(), target=x[0]), "'target' is a single image"),
        (lambda x: pinned(L1(), target=(255 * x).byte()), "'target' must be floating point"),
        (lambda x: pinned(L1(), target=x)(x[:, :, :4]), "the shapes must be equal"),
    ],
)
def test_wrong_inputs_raise(pin, message):
    with pytest.raises(ValueError, match=message):
        pin(torch.rand(2, 3, 8, 8))
