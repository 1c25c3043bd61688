"""What every loss promises. A new loss adds its line to MEMBERS."""

import copy
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest
import torch
from torch import Tensor

from lossmith import Loss, losses, parse
from lossmith.doctor import check
from lossmith.lenses.dists import DISTS_LAYERS

SIDE = 24


@dataclass(frozen=True)
class View:
    """A view that is no picture (3, H, W) in [0, 1].

    Args:
        shape: One image's shape; None stands for a side of the pictures.
        kind: Normal numbers, numbers in [0, 1], a mask of 0 and 1, or attention, which sums to 1 over the last axis.
        learns: Whether the gradient reaches it; None where it may or may not.
    """

    shape: tuple[int | None, ...]
    kind: Literal["normal", "unit", "mask", "attention"] = "normal"
    learns: bool | None = True


@dataclass(frozen=True)
class Member:
    """A loss under the contract.

    Args:
        text: Its formula; networks are made untrained.
        side: The side of the pictures that it is tried on.
        grows: Whether its value grows with the resolution, as its docstring then says; None for a mixture.
        least: Its least value, which equal and flat pictures give; None where they do not.
        views: Those of its views that are no pictures, by name; of the others, pred learns.
        excused: The tests that cannot hold for it, each with the reason.
    """

    text: str
    side: int = SIDE
    grows: bool | None = False
    least: float | None = 0.0
    views: Mapping[str, View] = field(default_factory=dict)
    excused: Mapping[str, str] = field(default_factory=dict)

    def view(self, name: str) -> View:
        return self.views.get(name, View((3, None, None), "unit", learns=name == "pred"))

    def excuse(self, test: str, loss: Loss) -> str | None:
        """Why a test cannot hold for the loss; None where it must."""
        sided = any(None in self.view(name).shape for name in loss.input_names)
        excuses = {
            "test_duplicating_the_batch_changes_nothing": mixing(loss) and "a copy is one more negative",
            "test_equal_flat_pictures_give_the_minimum": self.least is None and "its least value is elsewhere",
            "test_the_resolution_counts_only_where_the_docstring_says_so": not sided and "it reads no pictures",
            "test_a_tiny_picture_gives_a_number_or_a_clear_error": not sided and "it reads no pictures",
        }
        return self.excused.get(test) or excuses.get(test) or None


HELD = {"test_the_gradient_is_the_derivative": "its weights are held fixed, as published"}

STOPPED = {"test_the_gradient_is_the_derivative": "each of its summands stops one gradient"}
VECTOR, SEEN = View((16,)), View((16,), learns=False)
NOISE = View((3, None, None), learns=False)
TEXTLESS = {"test_the_doctor_has_nothing_against_it": "the doctor makes up no texts"}
TINY_CLIP = "CLIP('tiny', weights='random')"  # its space has 16 dimensions
PAIRS = {"image": VECTOR, "text": VECTOR}
LATENTS = View((4, 3, 3))
ATTENTION = {"attention": View((2, 3, 5), "attention"), "other": View((2, 3, 5), "attention")}
REGION = {"attention": View((2, 6, 6), "unit"), "region": View((6, 6), "mask", learns=False)}
SAMPLES = {"other": View((3, None, None), "unit"), "z": View((8,), learns=False), "z_other": View((8,), learns=False)}
INPAINTED = {"filled": View((3, None, None), "unit"), "kept": View((3, None, None), "unit")}
DIFFUSED = {"prediction": View((3, None, None)), "clean": NOISE, "noise": NOISE, "logsnr": View((), learns=False)}
FLOWS = {"velocity": View((3, None, None)), "clean": NOISE, "noise": NOISE}

