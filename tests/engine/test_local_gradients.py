"""Every term's gradient is found where it meets its network; one pass backward serves any weighting."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lossmith import L1, L2, TV, VGG, Distance, Gram, parse, pinned
from lossmith._repr import repr_of

SIDE = 48


def views_of(loss, n=2, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    views = {name: torch.rand(n, 3, SIDE, SIDE, generator=g, dtype=dtype) for name in sorted(loss.input_names)}
    views["pred"].requires_grad_()
    return views


@pytest.fixture
def stack(with_random_weights):
    text = (
        "L1 + 0.1 * perceptual('vgg16', ['conv2_2', 'conv3_3']) + 3 * style('vgg16', 'conv3_3') + 2 * lpips('vgg') + TV"
    )
    return with_random_weights(parse(text))


BY_PLACE = [
    "lpips('vgg')",
    "L2 @ VGG('vgg16', {'relu1_2': 0.3, 'conv2_1': 1})",
    "SquaredNorm @ VGG('vgg16', ['relu1_1', 'relu2_2'])",
    "Huber @ VGG('vgg16', 'relu1_1')",
]


@pytest.mark.parametrize("text", BY_PLACE)
def test_bands_change_neither_value_nor_gradient(text, with_random_weights, monkeypatch):
    loss = with_random_weights(parse(text))
    views = views_of(loss)
    weights = torch.tensor([0.2, 3.0], dtype=torch.float64)
    found = []
    for reach in (2**40, 3 * 64 * SIDE, 7 * 64 * SIDE):
        monkeypatch.setattr("lossmith.engine.cpu.chunked.REACH", reach)
        (value,) = loss.evaluate(views).values()
        found.append((value.detach(), torch.autograd.grad((weights * value).sum(), views["pred"])[0]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(found[2], found[0], rtol=1e-9, atol=1e-14)


def test_bands_take_what_is_pinned(with_random_weights, monkeypatch):
    monkeypatch.setattr("lossmith.engine.cpu.chunked.REACH", 3 * 64 * SIDE)
    loss = with_random_weights(parse("lpips('vgg')"))
    views = views_of(loss)
    torch.testing.assert_close(pinned(loss, target=views["target"])(views["pred"]), loss(**views), rtol=1e-10, atol=0)


def test_bands_refuse_pictures_of_different_sizes(with_random_weights, monkeypatch):
    monkeypatch.setattr("lossmith.engine.cpu.chunked.REACH", 64)
    loss = with_random_weights(parse("L2 @ VGG('vgg16', 'relu1_1')"))
    with pytest.raises(ValueError, match="the shapes must be equal"):
        loss(torch.rand(1, 3, 32, 32, requires_grad=True), torch.rand(1, 3, 48, 32))


def test_bands_need_a_lens_that_looks_at_one_place(with_random_weights, monkeypatch):
    monkeypatch.setattr("lossmith.engine.cpu.chunked.REACH", 64)
    for text in ("style('vgg16', 'relu1_1')", "SSIM @ VGG('vgg16', 'relu1_1')", "L2 @ Sobel @ VGG('vgg16', 'relu1_1')"):
        loss = with_random_weights(parse(text))
        monkeypatch.setattr("lossmith.formula.term.chunked", None)
        loss(**views_of(loss))


def flops(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_flop_counts()["Global"].get(torch.ops.aten.convolution, 0)


def test_watching_changes_neither_value_nor_gradient(stack):
    views = views_of(stack)
    wanted = torch.autograd.grad(stack(**views), views["pred"])[0]
    values, _ = stack.evaluate_with_gradient_norms(views)
    total = stack.weighted_sum(values)
    torch.testing.assert_close(total, stack(**views))
    torch.testing.assert_close(torch.autograd.grad(total, views["pred"])[0], wanted, rtol=1e-10, atol=0)


def test_any_weighting_of_watched_terms_has_its_own_gradient(stack):
    views = views_of(stack)
    values, _ = stack.evaluate_with_gradient_norms(views)
    for weights in ([1, 0, 0, 0, 0], [0, 5, 0, 0, 0], [0.3, 2, 1, 0.1, 7]):
        other = stack.reweighted(weights)
        wanted = torch.autograd.grad(other(**views), views["pred"])[0]
        found = torch.autograd.grad(other.weighted_sum(values), views["pred"], retain_graph=True)[0]
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-16)


def test_each_image_may_have_its_own_weight(stack):
    views = views_of(stack)
    values, _ = stack.evaluate_with_gradient_norms(views)
    weights = torch.tensor([0.2, 3.0], dtype=torch.float64)
    (found,) = torch.autograd.grad((values["lpips"] * weights).sum(), views["pred"])
    alone = stack.reweighted([0, 0, 0, 1, 0])
    for i in range(2):
        one = {name: view[i : i + 1].detach().requires_grad_() for name, view in views.items()}
        (wanted,) = torch.autograd.grad(alone(**one), one["pred"])
        torch.testing.assert_close(found[i : i + 1], weights[i] * wanted, rtol=1e-9, atol=0)


def test_the_norms_are_those_of_the_gradients_at_the_features(stack):
    views = views_of(stack)
    _, norms = stack.evaluate_with_gradient_norms(views)
    lens = stack.terms[1].lens
    maps = {p: lens({"pixels": views[p].detach()}) for p in ("pred", "target")}
    leaves = [leaf.requires_grad_() for leaf in maps["pred"].values()]
    value = sum((leaf - other).abs().mean() for leaf, other in zip(leaves, maps["target"].values(), strict=True))
    found = torch.autograd.grad(value, leaves)
    torch.testing.assert_close(norms["perceptual"], torch.cat([g.flatten() for g in found]).norm())
    (at_pixels,) = torch.autograd.grad(L1()(views["pred"], views["target"]), views["pred"])
    torch.testing.assert_close(norms["L1"], at_pixels.norm())


def test_the_norms_of_all_terms_cost_no_pass_of_the_network(stack):
    views = views_of(stack, dtype=torch.float32)
    plan = stack.plan(tuple(views["pred"].shape))

    def step():
        values, norms = stack.evaluate_with_gradient_norms(views)
        assert len(norms) == 5
        stack.weighted_sum(values).backward()

    assert flops(step) == plan.forward_flops + plan.backward_flops


def test_one_backward_pass_a_term_is_what_it_would_cost_otherwise():
    """The case of three terms on VGG-16: 45.1 instead of 127.1 GFLOP backward at 2 x 192 x 192 pixels."""
    terms = "L1 + perceptual('vgg16', ['conv3_3', 'conv4_3']) + style('vgg16', ['conv3_3', 'conv4_3']) + lpips('vgg')"
    together = parse(terms).plan((2, 3, 192, 192)).backward_flops
    apart = sum(parse(one).plan((2, 3, 192, 192)).backward_flops for one in terms.split(" + "))
    assert (round(together / 1e9, 1), round(apart / 1e9, 1)) == (45.1, 127.1)


def test_gradients_at_the_picture_add_up_to_that_of_the_loss(stack):
    views = views_of(stack)
    (wanted,) = torch.autograd.grad(stack(**views), views["pred"])
    each = stack.gradients(views)
    assert tuple(each) == stack.names
    total = sum(w.value_at() * g for w, g in zip(stack.weights, each.values(), strict=True))
    torch.testing.assert_close(total, wanted, rtol=1e-9, atol=0)


def test_gradients_leave_the_views_alone(stack):
    views = views_of(stack)
    views["pred"].requires_grad_(False)
    stack.gradients(views)
    assert not views["pred"].requires_grad
    assert views["pred"].grad is None


def test_a_term_that_does_not_read_a_view_has_no_gradient_there():
    loss = parse("L1 + L2.on(pred='other')")
    found = loss.gradients({name: torch.rand(1, 3, 8, 8) for name in ("pred", "target", "other")}, at="other")
    assert found["L1"].eq(0).all() and found["L2"].ne(0).any()


def test_an_unknown_place_for_gradients_is_refused():
    with pytest.raises(ValueError, match="There is no input 'prod' to differentiate with respect to; got pred, target"):
        L1().gradients(dict.fromkeys(("pred", "target"), torch.rand(1, 3, 8, 8)), at="prod")


class Spread(Distance):
    """Far apart within the batch: the value of an image depends on all of them."""

    is_batch_dependent = True

    def measure(self, pred):
        return -(pred[:, None] - pred[None]).flatten(2).square().mean(dim=(1, 2))

    def __repr__(self):
        return repr_of(self)


class Scaled(Distance):
    """A loss with a parameter that trains."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def measure(self, pred, target):
        return (self.scale * pred - target).square().flatten(1).mean(dim=1)

    def __repr__(self):
        return repr_of(self)


