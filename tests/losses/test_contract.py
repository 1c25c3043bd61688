"""The contract that every loss fulfils. A new loss adds its line to MEMBERS."""

import copy
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from lossmith import Loss, losses, parse
from lossmith.doctor import check
from lossmith.doctor.edge_cases import FINITE_CASES
from lossmith.formula.example_input import ExampleInput
from lossmith.losses import TextAlignment, TextureStructure

SIDE = 24


@dataclass(frozen=True)
class Member:
    """A loss under the contract.

    Args:
        text: The formula; networks are untrained.
        side: The side of the images.
        grows: Whether the value grows with the resolution, as the docstring then says; None for a mixture.
        minimum: The minimal value, which equal flat images give; None where they do not.
        inputs: The inputs that differ from the loss's own `example_inputs`, by name.
        exempt: The tests that cannot hold for the loss, each with the reason.
    """

    text: str
    side: int = SIDE
    grows: bool | None = False
    minimum: float | None = 0.0
    inputs: Mapping[str, ExampleInput] = field(default_factory=dict)
    exempt: Mapping[str, str] = field(default_factory=dict)

    def examples(self, loss: Loss) -> dict[str, ExampleInput]:
        """Return how the inputs of the loss look, by name."""
        return {
            name: self.inputs.get(name, term.distance.example_input(parameter))
            for term in loss.terms
            for parameter, name in term.inputs.items()
        }

    def exemption(self, test: str, loss: Loss) -> str | None:
        """Return why a test cannot hold for the loss; None if it must hold."""
        has_images = any({"height", "width"} & set(example.shape) for example in self.examples(loss).values())
        notes = [term.distance.gradient_note for term in loss.terms if term.distance.gradient_note]
        exemptions = {
            "test_duplicating_the_batch_does_not_change_the_value": is_batch_dependent(loss) and "a copy is a negative",
            "test_equal_flat_images_give_the_minimum": self.minimum is None and "the minimum is elsewhere",
            "test_the_resolution_matters_only_where_the_docstring_says_so": not has_images and "no images are read",
            "test_a_tiny_image_gives_a_finite_value_or_a_clear_error": not has_images and "no images are read",
            "test_the_gradient_is_the_derivative": "; ".join(notes),
        }
        return self.exempt.get(test) or exemptions.get(test) or None


NEAREST = {"test_the_gradient_reaches_exactly_the_learned_inputs": "a position sends a gradient to its nearest match"}
TINY_CLIP = "CLIP('tiny', weights='random')"  # with embeddings of 16 dimensions
ATTENTION = {"attention": ExampleInput("softmax", (2, 3, 5)), "other": ExampleInput("softmax", (2, 3, 5))}
SAME_SIZE = {"input": ExampleInput(requires_grad=False)}
HIDDEN = {"hidden": ExampleInput("normal", (4, "height", "width"))}