REACHES = "test_the_gradient_reaches_what_learns_and_nothing_else"
NEAREST = "a place of the target pulls at the one that is nearest"

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
    Member("perceptual('embedded')"),
    Member("style('embedded')"),
    Member("distilled_lpips"),
    Member("lpips", side=40),
    Member("lpips('vgg')"),
    Member("dists", side=8),
    Member(f"TextureStructure @ Sensitivity @ PooledVGG({list(DISTS_LAYERS)})", side=8),
    Member("Contextual", side=12, least=None, excused={REACHES: NEAREST}),
    Member("Contextual(0.1, 'l2', spatial=0.1, places=400)", side=12, least=None, excused={REACHES: NEAREST}),
    Member("contextual('vgg16', 'relu3_2')", least=None),
    Member("SlicedWasserstein"),
    Member("SlicedWasserstein(9, p=1)"),
    Member("sliced_wasserstein('vgg16', ['relu1_1', 'relu3_1'])"),
    Member("gatys", side=16, grows=None),
    Member("johnson", grows=None),
    Member("srgan(width=4)", grows=None, least=None),
    Member("srgan('mse', width=4)", grows=None, least=None),
    Member("esrgan(width=4)", grows=None, least=None),
    Member("real_esrgan(width=4)", side=16, grows=None, least=None),
    Member("pconv", side=16, views=INPAINTED),
    Member(
        "aot_gan(width=4)", grows=None, least=None, views={**INPAINTED, "mask": View((1, None, None), "mask", None)}
    ),
    Member("vqgan(width=4)", grows=None, least=None, views={"latents": LATENTS, "codes": LATENTS}, excused=STOPPED),
    Member("FocalFrequency", grows=None, excused=HELD),
    Member("FocalFrequency(0.5, 2, log_matrix=True)", grows=None, excused=HELD),
    Member("FocalFrequency(ave_spectrum=True, batch_matrix=True)", grows=None, excused=HELD),
    Member("fft_l1"),
    Member("fft_l1('amplitude', onesided=True)"),
    Member("fft_l1(norm='backward')", grows=None),
    Member("wavelet_l1"),
    Member("wavelet_l1({'LL': 0.5, 'HH2': 2}, 'sym4', levels=2)"),
    Member("gradient"),
    Member("gradient('scharr', 'magnitude')"),
    Member("gradient('laplacian') + L2 @ Laplacian(8)"),
    Member("spsr_gradient"),
    Member("colour", side=32),
    Member("colour('ycbcr', 1) + L2 @ YCbCr('chroma') @ Downsample(2, 'area')"),
    Member("L1 @ Downsample(2)"),
    Member("LRConsistency"),
    Member("Adversarial(width=4)", grows=None, least=None),
    Member("Adversarial('unet', 'lsgan', width=4, spectral=False)", grows=None, least=None),
    Member("Adversarial('patch', 'hinge', width=4)", grows=None, least=None),
    Member("Adversarial('patch', 'wasserstein', penalty='gp', width=4, seed=1)", grows=None, least=None),
    Member("Adversarial('patch', 'relativistic', width=4)", grows=None, least=None),
    Member("FeatureMatching(width=4)", grows=None),
    Member("FeatureMatching('patch', 'lsgan', width=4)", grows=None),
    Member("InfoNCE", least=None, views={"pred": VECTOR, "target": SEEN}),
    Member(
        "InfoNCE(0.5, directions='pred', include_positive=False)", least=None, views={"pred": VECTOR, "target": SEEN}
    ),
    Member(
        "InfoNCE(learnable=True).on(target='anchor', negatives='bank', groups='ids')",
        least=None,
        views={
            "pred": VECTOR,
            "anchor": SEEN,
            "bank": View((16,), learns=None),
            "ids": View((), "unit", learns=False),
        },
    ),
    Member("CLIPLoss", least=None, views=PAIRS),
    Member("CLIPLoss(0.5, learnable=False, directions='text')", least=None, views=PAIRS),
    Member(f"TextAlignment @ {TINY_CLIP}", least=None, views={"text": VECTOR}, excused=TEXTLESS),
    Member(f"TextContrast(0.5) @ {TINY_CLIP}", least=None, views={"text": VECTOR}, excused=TEXTLESS),
    Member(
        f"(TextContrast(0.5, directions='image') @ {TINY_CLIP}).on(negatives='wrong', groups='ids')",
        least=None,
        views={"text": VECTOR, "wrong": View((16,), learns=None), "ids": View((), "unit", learns=False)},
        excused=TEXTLESS,
    ),
    Member("PatchNCE", least=None),
    Member("PatchNCE(100, temperature=0.5)", least=None),
    Member("ModeSeeking", least=None, views=SAMPLES),
    Member("ModeSeeking(2.0)", least=None, views=SAMPLES),
    Member("PairwiseDiversity(2.0)", least=None),
    Member("PairwiseDiversity(2.0, distance='l2')", least=None),
    Member("PairwiseDiversity(2.0, distance='cosine')", least=None),
    Member("MemoryDiversity(2.0)", least=None),
    Member("MemoryDiversity(2.0, distance='cosine')", least=None),
    Member("AttentionConsistency", least=None, views=ATTENTION),
    Member("AttentionConsistency('js', over='queries')", least=None, views=ATTENTION),
    Member("AttentionConsistency('l2', over='map', heads='mean')", least=None, views=ATTENTION),
    Member("AttentionMask", least=None, views=REGION),
    Member("AttentionMask('squared')", least=None, views=REGION),
    Member("AttentionMask('kl')", least=None, views=REGION),
    Member("KL", least=None, views={"mu": LATENTS, "logvar": LATENTS}),
    Member("KL('dimension', free_bits=0.1)", least=None, views={"mu": LATENTS, "logvar": LATENTS}),
    Member("VQCommitment", least=None, views={"latents": LATENTS, "codes": LATENTS}, excused=STOPPED),
    Member("DenoisingMSE", least=None, views=DIFFUSED),
    Member("DenoisingMSE('x0', weighting='eps')", least=None, views=DIFFUSED),
    Member("DenoisingMSE('v', weighting='min-snr', gamma=3.0)", least=None, views=DIFFUSED),
    Member("DenoisingMSE('flow', weighting='soft-min-snr')", least=None, views=DIFFUSED),
    Member("DenoisingMSE('edm', weighting='edm', sigma_data=1.0)", least=None, views=DIFFUSED),
    Member("ContrastiveFlow", grows=None, least=None, views=FLOWS),
    Member("Dispersive", least=None, views={"hidden": LATENTS}),
    Member("Dispersive(1.0)", least=None, views={"hidden": LATENTS}),
    Member("HiddenAlignment", side=8, least=None, views={"hidden": View((4, None, None))}),
    Member("imagen", least=None, views=DIFFUSED),
    Member("imagen_fused", side=32, grows=None, least=None, views={**DIFFUSED, **FLOWS, **REGION, "hidden": LATENTS}),
]

