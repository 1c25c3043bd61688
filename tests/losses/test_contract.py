"""What every loss promises. A new loss adds its line to MEMBERS."""

import copy
import io
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from lossmith import Loss, losses, parse

SIDE = 24


@dataclass(frozen=True)
class Member:
    """A loss under the contract.

    Args:
        text: Its formula; networks are made untrained.
        side: The side of the pictures that it is tried on.
        grows: Whether its value grows with the resolution, as its docstring then says; None for a mixture.
        least: Its least value, which equal and flat pictures give.
    """

    text: str
    side: int = SIDE
    grows: bool | None = False
    least: float = 0.0


MEMBERS = [
    Member("L1"),
    Member("L2"),
    Member("Lp(1.5)"),
    Member("Lp(3)"),
    Member("Charbonnier", least=1e-3),
    Member("Huber"),
    Member("SquaredNorm", grows=True),
    Member("TV"),
    Member("TV(squared=True)"),
    Member("TV('isotropic')"),
    Member("TV('isotropic', squared=True)"),
    Member("TV(per='image')", grows=True),
    Member("EdgeAwareTV"),
    Member("SSIM"),
    Member("SSIM(7, sigma=1.0)"),
    Member("MSSSIM(2, window=7)"),
    Member("MSSSIM", side=176),
    Member("ms_ssim_l1", side=176),
    Member("perceptual", side=32),
    Member("perceptual('vgg16', 'relu3_3', 'l2')"),
    Member("perceptual('vgg19', {'conv1_2': 0.1, 'conv3_3': 1})"),
    Member("perceptual('vgg16', 'conv2_1', 'norm')", grows=True),
    Member("perceptual('alexnet')", side=40),
    Member("perceptual('vgg16', 'relu2_2') + perceptual('squeezenet', 'fire5')", side=32),
    Member("style", side=32),
    Member("style('vgg16')"),
    Member("style('vgg19', 'relu2_1', 'hw')"),
    Member("style('vgg19', 'relu2_1', 'none')", grows=True),
    Member("lpips", side=40),
    Member("lpips('vgg')"),
    Member("gatys", side=16, grows=None),
    Member("johnson", grows=None),
    Member("esrgan", side=16),
    Member("real_esrgan", side=16),
]

every_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.text)


@pytest.fixture
def loss(member: Member, untrained) -> Loss:
    return untrained(parse(member.text))


def views_of(
    loss: Loss, side: int, *, n: int = 2, dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = sorted(loss.reads, key=lambda name: name != "pred")
    return {name: torch.rand(n, 3, side, side, generator=generator, dtype=torch.float64).to(dtype) for name in names}


def values_of(loss: Loss, views: dict[str, Tensor]) -> Tensor:
    """The weighted values (N,) summed over the terms."""
    values = loss.evaluate(views).values()
    return torch.stack([w.at() * v for w, v in zip(loss.weights, values, strict=True)]).sum(dim=0)


def gradient_of(loss: Loss, views: dict[str, Tensor]) -> Tensor:
    pred = views["pred"].clone().requires_grad_()
    value = loss(**{**views, "pred": pred})
    if pred.dtype == torch.float16:  # as a gradient scaler does: Gatys's weights take the gradient past 65504
        value = value / value.detach().clamp_min(1)
    (gradient,) = torch.autograd.grad(value, pred)
    return gradient


def test_every_loss_is_under_the_contract():
    missing = [name for name in losses.__all__ if not any(member.text.startswith(name) for member in MEMBERS)]
    assert not missing, f"add a line to MEMBERS for {missing}"


@every_member
def test_the_gradient_reaches_pred_and_nothing_else(loss, member):
    views = {name: view.requires_grad_() for name, view in views_of(loss, member.side).items()}
    loss(**views).backward()
    reached = views["pred"].grad
    assert reached is not None
    assert (reached.flatten(1).norm(dim=1) > 0).all()
    assert (reached != 0).float().mean() > 0.5
    assert all(view.grad is None for name, view in views.items() if name != "pred")


@every_member
def test_permuting_the_batch_permutes_the_values(loss, member):
    views = views_of(loss, member.side, n=3)
    order = torch.tensor([2, 0, 1])
    permuted = values_of(loss, {name: view[order] for name, view in views.items()})
    torch.testing.assert_close(permuted, values_of(loss, views)[order], rtol=1e-4, atol=0)


@every_member
def test_duplicating_the_batch_changes_nothing(loss, member):
    views = views_of(loss, member.side)
    torch.testing.assert_close(
        loss(**{n: v.repeat(2, 1, 1, 1) for n, v in views.items()}), loss(**views), rtol=1e-4, atol=0
    )


@every_member
def test_equal_flat_pictures_give_the_minimum(loss, member):
    views = {name: torch.full_like(view, 0.4) for name, view in views_of(loss, member.side).items()}
    least = values_of(loss, views)
    torch.testing.assert_close(least, torch.full_like(least, member.least), rtol=1e-5, atol=2e-6)
    views["pred"] = views["pred"] + 0.05 * torch.randn(views["pred"].shape, generator=torch.Generator().manual_seed(0))
    assert (values_of(loss, views) > least).all()


@every_member
def test_a_step_against_the_gradient_lowers_the_value(loss, member):
    views = views_of(loss, member.side, n=1, dtype=torch.float64)
    gradient = gradient_of(loss, views)
    before = loss(**views)
    views["pred"] = views["pred"] - 1e-4 * gradient / gradient.norm()
    assert loss(**views) < before


HOSTILE = {
    "black": lambda views: {name: torch.zeros_like(view) for name, view in views.items()},
    "black on noise": lambda views: {**views, "pred": torch.zeros_like(views["pred"])},
    "constant": lambda views: {
        name: torch.full_like(view, 0.3 + 0.1 * i) for i, (name, view) in enumerate(views.items())
    },
    "equal": lambda views: dict.fromkeys(views, views["pred"]),
    "opposite": lambda views: {name: view if name == "pred" else 1 - views["pred"] for name, view in views.items()},
    "extreme": lambda views: {name: (view - 0.5) * 2e4 for name, view in views.items()},
    "extreme and flat": lambda views: {n: torch.full_like(v, 1e4 + 10 * i) for i, (n, v) in enumerate(views.items())},
    "tiny values": lambda views: {name: view * 1e-12 for name, view in views.items()},
    "bfloat16": lambda views: {name: view.bfloat16() for name, view in views.items()},
    "float16": lambda views: {name: view.half() for name, view in views.items()},
    "black float16": lambda views: {name: torch.zeros_like(view).half() for name, view in views.items()},
}


@every_member
@pytest.mark.parametrize("kind", HOSTILE)
def test_value_and_gradient_are_finite_on_pictures_that_are(kind, loss, member):
    views = HOSTILE[kind](views_of(loss, member.side, n=1))
    assert values_of(loss, views).isfinite().all()
    assert gradient_of(loss, views).isfinite().all()


@every_member
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (9, 1)])
def test_a_tiny_picture_gives_a_number_or_a_clear_error(shape, loss, member):
    views = {name: view[..., : shape[0], : shape[1]] for name, view in views_of(loss, 9).items()}
    try:
        assert values_of(loss, views).isfinite().all()
        assert gradient_of(loss, views).isfinite().all()
    except ValueError as error:
        assert "wants pictures of at least" in str(error)
        assert f"{shape[0]}x{shape[1]}" in str(error)