MEMBERS = [
    Member("L1"),
    Member("L2"),
    Member("Lp(1.5)"),
    Member("Lp(3)"),
    Member("Charbonnier", minimum=1e-3),
    Member("Charbonnier(1e-2, bands='joint')", minimum=1e-2),
    Member("Huber"),
    Member("SquaredNorm", grows=True),
    Member("TV"),
    Member("TV(squared=True)"),
    Member("TV('isotropic')"),
    Member("TV('isotropic', squared=True)"),
    Member("TV(per='image')", grows=True),
    Member("TV('isotropic', bands='joint')"),
    Member("TV(per='image', bands='joint')", grows=True),
    Member("EdgeAwareTV"),
    Member("SSIM"),
    Member("SSIM(7, sigma=1.0)"),
    Member("MSSSIM(2, window=7)"),
    Member("MSSSIM(2, window=7, bands='joint')"),
    Member("SpectralAngle"),
    Member("SpectralAngle @ VGG('vgg16', 'relu2_1')"),
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
    Member(TextureStructure.example_formula, side=8),
    Member("Contextual", side=12, minimum=None, exempt=NEAREST),
    Member("Contextual(0.1, 'l2', spatial=0.1, max_points=400)", side=12, minimum=None, exempt=NEAREST),
    Member("contextual('vgg16', 'relu3_2')", minimum=None),
    Member("SlicedWasserstein"),
    Member("SlicedWasserstein(9, p=1)"),
    Member("sliced_wasserstein('vgg16', ['relu1_1', 'relu3_1'])"),
    Member("gatys", side=16, grows=None),
    Member("johnson", grows=None),
    Member("srgan(width=4)", grows=None, minimum=None),
    Member("srgan('mse', width=4)", grows=None, minimum=None),
    Member("esrgan(width=4)", grows=None, minimum=None),
    Member("real_esrgan(width=4)", side=16, grows=None, minimum=None),
    Member("pconv", side=16),
    Member("aot_gan(width=4)", grows=None, minimum=None),
    Member("vqgan(width=4)", grows=None, minimum=None),
    Member("FocalFrequency", grows=None),
    Member("FocalFrequency(0.5, 2, log_matrix=True)", grows=None),
    Member("FocalFrequency(joint_matrix=True)", grows=None),
    Member("FocalFrequency(ave_spectrum=True, batch_matrix=True)", grows=None),
    Member("fft_l1"),
    Member("fft_l1('amplitude', onesided=True)"),
    Member("fft_l1(norm='backward')", grows=None),
    Member("wavelet_l1"),
    Member("wavelet_l1({'LL': 0.5, 'HH2': 2}, 'sym4', levels=2)"),
    Member("gradient"),
    Member("gradient('scharr', 'magnitude')"),
    Member("gradient('sobel', 'joint')"),
    Member("gradient('laplacian') + L2 @ Laplacian(8)"),
    Member("spsr_gradient"),
    Member("colour", side=32),
    Member("colour('ycbcr', 1) + L2 @ YCbCr('chroma') @ Downsample(2, 'area')"),
    Member("L1 @ Downsample(2)"),
    Member("LRConsistency", inputs=SAME_SIZE),
    Member("Adversarial(width=4)", grows=None, minimum=None),
    Member("Adversarial('unet', 'lsgan', width=4, spectral_norm=False)", grows=None, minimum=None),
    Member("Adversarial('patch', 'hinge', width=4)", grows=None, minimum=None),
    Member("Adversarial('patch', 'wasserstein', penalty='gp', width=4, seed=1)", grows=None, minimum=None),
    Member("Adversarial('patch', 'relativistic', width=4)", grows=None, minimum=None),
    Member("FeatureMatching(width=4)", grows=None),
    Member("FeatureMatching('patch', 'lsgan', width=4)", grows=None),
    Member("InfoNCE", minimum=None),
    Member("InfoNCE(0.5, directions='pred', include_positive=False)", minimum=None),
    Member(
        "InfoNCE(learnable=True).on(target='anchor', negatives='bank', groups='ids')",
        minimum=None,
    ),
    Member("CLIPLoss", minimum=None),
    Member("CLIPLoss(0.5, learnable=False, directions='text')", minimum=None),
    Member(TextAlignment.example_formula, minimum=None),
    Member(f"TextContrast(0.5) @ {TINY_CLIP}", minimum=None),
    Member(
        f"(TextContrast(0.5, directions='image') @ {TINY_CLIP}).on(negatives='wrong', groups='ids')",
        minimum=None,
    ),
    Member("PatchNCE", minimum=None),
    Member("PatchNCE(100, temperature=0.5)", minimum=None),
    Member("ModeSeeking", minimum=None),
    Member("ModeSeeking(2.0)", minimum=None),
    Member("PairwiseDiversity(2.0)", minimum=None),
    Member("PairwiseDiversity(2.0, distance='l2')", minimum=None),
    Member("PairwiseDiversity(2.0, distance='cosine')", minimum=None),
    Member("MemoryDiversity(2.0)", minimum=None),
    Member("MemoryDiversity(2.0, distance='cosine')", minimum=None),
    Member("AttentionConsistency", minimum=None, inputs=ATTENTION),
    Member("AttentionConsistency('js', over='queries')", minimum=None, inputs=ATTENTION),
    Member("AttentionConsistency('l2', over='map', heads='mean')", minimum=None, inputs=ATTENTION),
    Member("AttentionMask", minimum=None),
    Member("AttentionMask('squared')", minimum=None),
    Member("AttentionMask('kl')", minimum=None),
    Member("KL", minimum=None),
    Member("KL('dimension', free_bits=0.1)", minimum=None),
    Member("VQCommitment", minimum=None),
    Member("DenoisingMSE", minimum=None),
    Member("DenoisingMSE('x0', weighting='eps')", minimum=None),
    Member("DenoisingMSE('v', weighting='min-snr', gamma=3.0)", minimum=None),
    Member("DenoisingMSE('flow', weighting='soft-min-snr')", minimum=None),
    Member("DenoisingMSE('edm', weighting='edm', sigma_data=1.0)", minimum=None),
    Member("ContrastiveFlow", grows=None, minimum=None),
    Member("Dispersive", minimum=None),
    Member("Dispersive(1.0)", minimum=None),
    Member("HiddenAlignment", side=8, minimum=None, inputs=HIDDEN),
    Member("imagen", minimum=None),
    Member("imagen_fused", side=32, grows=None, minimum=None),
]