every_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.text)


@pytest.fixture
def loss(request: pytest.FixtureRequest, member: Member, with_random_weights) -> Loss:
    loss = with_random_weights(parse(member.text))
    if excuse := member.excuse(request.node.originalname, loss):
        pytest.skip(excuse)
    return loss


def drawn(view: View, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    sides = iter((height, width))
    shape = (n, *(next(sides) if side is None else side for side in view.shape))
    noise = torch.rand(shape, generator=generator, dtype=torch.float64)
    if view.kind == "unit":
        return noise
    if view.kind == "mask":
        return noise.round()
    normal = math.sqrt(2) * torch.erfinv((2 * noise - 1).clamp(-0.999, 0.999))
    return normal.softmax(dim=-1) if view.kind == "attention" else normal


def views_of(
    loss: Loss,
    member: Member,
    n: int = 2,
    *,
    side: int | tuple[int, int] | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Seeded views, the first of which learns."""
    generator = torch.Generator().manual_seed(seed)
    height, width = side if isinstance(side, tuple) else (side or member.side,) * 2
    names = sorted(loss.input_names, key=lambda name: (name != "pred", not member.view(name).learns, name))
    sideless = sorted(names, key=lambda name: None in member.view(name).shape)  # first, so as to be equal at all sides
    views = {name: drawn(member.view(name), n, height, width, generator).to(dtype) for name in sideless}
    return {name: views[name] for name in names}


def mixing(loss: Loss) -> bool:
    return any(term.distance.is_batch_dependent for term in loss.terms)


def few(loss: Loss) -> int:
    """The smallest batch in which each image's value says something."""
    return 3 if mixing(loss) else 1


def values_of(loss: Loss, views: dict[str, Tensor]) -> Tensor:
    """The weighted values (N,) summed over the terms."""
    values = loss.evaluate(views).values()
    return torch.stack([w.value_at() * v for w, v in zip(loss.weights, values, strict=True)]).sum(dim=0)


def gradients_of(loss: Loss, member: Member, views: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradient at each view that learns."""
    learning = {name: view.clone().requires_grad_() for name, view in views.items() if member.view(name).learns}
    value = loss(**{**views, **learning})
    if any(view.dtype == torch.float16 for view in learning.values()):
        value = value / value.detach().clamp_min(1)  # as a gradient scaler does: Gatys's weights pass 65504
    return dict(zip(learning, torch.autograd.grad(value, list(learning.values())), strict=True))


def norm(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()]).norm()


def test_every_loss_is_under_the_contract():
    named = [name for name in losses.__all__ if name != "External"]  # which no text can name; see test_foreign.py
    missing = [name for name in named if not any(member.text.startswith(name) for member in MEMBERS)]
    assert not missing, f"add a line to MEMBERS for {missing}"


@pytest.mark.parametrize("member", [member for member in MEMBERS if member.excused], ids=lambda member: member.text)
def test_every_excuse_is_for_a_test(member):
    assert all(test in globals() for test in member.excused)


@every_member
def test_the_gradient_reaches_what_learns_and_nothing_else(loss, member):
    views = views_of(loss, member, max(2, few(loss)))
    for name, view in views.items():
        view.requires_grad_(member.view(name).learns is not None)
    loss(**views).backward()
    for name, view in views.items():
        if member.view(name).learns:
            assert view.grad is not None, name
            assert (view.grad.flatten(1).norm(dim=1) > 0).all()
            assert (view.grad != 0).float().mean() > 0.5
        else:
            assert view.grad is None, name


@every_member
def test_permuting_the_batch_permutes_the_values(loss, member):
    views = views_of(loss, member, 3)
    order = torch.tensor([2, 0, 1])
    permuted = values_of(loss, {name: view[order] for name, view in views.items()})
    torch.testing.assert_close(permuted, values_of(loss, views)[order], rtol=1e-4, atol=0)


@every_member
def test_duplicating_the_batch_changes_nothing(loss, member):
    views = views_of(loss, member)
    torch.testing.assert_close(
        loss(**{name: torch.cat([view, view]) for name, view in views.items()}), loss(**views), rtol=1e-4, atol=0
    )


@every_member
def test_equal_flat_pictures_give_the_minimum(loss, member):
    views = {name: torch.full_like(view, 0.4) for name, view in views_of(loss, member).items()}
    least = values_of(loss, views)
    torch.testing.assert_close(least, torch.full_like(least, member.least), rtol=1e-5, atol=2e-6)
    views["pred"] = views["pred"] + 0.05 * torch.randn(views["pred"].shape, generator=torch.Generator().manual_seed(0))
    assert (values_of(loss, views) > least).all()


@every_member
def test_a_step_against_the_gradient_lowers_the_value(loss, member):
    views = views_of(loss, member, few(loss), dtype=torch.float64)
    gradients = gradients_of(loss, member, views)
    step = {name: 1e-4 * gradient / norm(gradients) for name, gradient in gradients.items()}
    before = loss(**views)
    assert loss(**{name: view - step.get(name, 0) for name, view in views.items()}) < before


def same(views: dict[str, Tensor], other: str | None = None) -> dict[str, Tensor]:
    """Every view of the first one's shape as the first one, or as its opposite."""
    first = next(iter(views))
    like = views[first] if other is None else 1 - views[first]
    return {n: like if n != first and v.shape == like.shape else v for n, v in views.items()}


HOSTILE = {
    "black": lambda views: {name: torch.zeros_like(view) for name, view in views.items()},
    "black on noise": lambda views: {n: torch.zeros_like(v) if i == 0 else v for i, (n, v) in enumerate(views.items())},
    "constant": lambda views: {
        name: torch.full_like(view, 0.3 + 0.1 * i) for i, (name, view) in enumerate(views.items())
    },
    "equal": same,
    "opposite": lambda views: same(views, "opposite"),
    "extreme": lambda views: {name: (view - 0.5) * 2e4 for name, view in views.items()},
    "extreme and flat": lambda views: {n: torch.full_like(v, 1e4 + 10 * i) for i, (n, v) in enumerate(views.items())},
    "tiny values": lambda views: {name: view * 1e-12 for name, view in views.items()},
    "bfloat16": lambda views: {name: view.bfloat16() for name, view in views.items()},
    "float16": lambda views: {name: view.half() for name, view in views.items()},
    "black float16": lambda views: {name: torch.zeros_like(view).half() for name, view in views.items()},
}


@every_member
@pytest.mark.parametrize("kind", HOSTILE)
def test_value_and_gradient_are_finite_on_views_that_are(kind, loss, member):
    views = HOSTILE[kind](views_of(loss, member, few(loss)))
    assert values_of(loss, views).isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients_of(loss, member, views).values())


@every_member
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (9, 1)])
def test_a_tiny_picture_gives_a_number_or_a_clear_error(shape, loss, member):
    views = views_of(loss, member, few(loss), side=shape)
    try:
        assert values_of(loss, views).isfinite().all()
        assert all(gradient.isfinite().all() for gradient in gradients_of(loss, member, views).values())
    except ValueError as error:
        assert "wants pictures of at least" in str(error)
        assert f"{shape[0]}x{shape[1]}" in str(error)


