"""A pinned view is looked at once."""

import pytest
import torch

from lossmith import L1, Pinned, parse, pinned
from lossmith.lenses.network import Sequential

SIDE = 32


@pytest.fixture
def stack(untrained):
    text = "L1 + perceptual('vgg16', ['conv2_2', 'conv3_3']) + style('vgg16', 'relu2_1') + lpips('vgg') + TV"
    return untrained(parse(text))


@pytest.fixture
def passes(monkeypatch):
    seen = []
    run = Sequential.__call__

    def counted(self, image, layers):
        seen.append((len(image), set(layers)))
        return run(self, image, layers)

    monkeypatch.setattr(Sequential, "__call__", counted)
    return seen


def both(pictures, n=2):
    pred, target = pictures(n=n, side=SIDE, dtype=torch.float64)
    return pred.requires_grad_(), target


def test_a_pinned_loss_gives_value_and_gradient_of_the_loss(stack, pictures):
    pred, target = both(pictures)
    fixed = pinned(stack, target=target)
    found, wanted = fixed(pred), stack(pred, target)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(value, pred)[0] for value in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=0)


def test_the_network_sees_a_pinned_view_once(stack, pictures, passes):
    pred, target = both(pictures)
    fixed = pinned(stack, target=target)
    assert len(passes) == 1
    for _ in range(3):
        fixed(pred)
    assert len(passes) == 1 + 3


def test_what_is_compared_is_kept_and_not_what_leads_there(untrained, pictures):
    _, target = both(pictures)
    assert pinned(untrained(parse("style('vgg16', 'relu2_1')")), target=target).bytes == 2 * 128 * 128 * 8


def test_the_limit_is_kept_and_the_value_too(stack, pictures, passes):
    pred, target = both(pictures)
    whole = pinned(stack, target=target)
    for limit in (0, 2 * 128 * 128 * 8, whole.bytes - 1, whole.bytes):
        fixed = pinned(stack, target=target, limit=limit)
        assert fixed.bytes <= limit
        torch.testing.assert_close(fixed(pred), stack(pred, target), rtol=1e-12, atol=0)
    assert fixed.bytes == whole.bytes


def test_what_does_not_fit_is_looked_at_no_deeper_than_needed(untrained, pictures, passes):
    pred, target = both(pictures)
    loss = untrained(parse("style('vgg16', 'relu1_1') + L1 @ VGG('vgg16', 'relu5_1')"))
    fixed = pinned(loss, target=target, limit=2 * 512 * 2 * 2 * 8)
    passes.clear()
    fixed(pred)
    assert (2, {"relu1_1"}) in passes


def test_one_picture_serves_a_batch(stack, pictures):
    pred, target = both(pictures)
    one = target[:1]
    wanted = stack(pred, one.expand_as(pred))
    torch.testing.assert_close(pinned(stack, target=one)(pred), wanted, rtol=1e-12, atol=0)


def test_two_views_may_be_pinned(untrained, pictures):
    pred, target = both(pictures, n=1)
    loss = untrained(parse("gatys"))
    views = {"content": target, "style": target.flip(-1)}
    torch.testing.assert_close(pinned(loss, **views)(pred), loss(pred, **views), rtol=1e-12, atol=0)


def test_a_pinned_loss_no_longer_reads_the_view(stack, pictures):
    fixed = pinned(stack, target=both(pictures)[1])
    assert fixed.reads == {"pred"}
    assert repr(fixed) == repr(stack)
    assert isinstance(fixed, Pinned)


def test_a_pinned_loss_may_be_watched(stack, pictures):
    pred, target = both(pictures)
    values, norms = pinned(stack, target=target).watch({"pred": pred})
    wanted_values, wanted = stack.watch({"pred": pred, "target": target})
    torch.testing.assert_close(norms, wanted)
    torch.testing.assert_close(values, wanted_values)


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        (lambda x: pinned(L1(), style=x), r"L1\(\) reads pred, target; there is no 'style' to pin"),
        (lambda x: pinned(L1()), "pinned wants inputs, such as pinned"),
        (lambda x: pinned(L1(), target=x[0]), "'target' is one picture"),
        (lambda x: pinned(L1(), target=(255 * x).byte()), "'target' is torch.uint8"),
        (lambda x: pinned(L1(), target=x)(x[:, :, :4]), "it wants them of one shape"),
    ],
)
def test_a_wrong_pin_is_refused(pin, message):
    with pytest.raises(ValueError, match=message):
        pin(torch.rand(2, 3, 8, 8))