every_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.text)


@pytest.fixture
def loss(request: pytest.FixtureRequest, member: Member, with_random_weights) -> Loss:
    loss = with_random_weights(parse(member.text))
    if reason := member.exemption(request.node.originalname, loss):
        pytest.skip(reason)
    return loss


def draw(example: ExampleInput, n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    sides = {"height": height, "width": width, "features": 16}
    shape = (n, *(sides[side] if isinstance(side, str) else side for side in example.shape))
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    if example.kind == "uniform":
        return uniform
    if example.kind == "binary":
        return uniform.round()
    normal = math.sqrt(2) * torch.erfinv((2 * uniform - 1).clamp(-0.999, 0.999))
    return normal.softmax(dim=-1) if example.kind == "softmax" else normal


def make_inputs(
    loss: Loss,
    member: Member,
    n: int = 2,
    *,
    side: int | tuple[int, int] | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return seeded inputs, the first of which receives a gradient."""
    generator = torch.Generator().manual_seed(seed)
    height, width = side if isinstance(side, tuple) else (side or member.side,) * 2
    examples = member.examples(loss)
    names = sorted(examples, key=lambda name: (name != "pred", not examples[name].requires_grad, name))
    # inputs without an image size are drawn first, so that they are equal for all sizes
    by_size = sorted(names, key=lambda name: bool({"height", "width"} & set(examples[name].shape)))
    inputs = {name: draw(examples[name], n, height, width, generator).to(dtype) for name in by_size}
    return {name: inputs[name] for name in names}


def is_batch_dependent(loss: Loss) -> bool:
    return any(term.distance.is_batch_dependent for term in loss.terms)


def min_batch_size(loss: Loss) -> int:
    """Return the smallest batch size for which the value of each image is not trivial."""
    return 3 if is_batch_dependent(loss) else 1


def weighted_values(loss: Loss, inputs: dict[str, Tensor]) -> Tensor:
    """Return the weighted values (N,) summed over the terms."""
    values = loss.evaluate(inputs).values()
    return torch.stack([w.value_at() * v for w, v in zip(loss.weights, values, strict=True)]).sum(dim=0)


def learned_names(loss: Loss, member: Member, inputs: dict[str, Tensor]) -> list[str]:
    examples = member.examples(loss)
    return [name for name in inputs if examples[name].requires_grad]


def compute_gradients(loss: Loss, member: Member, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradient at each input that receives one."""
    leaves = {name: inputs[name].clone().requires_grad_() for name in learned_names(loss, member, inputs)}
    value = loss(**{**inputs, **leaves})
    if any(leaf.dtype == torch.float16 for leaf in leaves.values()):
        value = value / value.detach().clamp_min(1)  # as a gradient scaler does: Gatys's weights exceed 65504
    return dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True))


def norm(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()]).norm()


def test_every_loss_is_under_the_contract():
    names = [name for name in losses.__all__ if name != "External"]  # which no text can name; see test_external.py
    missing = [name for name in names if not any(member.text.startswith(name) for member in MEMBERS)]
    assert not missing, f"add a line to MEMBERS for {missing}"