@every_member
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_views_are_judged_in_full_precision(dtype, loss, member):
    halved = {name: view.to(dtype) for name, view in views_of(loss, member, few(loss)).items()}
    wanted = values_of(loss, {name: view.float() for name, view in halved.items()})
    torch.testing.assert_close(values_of(loss, halved), wanted, rtol=1e-6, atol=0)


@every_member
def test_autocast_moves_the_value_by_no_more_than_half_precision_features(loss, member):
    views = views_of(loss, member, few(loss))
    wanted = values_of(loss, views)
    with torch.autocast("cpu", torch.bfloat16):
        value = values_of(loss, views)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, wanted, rtol=0.05 if loss.networks else 1e-6, atol=0)


@every_member
def test_nothing_is_mutated(loss, member):
    views = views_of(loss, member)
    before = {name: view.clone() for name, view in views.items()}
    text, state = repr(loss), torch.get_rng_state()
    gradients_of(loss, member, views)
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
    views = views_of(loss, member)
    assert torch.equal(again(**views), loss(**views))


@every_member
def test_the_state_saves_and_loads(loss, member):
    views = views_of(loss, member)
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
    values = loss.evaluate(views_of(loss, member, 3, dtype=dtype))
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert tuple(values) == loss.names
    assert all(value.shape == (3,) and value.dtype == wanted for value in values.values())


