"""Second derivatives are right or refused, by every way to take them; `torch.func` transforms have all of them."""

import pytest
import torch
from torch.autograd import functional, gradgradcheck
from torch.func import grad, hessian, jacrev, jvp, vmap
from torch.testing import assert_close

from lossmith import L1, L2, VGG, Gram, parse, pinned, tiled
from lossmith.backbone import clear_backbones
from lossmith.engine.second_derivatives import link_to
from lossmith.lenses import Distilled, Embedded
from lossmith.lenses.embedded import EMBEDDED_LAYERS
from lossmith.lenses.lpips import normalize_channels
from lossmith.losses import Contextual

pytestmark = pytest.mark.filterwarnings("ignore:Using backward..:UserWarning")

SIDE = 24

REFUSED = [
    "style('vgg16', 'relu1_1')",
    "L2 + style('vgg16', 'relu1_1')",
    "L2 + perceptual('vgg16', 'conv1_1')",  # keeps signs, and no local gradient
    "L2 + distilled_lpips",
    "L2 + contextual('vgg16', 'relu1_1')",
    "L2 + SSIM(3) @ VGG('vgg16', ['relu1_1', 'relu2_1'])",
    "L2 + L2 @ Blur(2) @ VGG('vgg16', 'pool1') @ YCbCr",
]
"""Losses whose backward pass keeps too little for a second derivative."""


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 2, 3, SIDE, SIDE, generator=generator, dtype=torch.float64).unbind()


def backward_twice(f, x, v):
    f(x).backward(create_graph=True)
    gradient, x.grad = x.grad, None
    (gradient * v).sum().backward()
    return x.grad