@pytest.mark.parametrize("member", [member for member in MEMBERS if member.exempt], ids=lambda member: member.text)
def test_every_exemption_names_a_test(member):
    assert all(test in globals() for test in member.exempt)


@pytest.mark.slow
@every_member
def test_the_gradient_reaches_exactly_the_learned_inputs(loss, member):
    inputs, examples = make_inputs(loss, member, max(2, min_batch_size(loss))), member.examples(loss)
    for name, tensor in inputs.items():
        tensor.requires_grad_(examples[name].requires_grad is not None)
    loss(**inputs).backward()
    for name, tensor in inputs.items():
        if examples[name].requires_grad:
            assert tensor.grad is not None, name
            assert (tensor.grad.flatten(1).norm(dim=1) > 0).all()
            assert (tensor.grad != 0).float().mean() > 0.5
        else:
            assert tensor.grad is None, name


@every_member
def test_permuting_the_batch_permutes_the_values(loss, member):
    inputs = make_inputs(loss, member, 3)
    order = torch.tensor([2, 0, 1])
    permuted = weighted_values(loss, {name: tensor[order] for name, tensor in inputs.items()})
    torch.testing.assert_close(permuted, weighted_values(loss, inputs)[order], rtol=1e-4, atol=0)


@every_member
def test_duplicating_the_batch_does_not_change_the_value(loss, member):
    inputs = make_inputs(loss, member)
    duplicated = {name: torch.cat([tensor, tensor]) for name, tensor in inputs.items()}
    torch.testing.assert_close(loss(**duplicated), loss(**inputs), rtol=1e-4, atol=0)


@every_member
def test_equal_flat_images_give_the_minimum(loss, member):
    inputs = {name: torch.full_like(tensor, 0.4) for name, tensor in make_inputs(loss, member).items()}
    minimum = weighted_values(loss, inputs)
    torch.testing.assert_close(minimum, torch.full_like(minimum, member.minimum), rtol=1e-5, atol=2e-6)
    noise = torch.randn(inputs["pred"].shape, generator=torch.Generator().manual_seed(0))
    inputs["pred"] = inputs["pred"] + 0.05 * noise
    assert (weighted_values(loss, inputs) > minimum).all()


@pytest.mark.slow
@every_member
def test_a_step_against_the_gradient_lowers_the_value(loss, member):
    inputs = make_inputs(loss, member, min_batch_size(loss), dtype=torch.float64)
    gradients = compute_gradients(loss, member, inputs)
    step = {name: 1e-4 * gradient / norm(gradients) for name, gradient in gradients.items()}
    before = loss(**inputs)
    assert loss(**{name: tensor - step.get(name, 0) for name, tensor in inputs.items()}) < before


@pytest.mark.slow
@every_member
@pytest.mark.parametrize("case", FINITE_CASES)
def test_value_and_gradient_are_finite_for_inputs_that_are(case, loss, member):
    inputs = FINITE_CASES[case](make_inputs(loss, member, min_batch_size(loss)))
    assert weighted_values(loss, inputs).isfinite().all()
    assert all(gradient.isfinite().all() for gradient in compute_gradients(loss, member, inputs).values())


@every_member
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (9, 1)])
def test_a_tiny_image_gives_a_finite_value_or_a_clear_error(shape, loss, member):
    inputs = make_inputs(loss, member, min_batch_size(loss), side=shape)
    try:
        assert weighted_values(loss, inputs).isfinite().all()
        assert all(gradient.isfinite().all() for gradient in compute_gradients(loss, member, inputs).values())
    except ValueError as error:
        assert "images of at least" in str(error)
        assert f"{shape[0]}x{shape[1]}" in str(error)


@pytest.mark.slow
@every_member
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_float32(dtype, loss, member):
    half = {name: tensor.to(dtype) for name, tensor in make_inputs(loss, member, min_batch_size(loss)).items()}
    expected = weighted_values(loss, {name: tensor.float() for name, tensor in half.items()})
    torch.testing.assert_close(weighted_values(loss, half), expected, rtol=1e-6, atol=0)