@pytest.mark.parametrize("distance", [Spread(), Scaled()], ids=repr)
def test_what_mixes_or_trains_keeps_the_graph_that_it_needs(distance):
    loss = distance @ VGG("vgg16", "relu2_1", weights="random")
    views = views_of(L1())
    weights = torch.tensor([0.2, 3.0], dtype=torch.float64)
    inner = VGG("vgg16", "relu2_1", weights="random")
    maps = {p: inner({"pixels": view})["relu2_1"] for p, view in views.items()}
    values = distance.measure(*([maps["pred"]] if isinstance(distance, Spread) else maps.values()))
    inputs = [views["pred"], *distance.parameters()]
    wanted = torch.autograd.grad((weights * values).sum(), inputs)
    for found in (loss.evaluate(views), loss.evaluate_with_gradient_norms(views)[0]):
        (value,) = found.values()
        torch.testing.assert_close(torch.autograd.grad((weights * value).sum(), inputs), wanted, rtol=1e-9, atol=0)


def test_the_norm_of_what_mixes_is_that_of_the_mean():
    views = views_of(L1())
    loss = Spread()
    _, norms = loss.evaluate_with_gradient_norms({"pred": views["pred"]})
    (wanted,) = torch.autograd.grad(loss.measure(views["pred"]).mean(), views["pred"])
    torch.testing.assert_close(norms["Spread"], wanted.norm())