def grad_with_inputs(f, x, v):
    (gradient,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad((gradient * v).sum(), x)[0]


def backward_with_inputs(f, x, v):
    (gradient,) = torch.autograd.grad(f(x), x, create_graph=True)
    (gradient * v).sum().backward(inputs=[x])
    return x.grad


def grad_through_a_network(f, x, v):
    hidden = torch.sigmoid(x)  # the named input is no leaf
    (gradient,) = torch.autograd.grad(f(hidden), hidden, create_graph=True)
    return torch.autograd.grad((gradient * v).sum(), hidden)[0]


def grad_at_another_input(f, x, v):
    scale = torch.ones((), dtype=x.dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(f(scale * x.detach()), scale, create_graph=True)
    return torch.autograd.grad(gradient, scale)[0]


def hessian_vector_product(f, x, v):
    return functional.hvp(f, x.detach(), v)[1]


def whole_hessian(f, x, v):
    return functional.hessian(f, x.detach()[:1, :, :8, :8])


def check_by_differences(f, x, v):
    gradgradcheck(f, x[:1, :, :8, :8].detach().requires_grad_())


WAYS = [
    backward_twice,
    grad_with_inputs,
    backward_with_inputs,
    grad_through_a_network,
    grad_at_another_input,
    hessian_vector_product,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", REFUSED)
def test_a_second_derivative_through_a_network_is_refused(text, way, images, with_random_weights):
    loss = with_random_weights(parse(text))
    x, y, v = images
    with pytest.raises(RuntimeError, match="has no second derivative"):
        way(lambda image: loss(image, y), x.requires_grad_(), v)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [lambda loss, y: pinned(loss, target=y), lambda loss, y: tiled(loss, 16)])
def test_a_second_derivative_of_a_pinned_or_tiled_loss_is_refused(make, way, images, with_random_weights):
    x, y, v = images
    loss = make(with_random_weights(parse("L2 + style('vgg16', 'relu1_1')")), y)
    inputs = [] if isinstance(loss, type(pinned(L2(), target=y))) else [y]
    with pytest.raises(RuntimeError, match="has no second derivative"):
        way(lambda image: loss(image, *inputs), x.requires_grad_(), v)


@pytest.mark.parametrize("way", WAYS)
def test_a_second_derivative_after_gradient_norms_is_refused(way, images):
    x, y, v = images

    def total(image):
        inputs = {"pred": image, "target": y}
        return L2().weighted_sum(L2().evaluate_with_gradient_norms(inputs)[0])

    with pytest.raises(RuntimeError, match="has no second derivative"):
        way(total, x.requires_grad_(), v)


@pytest.mark.slow
@pytest.mark.parametrize("way", [whole_hessian, check_by_differences])
def test_a_hessian_is_refused(way, images, with_random_weights):
    loss = with_random_weights(parse("L2 + style('vgg16', 'relu1_1')"))
    x, y, v = images
    with pytest.raises(RuntimeError, match="has no second derivative"):
        way(lambda image: loss(image, y[:1, :, :8, :8]), x, v)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("distance", ["L2", "L1"])
def test_a_second_derivative_through_a_network_of_any_form_is_refused(distance, way, recompute, images):
    pytest.importorskip("torchvision")
    text = f"L2 + {distance} @ Torchvision('resnet18', ['layer1'], weights='random', recompute={recompute})"
    x, y, v = images
    with pytest.raises(RuntimeError, match="has no second derivative"):
        way(lambda image: parse(text)(image, y), x.requires_grad_(), v)


def differences(f, x, v, step=1e-6):
    """Return the Hessian-vector product by central differences of the gradient."""
    ahead, behind = (
        torch.autograd.grad(f(p), p)[0]
        for p in (each.detach().requires_grad_() for each in (x + step * v, x - step * v))
    )
    return (ahead - behind) / (2 * step)


RIGHT = ["L2", "SSIM", "L2 @ Gram", "Contextual", "Charbonnier", "L2 @ Sobel", "TV(squared=True)", "InfoNCE"]


@pytest.mark.parametrize("way", [backward_twice, grad_with_inputs, backward_with_inputs, hessian_vector_product])
@pytest.mark.parametrize("text", RIGHT)
def test_a_second_derivative_of_a_pixel_loss_is_that_of_its_gradient(text, way, images):
    loss = parse(text)
    x, y, v = images

    def f(image):
        return loss(image, *[y] * ("target" in loss.input_names))

    found = way(f, x.requires_grad_(), v)
    assert_close(found, differences(f, x, v), rtol=1e-4, atol=1e-6 * found.abs().max().item())


@pytest.mark.parametrize("epsilon", [None, torch.tensor(0.01, dtype=torch.float64)])
def test_the_normalisation_of_channels_has_all_derivatives(epsilon):
    x = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    head = torch.rand(1, 3, 1, 1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda image: normalize_channels(image, head, epsilon), x)
    assert gradgradcheck(lambda image: normalize_channels(image, head, epsilon), x)


def test_the_normalisation_of_zeros_has_finite_derivatives():
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(normalize_channels(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x)) and torch.equal(second, torch.zeros_like(x))


def test_a_link_keeps_no_memory_and_leads_to_its_tensors():
    x = torch.rand(4, 5, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        link = link_to([x, x.detach(), x + 1])
    assert link.numel() == 0 and not saved and link.untyped_storage().nbytes() == 0
    assert torch.equal(torch.autograd.grad(link.sum(), x)[0], torch.zeros(4, 5))
    with torch.no_grad():
        assert link_to([x]) is None


FUNCTIONAL = [
    "L1",
    "L2 + style('vgg16', 'relu1_1')",
    "distilled_lpips",
    "perceptual('vgg16', 'conv2_1')",
    "contextual('vgg16', 'relu1_1')",
    "SSIM",
    "Contextual",
    "InfoNCE",
    "InfoNCE(learnable=True)",
    "0.5 * L2 @ Gram @ VGG('vgg16', 'pool2')",
    "L1 @ Torchvision('resnet18', ['layer1'], weights='random')",
    "L1 @ Torchvision('resnet18', ['layer1'], weights='random', recompute=True)",
]


@pytest.mark.slow
@pytest.mark.parametrize("text", FUNCTIONAL)
def test_functional_transforms_give_the_gradient_of_autograd(text, images, with_random_weights):
    if "Torchvision" in text:
        pytest.importorskip("torchvision")
    clear_backbones()  # the first pass, which loads the weights, is under the transforms
    x, y, v = images
    loss = with_random_weights(parse(text)).double()

    def f(image):
        return loss(image, y)

    batched = vmap(grad(f))(torch.stack([x, v]))
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(f(leaf), leaf)
    assert_close(grad(f)(x), expected)
    assert_close(batched[0], expected)
    assert_close(jacrev(f)(x), expected)
    assert_close(vmap(f)(torch.stack([x, v])), torch.stack([f(x), f(v)]))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["L2 + style('vgg16', 'relu1_1')", "distilled_lpips", "L2 @ Gram"])
def test_functional_transforms_have_second_derivatives(text, images, with_random_weights):
    loss = with_random_weights(parse(text))
    x, y, v = images

    def f(image):
        return loss(image, y)

    expected = differences(f, x, v, step=1e-7)
    forward_over_reverse = jvp(grad(f), (x,), (v,))[1]
    reverse_over_reverse = grad(lambda image: (grad(f)(image) * v).sum())(x)
    assert_close(forward_over_reverse, expected, rtol=1e-4, atol=1e-8)
    assert_close(reverse_over_reverse, forward_over_reverse, rtol=1e-9, atol=1e-14)


def test_a_functional_hessian_is_that_of_the_loss(with_random_weights):
    loss = with_random_weights(L2() @ Gram() @ VGG("vgg16", "relu1_1"))
    x, y = torch.rand(2, 1, 3, 4, 4, dtype=torch.float64)
    rows = hessian(lambda image: loss(image, y))(x).reshape(48, 48)
    assert_close(rows, rows.T)
    v = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    assert_close(rows @ v.flatten(), differences(lambda image: loss(image, y), x, v).flatten(), rtol=1e-4, atol=1e-8)


def test_a_tiled_loss_refuses_functional_transforms(images, with_random_weights):
    x, y, _ = images
    loss = tiled(with_random_weights(parse("L1 + style('vgg16', 'relu1_1')")), 16)
    with pytest.raises(RuntimeError, match="loss in tiles computes its gradient with its value"):
        grad(lambda image: loss(image, y))(x)


def test_weights_that_were_first_used_in_inference_mode_or_a_transform_serve_later_passes(images):
    x, y, _ = images
    lens = Distilled() @ Embedded(EMBEDDED_LAYERS)
    clear_backbones()
    with torch.inference_mode():
        (L2() @ lens)(x, y)
    x = x.clone().requires_grad_()
    assert torch.autograd.grad((L2() @ lens)(x, y), x)[0].isfinite().all()


def test_a_loss_without_a_gradient_has_no_link(images):
    x, y, _ = images
    assert L1()(x, y).grad_fn is None and Contextual()(x, y).grad_fn is None
