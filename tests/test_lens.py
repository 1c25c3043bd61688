"""Lenses chain, and a network runs once for each view whatever the number of terms."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lossmith import (
    L1,
    L2,
    TV,
    VGG,
    Chain,
    Charbonnier,
    Gram,
    Lens,
    esrgan,
    lpips,
    parse,
    perceptual,
    real_esrgan,
    style,
)
from lossmith.engine.feature_cache import build_lens_path, collect_required_layers
from lossmith.lens import get_backbone
from lossmith.lenses.sequential_network import SequentialNetwork
from lossmith.lenses.vgg import VGGNetwork


def vgg(*layers: str) -> VGG:
    return VGG("vgg16", list(layers), weights="random")


@pytest.fixture
def passes(monkeypatch):
    """Counts the passes of every network, and remembers their layers and whether they had a graph."""
    seen = []
    run = SequentialNetwork.__call__

    def counted(self, image, layers):
        seen.append((self.name, tuple(layers), image.requires_grad))
        return run(self, image, layers)

    monkeypatch.setattr(SequentialNetwork, "__call__", counted)
    return seen


def test_five_terms_on_one_network_cost_two_passes(passes, image_pair):
    pred, target = image_pair()
    loss = L1() @ vgg("conv1_2", "conv3_3") + L2() @ vgg("relu2_2") + L2() @ Gram() @ vgg("relu1_2", "relu3_3")
    loss = loss + style("vgg16", "relu2_2", "hw", weights="random") + lpips("vgg", weights="random") + L1() + TV()
    loss(pred.requires_grad_(), target)
    assert [(name, graph) for name, _, graph in passes] == [("vgg16", True), ("vgg16", False)]
    wanted = {"conv1_2", "relu1_2", "relu2_2", "conv3_3", "relu3_3", "relu4_3", "relu5_3"}
    assert all(set(layers) == wanted for _, layers, _ in passes)


def test_a_shared_pass_gives_the_values_of_separate_passes(image_pair):
    pred, target = image_pair()
    parts = [perceptual("vgg16", weights="random"), style("vgg16", weights="random"), lpips("vgg", weights="random")]
    torch.testing.assert_close(sum(parts)(pred, target), sum(part(pred, target) for part in parts))


def test_each_network_and_each_view_has_its_own_pass(passes, image_pair):
    pred, target = image_pair()
    loss = perceptual("vgg16", "relu1_1", weights="random") + perceptual("vgg19", "relu1_1", weights="random")
    loss = loss + style("vgg16", "relu1_1", weights="random").on(target="art")
    loss(pred, target, art=target.flip(3))
    assert Counter(name for name, *_ in passes) == {"vgg16": 3, "vgg19": 2}


def test_the_same_network_with_other_weights_is_another(passes, weight_file, image_pair):
    other = str(weight_file(get_backbone(VGGNetwork, "vgg16", None)))
    loss = perceptual("vgg16", "relu1_1", weights="random") + perceptual("vgg16", "relu1_1", weights=other)
    loss(*image_pair())
    assert len(passes) == 4


def test_a_lens_before_the_network_keeps_its_pass_apart(passes, image_pair):
    class Halved(Lens):
        def forward(self, maps):
            return {name: torch.nn.functional.avg_pool2d(shown, 2) for name, shown in maps.items()}

        def __repr__(self):
            return "Halved()"

    loss = (
        L1() @ vgg("relu1_1")
        + L1() @ vgg("relu2_1")
        + L1() @ vgg("relu1_1") @ Halved()
        + L2() @ vgg("relu1_2") @ Halved()
    )
    loss(*image_pair())
    assert [set(layers) for _, layers, _ in passes] == [{"relu1_1", "relu2_1"}] * 2 + [{"relu1_1", "relu1_2"}] * 2


class Convolutions(TorchDispatchMode):
    """Counts the convolutions that run."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def test_a_network_runs_no_deeper_than_its_deepest_layer(image_pair):
    pred, target = image_pair()
    with Convolutions() as ran:
        (L1() @ vgg("relu2_1", "conv1_2"))(pred, target)
    assert ran.count == 2 * 3