@every_member
def test_autocast_changes_the_value_only_through_half_precision_features(loss, member):
    inputs = make_inputs(loss, member, min_batch_size(loss))
    expected = weighted_values(loss, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        value = weighted_values(loss, inputs)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0.05 if loss.networks else 1e-6, atol=0)


@every_member
def test_nothing_is_mutated(loss, member):
    inputs = make_inputs(loss, member)
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    text, state = repr(loss), torch.get_rng_state()
    compute_gradients(loss, member, inputs)
    assert repr(loss) == text
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in inputs.items():
        assert torch.equal(tensor, before[name])
        assert tensor._version == 0


@every_member
def test_the_repr_is_the_text(loss, member):
    parsed = parse(repr(loss))
    assert repr(parsed) == repr(loss)
    assert parsed.names == loss.names
    assert parsed.weights == loss.weights
    inputs = make_inputs(loss, member)
    assert torch.equal(parsed(**inputs), loss(**inputs))


@every_member
def test_the_state_saves_and_loads(loss, member):
    inputs = make_inputs(loss, member)
    expected = loss(**inputs)
    buffer = io.BytesIO()
    torch.save(loss.state_dict(), buffer)
    buffer.seek(0)
    loaded = copy.deepcopy(loss)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(loaded(**inputs), expected)


@pytest.mark.slow
@every_member
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_each_term_gives_one_value_per_image(dtype, loss, member):
    values = loss.evaluate(make_inputs(loss, member, 3, dtype=dtype))
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert tuple(values) == loss.names
    assert all(value.shape == (3,) and value.dtype == expected for value in values.values())


@pytest.mark.slow
@every_member
def test_the_resolution_matters_only_where_the_docstring_says_so(loss, member):
    values = []
    for side in (64, 128) if loss.networks else (2 * member.side, 4 * member.side):
        inputs = make_inputs(loss, member, min_batch_size(loss), side=side)
        first = next(iter(inputs))
        inputs[first] = 0.3 + 0.4 * inputs[first]  # another texture, not another sample of one
        values.append(weighted_values(loss, inputs))
    if member.grows is not None:
        assert (values[1] > 2.5 * values[0]).all() == member.grows
    if member.grows is False:
        torch.testing.assert_close(values[1], values[0], rtol=1.5 if loss.networks else 0.05, atol=0)  # padding counts


@every_member
def test_no_value_is_read_on_the_host(loss, member):
    if loss.networks:
        pytest.skip("its networks are frozen on a real device")
    inputs = {name: tensor.to("meta") for name, tensor in make_inputs(loss, member).items()}
    value = copy.deepcopy(loss).to("meta")(**inputs)  # the device has no values: a branch on one would raise
    assert value.shape == ()


@pytest.mark.slow
@every_member
def test_the_distance_is_compiled_in_one_graph(loss, member):
    if any(term.lens for term in loss.terms):
        pytest.skip("lenses are compiled elsewhere")
    inputs = make_inputs(loss, member, min_batch_size(loss))
    for term in loss.terms:
        arguments = {parameter: inputs[name] for parameter, name in term.inputs.items()}
        torch.compiler.reset()
        compiled = torch.compile(term.distance.measure, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(**arguments), term.distance.measure(**arguments))


@pytest.mark.slow
@every_member
def test_the_gradient_is_the_derivative(loss, member):
    inputs = make_inputs(loss, member, min_batch_size(loss), dtype=torch.float64)
    scale = norm(compute_gradients(loss, member, inputs))  # the sizes of losses differ by 1e9
    names = learned_names(loss, member, inputs)

    def scaled(*learned: Tensor) -> Tensor:
        return loss(**{**inputs, **dict(zip(names, learned, strict=True))}) / scale

    leaves = [inputs[name].clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(scaled, leaves, fast_mode=True, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
@every_member
def test_the_doctor_finds_no_error(loss, member):
    if len(loss.terms) > 2:
        pytest.skip("its terms are examined one by one elsewhere")
    assert not check(loss, shape=(2, 3, member.side, member.side)).errors
