"""Local gradients: one backward pass of the network serves all terms and any weighting."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lossmith import L1, L2, TV, VGG, Distance, Gram, parse, pinned
from lossmith._repr import repr_of

SIDE = 48


def make_inputs(loss, n=2, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    inputs = {name: torch.rand(n, 3, SIDE, SIDE, generator=g, dtype=dtype) for name in sorted(loss.input_names)}
    inputs["pred"].requires_grad_()
    return inputs


@pytest.fixture
def stack(with_random_weights):
    text = (
        "L1 + 0.1 * perceptual('vgg16', ['conv2_2', 'conv3_3']) + 3 * style('vgg16', 'conv3_3') + 2 * lpips('vgg') + TV"
    )
    return with_random_weights(parse(text))


POINTWISE = [
    "lpips('vgg')",
    "L2 @ VGG('vgg16', {'relu1_2': 0.3, 'conv2_1': 1})",
    "SquaredNorm @ VGG('vgg16', ['relu1_1', 'relu2_2'])",
    "Huber @ VGG('vgg16', 'relu1_1')",
]


@pytest.mark.slow
@pytest.mark.parametrize("text", POINTWISE)
def test_chunks_change_neither_value_nor_gradient(text, with_random_weights, monkeypatch):
    loss = with_random_weights(parse(text))
    inputs = make_inputs(loss)
    weights = torch.tensor([0.2, 3.0], dtype=torch.float64)
    actual = []
    for elements in (2**40, 3 * 64 * SIDE, 7 * 64 * SIDE):
        monkeypatch.setattr("lossmith.engine.cpu.chunked.CHUNK_ELEMENTS", elements)
        (value,) = loss.evaluate(inputs).values()
        actual.append((value.detach(), torch.autograd.grad((weights * value).sum(), inputs["pred"])[0]))
    torch.testing.assert_close(actual[1], actual[0], rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(actual[2], actual[0], rtol=1e-9, atol=1e-14)


def test_chunks_support_pinned_inputs(with_random_weights, monkeypatch):
    monkeypatch.setattr("lossmith.engine.cpu.chunked.CHUNK_ELEMENTS", 3 * 64 * SIDE)
    loss = with_random_weights(parse("lpips('vgg')"))
    inputs = make_inputs(loss)
    torch.testing.assert_close(
        pinned(loss, target=inputs["target"])(inputs["pred"]), loss(**inputs), rtol=1e-10, atol=0
    )


def test_chunks_raise_for_images_of_different_sizes(with_random_weights, monkeypatch):
    monkeypatch.setattr("lossmith.engine.cpu.chunked.CHUNK_ELEMENTS", 64)
    loss = with_random_weights(parse("L2 @ VGG('vgg16', 'relu1_1')"))
    with pytest.raises(ValueError, match="the shapes must be equal"):
        loss(torch.rand(1, 3, 32, 32, requires_grad=True), torch.rand(1, 3, 48, 32))


def test_chunks_are_used_only_with_pointwise_lenses(with_random_weights, monkeypatch):
    monkeypatch.setattr("lossmith.engine.cpu.chunked.CHUNK_ELEMENTS", 64)
    for text in ("style('vgg16', 'relu1_1')", "SSIM @ VGG('vgg16', 'relu1_1')", "L2 @ Sobel @ VGG('vgg16', 'relu1_1')"):
        loss = with_random_weights(parse(text))
        monkeypatch.setattr("lossmith.formula.term_evaluation.chunked", None)
        loss(**make_inputs(loss))


def flops(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_flop_counts()["Global"].get(torch.ops.aten.convolution, 0)


@pytest.mark.slow
def test_measuring_gradient_norms_changes_neither_value_nor_gradient(stack):
    inputs = make_inputs(stack)
    expected = torch.autograd.grad(stack(**inputs), inputs["pred"])[0]
    values, _ = stack.evaluate_with_gradient_norms(inputs)
    total = stack.weighted_sum(values)
    torch.testing.assert_close(total, stack(**inputs))
    torch.testing.assert_close(torch.autograd.grad(total, inputs["pred"])[0], expected, rtol=1e-10, atol=0)


@pytest.mark.slow
def test_any_weighting_of_evaluated_terms_has_its_own_gradient(stack):
    inputs = make_inputs(stack)
    values, _ = stack.evaluate_with_gradient_norms(inputs)
    for weights in ([1, 0, 0, 0, 0], [0, 5, 0, 0, 0], [0.3, 2, 1, 0.1, 7]):
        other = stack.reweighted(weights)
        expected = torch.autograd.grad(other(**inputs), inputs["pred"])[0]
        actual = torch.autograd.grad(other.weighted_sum(values), inputs["pred"], retain_graph=True)[0]
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-16)


@pytest.mark.slow
def test_each_image_can_have_its_own_weight(stack):
    inputs = make_inputs(stack)
    values, _ = stack.evaluate_with_gradient_norms(inputs)
    weights = torch.tensor([0.2, 3.0], dtype=torch.float64)
    (actual,) = torch.autograd.grad((values["lpips"] * weights).sum(), inputs["pred"])
    alone = stack.reweighted([0, 0, 0, 1, 0])
    for i in range(2):
        one = {name: tensor[i : i + 1].detach().requires_grad_() for name, tensor in inputs.items()}
        (expected,) = torch.autograd.grad(alone(**one), one["pred"])
        torch.testing.assert_close(actual[i : i + 1], weights[i] * expected, rtol=1e-9, atol=0)


@pytest.mark.slow
def test_gradient_norms_are_those_at_the_features(stack):
    inputs = make_inputs(stack)
    _, norms = stack.evaluate_with_gradient_norms(inputs)
    lens = stack.terms[1].lens
    maps = {p: lens({"pixels": inputs[p].detach()}) for p in ("pred", "target")}
    leaves = [leaf.requires_grad_() for leaf in maps["pred"].values()]
    value = sum((leaf - other).abs().mean() for leaf, other in zip(leaves, maps["target"].values(), strict=True))
    actual = torch.autograd.grad(value, leaves)
    torch.testing.assert_close(norms["perceptual"], torch.cat([g.flatten() for g in actual]).norm())
    (gradient_at_pixels,) = torch.autograd.grad(L1()(inputs["pred"], inputs["target"]), inputs["pred"])
    torch.testing.assert_close(norms["L1"], gradient_at_pixels.norm())


def test_gradient_norms_of_all_terms_cost_no_network_pass(stack):
    inputs = make_inputs(stack, dtype=torch.float32)
    plan = stack.plan(tuple(inputs["pred"].shape))

    def step():
        values, norms = stack.evaluate_with_gradient_norms(inputs)
        assert len(norms) == 5
        stack.weighted_sum(values).backward()

    assert flops(step) == plan.forward_flops + plan.backward_flops


def test_one_backward_pass_replaces_one_per_term():
    """Check three terms on VGG-16: 45.1 instead of 127.1 GFLOP backward at 2 x 192 x 192 pixels."""
    terms = "L1 + perceptual('vgg16', ['conv3_3', 'conv4_3']) + style('vgg16', ['conv3_3', 'conv4_3']) + lpips('vgg')"
    together = parse(terms).plan((2, 3, 192, 192)).backward_flops
    separate = sum(parse(one).plan((2, 3, 192, 192)).backward_flops for one in terms.split(" + "))
    assert (round(together / 1e9, 1), round(separate / 1e9, 1)) == (45.1, 127.1)


@pytest.mark.slow
def test_gradients_at_the_image_sum_to_that_of_the_loss(stack):
    inputs = make_inputs(stack)
    (expected,) = torch.autograd.grad(stack(**inputs), inputs["pred"])
    each = stack.gradients(inputs)
    assert tuple(each) == stack.names
    total = sum(w.value_at() * g for w, g in zip(stack.weights, each.values(), strict=True))
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=0)


@pytest.mark.slow
def test_gradients_do_not_modify_the_inputs(stack):
    inputs = make_inputs(stack)
    inputs["pred"].requires_grad_(False)
    stack.gradients(inputs)
    assert not inputs["pred"].requires_grad
    assert inputs["pred"].grad is None


def test_a_term_that_does_not_read_an_input_has_no_gradient_there():
    loss = parse("L1 + L2.on(pred='other')")
    actual = loss.gradients({name: torch.rand(1, 3, 8, 8) for name in ("pred", "target", "other")}, at="other")
    assert actual["L1"].eq(0).all() and actual["L2"].ne(0).any()


def test_an_unknown_input_for_gradients_raises():
    with pytest.raises(ValueError, match="There is no input 'prod' to differentiate with respect to; got pred, target"):
        L1().gradients(dict.fromkeys(("pred", "target"), torch.rand(1, 3, 8, 8)), at="prod")


class Spread(Distance):
    """A negative mean distance within the batch: each value depends on all images."""

    is_batch_dependent = True

    def measure(self, pred):
        return -(pred[:, None] - pred[None]).flatten(2).square().mean(dim=(1, 2))

    def __repr__(self):
        return repr_of(self)


class Scaled(Distance):
    """A distance with a trainable parameter."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def measure(self, pred, target):
        return (self.scale * pred - target).square().flatten(1).mean(dim=1)

    def __repr__(self):
        return repr_of(self)