def test_a_lens_after_a_network_is_looked_through_once(image_pair):
    calls = []

    class Counted(Lens):
        def forward(self, maps):
            calls.append(1)
            return maps

        def __repr__(self):
            return "Counted()"

    (L1() @ Counted() @ vgg("relu1_1") + L2() @ Counted() @ vgg("relu1_1"))(*image_pair())
    assert len(calls) == 2


def test_nothing_is_kept_from_one_call_to_the_next(passes, image_pair):
    pred, target = image_pair()
    loss = perceptual("vgg16", "relu1_1", weights="random")
    first = loss(pred, target)
    pred.mul_(0.5)
    assert loss(pred, target) != first
    assert len(passes) == 4


def test_lenses_chain_the_outermost_first():
    chain = Gram() @ vgg("relu1_1")
    assert isinstance(chain, Chain)
    assert [type(stage) for stage in chain.stages] == [VGG, Gram]
    assert repr(chain) == 'Gram() @ VGG("vgg16", "relu1_1", weights="random")'


def test_chaining_is_associative():
    one, two = (Gram() @ Gram("hw")) @ vgg("relu1_1"), Gram() @ (Gram("hw") @ vgg("relu1_1"))
    assert repr(one) == repr(two)
    assert len(one.stages) == len(two.stages) == 3


def test_a_chain_shows_what_its_stages_show_in_turn():
    x = {"pixels": torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))}
    assert torch.equal((Gram() @ vgg("relu1_1"))(x)["relu1_1"], Gram()(vgg("relu1_1")(x))["relu1_1"])


def test_what_is_no_lens_does_not_chain():
    with pytest.raises(TypeError):
        Gram() @ 3


def test_a_network_takes_one_picture_and_no_features(image_pair):
    with pytest.raises(ValueError, match="takes one image; got the maps relu1_1, relu1_2"):
        (L1() @ vgg("relu1_1") @ vgg("relu1_1", "relu1_2"))(*image_pair())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "layers of vgg16 must not be empty"),
        ("relu9_9", "vgg16 has no layer 'relu9_9'"),
        ({"relu1_1": -1}, "weight of vgg16 layer 'relu1_1' must be positive; got -1"),
        ({"relu1_1": float("nan")}, "weight of vgg16 layer 'relu1_1' must be a finite number positive; got nan"),
        ({"relu1_1": True}, "weight of vgg16 layer 'relu1_1' must be a finite number positive; got True"),
    ],
)
def test_a_wrong_layer_is_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        VGG("vgg16", layers, weights="random")


def test_layers_are_spelled_in_the_shortest_form_that_says_the_same():
    assert repr(VGG("vgg16", ["relu2_2"])) == 'VGG("vgg16", "relu2_2")'
    assert repr(VGG("vgg16", {"relu2_2": 1.0, "conv1_1": 1})) == 'VGG("vgg16", ["conv1_1", "relu2_2"])'
    assert repr(VGG("vgg16", {"relu2_2": 2})) == 'VGG("vgg16", {"relu2_2": 2.0})'


def test_the_union_of_layers_is_in_the_order_of_the_network():
    paths = [build_lens_path(vgg("relu3_1", "conv1_1")), build_lens_path(Gram() @ vgg("relu2_1"))]
    wanted = collect_required_layers(("pred", path) for path in paths)
    assert list(wanted.values()) == [("conv1_1", "relu2_1", "relu3_1")]


def test_no_gradient_is_kept_for_the_target(image_pair):
    pred, target = image_pair()
    loss = Charbonnier() @ vgg("relu1_1")
    values = loss.evaluate({"pred": pred, "target": target.requires_grad_()})
    assert not any(value.requires_grad for value in values.values())


def test_presets_share_their_network(passes, with_random_weights, image_pair):
    with_random_weights(esrgan() + real_esrgan())(*image_pair())
    assert len(passes) == 2


def test_a_parsed_loss_shares_networks_with_a_written_one():
    text = 'L1 @ VGG("vgg16", "relu1_1", weights="random")'
    (written,) = (L1() @ vgg("relu2_1")).networks.values()
    (read,) = parse(text).networks.values()
    assert read is written
