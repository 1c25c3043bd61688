"""Inputs that would be ignored without a word: unread tensors, and gradients at a target alone."""

import warnings

import pytest
import torch

from lossmith import L1, L2, SSIM, TV, parse, pinned, tiled


@pytest.fixture
def images():
    return torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).unbind()


@pytest.mark.parametrize("make", [lambda loss, y: loss, lambda loss, y: tiled(loss, 8)])
@pytest.mark.parametrize("text", ["L1", "L1 + 0.1 * SSIM(3)"])
def test_a_mask_that_no_term_reads_raises_with_the_cure(text, make, images):
    x, y = images
    message = r"'mask' is neither a knob nor an input .* inputs are pred, target\..*loss\.on\(mask=\"mask\"\)\.$"
    with pytest.raises(ValueError, match=message):
        make(parse(text), y)(x, y, mask=torch.ones(2, 1, 16, 16))


def test_an_unread_tensor_raises_as_an_unknown_knob_does(images):
    x, y = images
    for value in (torch.ones(2), 0.5):
        with pytest.raises(ValueError, match="'lam' is neither a knob nor an input of this loss"):
            L1()(x, y, lam=value)


def test_all_inputs_of_a_task_may_be_given_by_name_except_an_unread_mask(images):
    x, y = images
    inputs = {"pred": x, "target": y, "latent": torch.ones(2, 4)}
    assert torch.equal(L1()(**inputs), L1()(x, y))
    with pytest.raises(ValueError, match="'mask' is neither a knob nor an input"):
        L1()(**inputs, mask=torch.ones(2, 1, 16, 16))


def test_read_masks_and_a_target_that_is_not_read_are_accepted(images):
    x, y = images
    mask = torch.ones(2, 1, 16, 16)
    torch.testing.assert_close(L1().on(mask="mask")(x, y, mask=mask), L1()(x, y))
    assert torch.equal(TV()(x, y), TV()(pred=x, target=y))


def test_a_pinned_input_can_still_be_replaced(images):
    x, y = images
    assert torch.equal(pinned(L1(), target=x)(x, target=y), L1()(x, y))


@pytest.mark.parametrize("make", [lambda loss: loss, lambda loss: tiled(loss, 8)])
@pytest.mark.parametrize("loss", [L1(), L1() + 2 * L2()])
def test_a_gradient_at_the_target_alone_is_warned_of(loss, make, images):
    x, y = images
    with pytest.warns(UserWarning, match=r"'target' requires a gradient and no other input does.*loss\(pred, target\)"):
        make(loss)(x, y.requires_grad_())


def test_swapped_arguments_of_ssim_are_warned_of_before_the_backward_pass_fails(images):
    target, pred = images
    with pytest.warns(UserWarning, match="Pass the prediction first"):
        value = SSIM()(target, pred.requires_grad_())
    with pytest.raises(RuntimeError, match="does not require grad"):
        value.backward()


def test_the_warning_is_printed_once(images):
    x, y = images
    y.requires_grad_()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            L1()(x, y)
    assert len(caught) == 1 and caught[0].filename == __file__


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y: L1()(x.requires_grad_(), y.requires_grad_()),
        lambda x, y: L1()(x, y),
        lambda x, y: (L1() + L1().on(pred="target", target="pred"))(x, y.requires_grad_()),
        lambda x, y: torch.no_grad()(L1())(x, y.requires_grad_()),
        lambda x, y: parse("InfoNCE(learnable=True)")(x, y.requires_grad_()),
    ],
)
def test_other_calls_warn_of_nothing(call, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(*images)