@pytest.mark.slow
@pytest.mark.parametrize("distance", [Spread(), Scaled()], ids=repr)
def test_batch_dependent_and_trainable_distances_keep_their_graph(distance):
    loss = distance @ VGG("vgg16", "relu2_1", weights="random")
    inputs = make_inputs(L1())
    weights = torch.tensor([0.2, 3.0], dtype=torch.float64)
    inner = VGG("vgg16", "relu2_1", weights="random")
    maps = {p: inner({"pixels": tensor})["relu2_1"] for p, tensor in inputs.items()}
    values = distance.measure(*([maps["pred"]] if isinstance(distance, Spread) else maps.values()))
    leaves = [inputs["pred"], *distance.parameters()]
    expected = torch.autograd.grad((weights * values).sum(), leaves)
    for actual in (loss.evaluate(inputs), loss.evaluate_with_gradient_norms(inputs)[0]):
        (value,) = actual.values()
        torch.testing.assert_close(torch.autograd.grad((weights * value).sum(), leaves), expected, rtol=1e-9, atol=0)


def test_the_gradient_norm_of_a_batch_dependent_distance_is_that_of_the_mean():
    inputs = make_inputs(L1())
    loss = Spread()
    _, norms = loss.evaluate_with_gradient_norms({"pred": inputs["pred"]})
    (expected,) = torch.autograd.grad(loss.measure(inputs["pred"]).mean(), inputs["pred"])
    torch.testing.assert_close(norms["Spread"], expected.norm())