@every_member
def test_the_resolution_counts_only_where_the_docstring_says_so(loss, member):
    values = []
    for side in (64, 128) if loss.networks else (2 * member.side, 4 * member.side):
        views = views_of(loss, member, few(loss), side=side)
        first = next(iter(views))
        views[first] = 0.3 + 0.4 * views[first]  # another texture, not another sample of one
        values.append(values_of(loss, views))
    if member.grows is not None:
        assert (values[1] > 2.5 * values[0]).all() == member.grows
    if member.grows is False:
        torch.testing.assert_close(values[1], values[0], rtol=1.5 if loss.networks else 0.05, atol=0)  # padding counts


@every_member
def test_no_number_is_looked_at(loss, member):
    if loss.networks:
        pytest.skip("its networks are frozen on a real device")
    views = {name: view.to("meta") for name, view in views_of(loss, member).items()}
    value = copy.deepcopy(loss).to("meta")(**views)  # which holds shapes alone: a branch on a value would raise
    assert value.shape == ()


@every_member
def test_the_distance_is_compiled_in_one_graph(loss, member):
    if any(term.lens for term in loss.terms):
        pytest.skip("what a lens shows is compiled elsewhere")
    views = views_of(loss, member, few(loss))
    for term in loss.terms:
        shown = {parameter: views[view] for parameter, view in term.inputs.items()}
        torch.compiler.reset()
        compiled = torch.compile(term.distance.measure, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(**shown), term.distance.measure(**shown))


@every_member
def test_the_gradient_is_the_derivative(loss, member):
    views = views_of(loss, member, few(loss), dtype=torch.float64)
    scale = norm(gradients_of(loss, member, views))  # whose size differs by 1e9 between losses
    names = [name for name in views if member.view(name).learns]

    def scaled(*learning: Tensor) -> Tensor:
        return loss(**{**views, **dict(zip(names, learning, strict=True))}) / scale

    inputs = [views[name].clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(scaled, inputs, fast_mode=True, rtol=1e-3, atol=1e-6)


@every_member
def test_the_doctor_has_nothing_against_it(loss, member):
    if len(loss.terms) > 2:
        pytest.skip("its terms are examined one by one elsewhere")
    assert not check(loss, shape=(2, 3, member.side, member.side)).errors