def test_a_second_derivative_is_refused_in_words():
    views = views_of(L1())
    value = (L2() @ Gram() @ VGG("vgg16", "relu1_1", weights="random"))(**views)
    (g,) = torch.autograd.grad(value, views["pred"], create_graph=True)
    with pytest.raises(RuntimeError, match="gives no second derivative"):
        g.sum().backward()


def test_pixel_terms_have_second_derivatives():
    views = views_of(L1())
    (g,) = torch.autograd.grad((L2() + TV(squared=True) + L1())(**views), views["pred"], create_graph=True)
    g.square().sum().backward()
    assert views["pred"].grad.abs().sum() > 0


def test_a_term_of_weight_nothing_is_not_run(with_random_weights, monkeypatch):
    loss = with_random_weights(parse("L1 + 0 * lpips('vgg')"))
    monkeypatch.setattr("lossmith.lenses.sequential_network.Sequential.__call__", None)
    views = views_of(loss)
    assert torch.equal(loss(**views), L1()(**views))


def test_a_term_of_weight_nothing_spoils_nothing():
    views = views_of(L1())
    values = {"L1": L1()(**views)[None], "TV": torch.tensor([torch.nan])}
    assert parse("L1 + 0 * TV").weighted_sum(values).isfinite()


def test_a_sum_of_nothing_is_a_zero_that_can_be_differentiated():
    views = views_of(L1())
    value = (0 * L1())(**views)
    value.backward()
    assert value == 0 and views["pred"].grad.eq(0).all()


def test_the_gradient_of_l1_is_no_number_where_its_value_is_none():
    views = views_of(L1())
    with torch.no_grad():
        views["pred"][1, 0, 0, 0] = torch.nan
    L1()(**views).backward()
    assert views["pred"].grad[0].isfinite().all() and views["pred"].grad[1].isnan().all()