def test_a_second_derivative_raises_an_explanation():
    inputs = make_inputs(L1())
    value = (L2() @ Gram() @ VGG("vgg16", "relu1_1", weights="random"))(**inputs)
    (g,) = torch.autograd.grad(value, inputs["pred"], create_graph=True)
    with pytest.raises(RuntimeError, match="has no second derivative"):
        g.sum().backward()


def test_pixel_terms_have_second_derivatives():
    inputs = make_inputs(L1())
    (g,) = torch.autograd.grad((L2() + TV(squared=True) + L1())(**inputs), inputs["pred"], create_graph=True)
    g.square().sum().backward()
    assert inputs["pred"].grad.abs().sum() > 0


def test_a_term_of_weight_zero_is_not_evaluated(with_random_weights, monkeypatch):
    loss = with_random_weights(parse("L1 + 0 * lpips('vgg')"))
    monkeypatch.setattr("lossmith.lenses.sequential_network.SequentialNetwork.__call__", None)
    inputs = make_inputs(loss)
    assert torch.equal(loss(**inputs), L1()(**inputs))


def test_a_nan_in_a_term_of_weight_zero_has_no_effect():
    inputs = make_inputs(L1())
    values = {"L1": L1()(**inputs)[None], "TV": torch.tensor([torch.nan])}
    assert parse("L1 + 0 * TV").weighted_sum(values).isfinite()


def test_a_sum_without_weighted_terms_is_a_differentiable_zero():
    inputs = make_inputs(L1())
    value = (0 * L1())(**inputs)
    value.backward()
    assert value == 0 and inputs["pred"].grad.eq(0).all()


def test_the_gradient_of_l1_is_nan_for_images_with_a_nan_value():
    inputs = make_inputs(L1())
    with torch.no_grad():
        inputs["pred"][1, 0, 0, 0] = torch.nan
    L1()(**inputs).backward()
    assert inputs["pred"].grad[0].isfinite().all() and inputs["pred"].grad[1].isnan().all()