@every_member
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_pictures_are_judged_in_full_precision(dtype, loss, member):
    halved = {name: view.to(dtype) for name, view in views_of(loss, member.side, n=1).items()}
    wanted = values_of(loss, {name: view.float() for name, view in halved.items()})
    torch.testing.assert_close(values_of(loss, halved), wanted, rtol=1e-6, atol=0)


@every_member
def test_autocast_moves_the_value_by_no_more_than_half_precision_features(loss, member):
    views = views_of(loss, member.side, n=1)
    wanted = values_of(loss, views)
    with torch.autocast("cpu", torch.bfloat16):
        value = values_of(loss, views)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, wanted, rtol=0.05 if loss.networks else 1e-6, atol=0)


@every_member
def test_nothing_is_mutated(loss, member):
    views = views_of(loss, member.side)
    before = {name: view.clone() for name, view in views.items()}
    text, state = repr(loss), torch.get_rng_state()
    gradient_of(loss, views)
    assert repr(loss) == text
    assert torch.equal(torch.get_rng_state(), state)
    for name, view in views.items():
        assert torch.equal(view, before[name])
        assert view._version == 0


@every_member
def test_the_repr_is_the_text(loss, member):
    again = parse(repr(loss))
    assert repr(again) == repr(loss)
    assert again.names == loss.names
    assert again.weights == loss.weights
    views = views_of(loss, member.side)
    assert torch.equal(again(**views), loss(**views))


@every_member
def test_the_state_saves_and_loads(loss, member):
    views = views_of(loss, member.side)
    wanted = loss(**views)
    buffer = io.BytesIO()
    torch.save(loss.state_dict(), buffer)
    buffer.seek(0)
    again = copy.deepcopy(loss)
    again.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(again(**views), wanted)


@every_member
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_each_term_gives_one_value_an_image(dtype, loss, member):
    values = loss.evaluate(views_of(loss, member.side, n=3, dtype=dtype))
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert tuple(values) == loss.names
    assert all(value.shape == (3,) and value.dtype == wanted for value in values.values())


@every_member
def test_the_resolution_counts_only_where_the_docstring_says_so(loss, member):
    values = []
    for side in (64, 128) if loss.networks else (2 * member.side, 4 * member.side):
        views = views_of(loss, side, n=1)
        views["pred"] = 0.3 + 0.4 * views["pred"]  # another texture, not another sample of one
        values.append(values_of(loss, views))
    if member.grows is not None:
        assert bool(values[1] > 2.5 * values[0]) is member.grows
    if member.grows is False:
        torch.testing.assert_close(values[1], values[0], rtol=1.5 if loss.networks else 0.05, atol=0)  # padding counts


@every_member
def test_the_gradient_is_the_derivative(loss, member):
    views = views_of(loss, member.side, n=1, dtype=torch.float64)
    pred = views.pop("pred").requires_grad_()
    scale = gradient_of(loss, {**views, "pred": pred.detach()}).norm()  # whose size differs by 1e9 between losses
    assert torch.autograd.gradcheck(lambda x: loss(pred=x, **views) / scale, pred, fast_mode=True, rtol=1e-3, atol=1e-6)
