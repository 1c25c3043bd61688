"""Lenses: chains, weights, and one network pass per input for any number of terms."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lossmith import L1, L2, TV, VGG, Backbone, Charbonnier, Features, Gram, Lens, lpips, parse, perceptual, style
from lossmith.backbone import get_backbone
from lossmith.engine.feature_cache import build_lens_path, collect_required_layers
from lossmith.lens import Chain
from lossmith.lenses import CLIP, AlexNet, Calibrated, Embedded, Sobel, SqueezeNet, Timm, Torchvision
from lossmith.lenses.dists import PooledVGG
from lossmith.lenses.sequential_network import SequentialNetwork
from lossmith.lenses.vgg import VGGNetwork
from lossmith.losses import esrgan, real_esrgan


def vgg(*layers: str) -> VGG:
    return VGG("vgg16", list(layers), weights="random")


@pytest.fixture
def network_passes(monkeypatch):
    """Record the name, the layers and the existence of a graph for each network pass."""
    calls = []
    run = SequentialNetwork.__call__

    def counted(self, image, layers):
        calls.append((self.name, tuple(layers), image.requires_grad))
        return run(self, image, layers)

    monkeypatch.setattr(SequentialNetwork, "__call__", counted)
    return calls


def test_all_terms_on_one_network_need_two_passes(network_passes, image_pair):
    pred, target = image_pair()
    loss = L1() @ vgg("conv1_2", "conv3_3") + L2() @ vgg("relu2_2") + L2() @ Gram() @ vgg("relu1_2", "relu3_3")
    loss = loss + style("vgg16", "relu2_2", "hw", weights="random") + lpips("vgg", weights="random") + L1() + TV()
    loss(pred.requires_grad_(), target)
    assert [(name, has_graph) for name, _, has_graph in network_passes] == [("vgg16", True), ("vgg16", False)]
    expected = {"conv1_2", "relu1_2", "relu2_2", "conv3_3", "relu3_3", "relu4_3", "relu5_3"}
    assert all(set(layers) == expected for _, layers, _ in network_passes)


def test_a_shared_pass_gives_the_values_of_separate_passes(image_pair):
    pred, target = image_pair()
    parts = [perceptual("vgg16", weights="random"), style("vgg16", weights="random"), lpips("vgg", weights="random")]
    torch.testing.assert_close(sum(parts)(pred, target), sum(part(pred, target) for part in parts))


def test_each_network_and_each_input_has_its_own_pass(network_passes, image_pair):
    pred, target = image_pair()
    loss = perceptual("vgg16", "relu1_1", weights="random") + perceptual("vgg19", "relu1_1", weights="random")
    loss = loss + style("vgg16", "relu1_1", weights="random").on(target="art")
    loss(pred, target, art=target.flip(3))
    assert Counter(name for name, *_ in network_passes) == {"vgg16": 3, "vgg19": 2}


def test_a_network_with_other_weights_has_its_own_pass(network_passes, weight_file, image_pair):
    other = str(weight_file(get_backbone(VGGNetwork, "vgg16", None)))
    loss = perceptual("vgg16", "relu1_1", weights="random") + perceptual("vgg16", "relu1_1", weights=other)
    loss(*image_pair())
    assert len(network_passes) == 4


def test_a_network_behind_another_lens_has_its_own_pass(network_passes, image_pair):
    class HalfSize(Lens):
        def forward(self, maps):
            return {name: torch.nn.functional.avg_pool2d(features, 2) for name, features in maps.items()}

        def __repr__(self):
            return "HalfSize()"

    loss = (
        L1() @ vgg("relu1_1")
        + L1() @ vgg("relu2_1")
        + L1() @ vgg("relu1_1") @ HalfSize()
        + L2() @ vgg("relu1_2") @ HalfSize()
    )
    loss(*image_pair())
    assert [set(layers) for _, layers, _ in network_passes] == [{"relu1_1", "relu2_1"}] * 2 + [
        {"relu1_1", "relu1_2"}
    ] * 2


class ConvolutionCounter(TorchDispatchMode):
    """A mode that counts convolutions."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def test_a_network_runs_no_deeper_than_its_deepest_layer(image_pair):
    pred, target = image_pair()
    with ConvolutionCounter() as counter:
        (L1() @ vgg("relu2_1", "conv1_2"))(pred, target)
    assert counter.count == 2 * 3


def test_a_lens_after_a_network_is_applied_once_per_input(image_pair):
    calls = []

    class CountingLens(Lens):
        def forward(self, maps):
            calls.append(1)
            return maps

        def __repr__(self):
            return "CountingLens()"

    (L1() @ CountingLens() @ vgg("relu1_1") + L2() @ CountingLens() @ vgg("relu1_1"))(*image_pair())
    assert len(calls) == 2


def test_nothing_is_cached_between_calls(network_passes, image_pair):
    pred, target = image_pair()
    loss = perceptual("vgg16", "relu1_1", weights="random")
    first = loss(pred, target)
    pred.mul_(0.5)
    assert loss(pred, target) != first
    assert len(network_passes) == 4


def test_a_chain_lists_the_outermost_lens_first():
    chain = Gram() @ vgg("relu1_1")
    assert isinstance(chain, Chain)
    assert [type(stage) for stage in chain.stages] == [VGG, Gram]
    assert repr(chain) == 'Gram() @ VGG("vgg16", "relu1_1", weights="random")'


def test_chaining_is_associative():
    one, two = (Gram() @ Gram("hw")) @ vgg("relu1_1"), Gram() @ (Gram("hw") @ vgg("relu1_1"))
    assert repr(one) == repr(two)
    assert len(one.stages) == len(two.stages) == 3


def test_a_chain_applies_its_stages_in_order():
    x = {"pixels": torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))}
    assert torch.equal((Gram() @ vgg("relu1_1"))(x)["relu1_1"], Gram()(vgg("relu1_1")(x))["relu1_1"])


def test_chaining_with_another_object_raises():
    with pytest.raises(TypeError):
        Gram() @ 3


def test_a_network_on_features_raises(image_pair):
    with pytest.raises(ValueError, match="takes one image; got the maps relu1_1, relu1_2"):
        (L1() @ vgg("relu1_1") @ vgg("relu1_1", "relu1_2"))(*image_pair())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "layers of vgg16 must not be empty"),
        ("relu9_9", "vgg16 has no layer 'relu9_9'"),
        ({"relu1_1": -1}, "weight of vgg16 layer 'relu1_1' must be positive; got -1"),
        ({"relu1_1": float("nan")}, "weight of vgg16 layer 'relu1_1' must be a positive finite number; got nan"),
        ({"relu1_1": True}, "weight of vgg16 layer 'relu1_1' must be a positive finite number; got True"),
    ],
)
def test_a_wrong_layer_raises(layers, message):
    with pytest.raises(ValueError, match=message):
        VGG("vgg16", layers, weights="random")


def test_the_repr_has_the_layers_in_their_shortest_form():
    assert repr(VGG("vgg16", ["relu2_2"])) == 'VGG("vgg16", "relu2_2")'
    assert repr(VGG("vgg16", {"relu2_2": 1.0, "conv1_1": 1})) == 'VGG("vgg16", ["conv1_1", "relu2_2"])'
    assert repr(VGG("vgg16", {"relu2_2": 2})) == 'VGG("vgg16", {"relu2_2": 2.0})'


def test_the_union_of_layers_is_in_the_order_of_the_network():
    paths = [build_lens_path(vgg("relu3_1", "conv1_1")), build_lens_path(Gram() @ vgg("relu2_1"))]
    expected = collect_required_layers(("pred", path) for path in paths)
    assert list(expected.values()) == [("conv1_1", "relu2_1", "relu3_1")]


def test_the_target_gets_no_gradient(image_pair):
    pred, target = image_pair()
    loss = Charbonnier() @ vgg("relu1_1")
    values = loss.evaluate({"pred": pred, "target": target.requires_grad_()})
    assert not any(value.requires_grad for value in values.values())


def test_presets_share_their_network(network_passes, with_random_weights, image_pair):
    with_random_weights(esrgan() + real_esrgan())(*image_pair())
    assert len(network_passes) == 2


def test_a_parsed_loss_shares_networks_with_one_from_python():
    text = 'L1 @ VGG("vgg16", "relu1_1", weights="random")'
    (from_python,) = (L1() @ vgg("relu2_1")).networks.values()
    (from_text,) = parse(text).networks.values()
    assert from_text is from_python


OTHER_WEIGHTS = [
    (vgg("relu1_1"), None, 'VGG("vgg16", "relu1_1")'),
    (VGG("vgg19", {"relu1_1": 2.0}), "random", 'VGG("vgg19", {"relu1_1": 2.0}, weights="random")'),
    (AlexNet("relu1"), "random", 'AlexNet("relu1", weights="random")'),
    (SqueezeNet("relu1"), "random", 'SqueezeNet("relu1", weights="random")'),
    (PooledVGG("relu1_2"), "random", 'PooledVGG("relu1_2", weights="random")'),
    (Embedded("relu1_1"), "random", 'Embedded("relu1_1", weights="random")'),
    (Embedded("relu1_1"), "/a/file", 'Embedded("relu1_1", weights="/a/file")'),
    (Gram(), "random", "Gram()"),
    (Calibrated("vgg"), "random", 'Calibrated("vgg")'),
    (Gram() @ VGG("vgg16", "relu1_1"), "random", 'Gram() @ VGG("vgg16", "relu1_1", weights="random")'),
    (Gram() @ Sobel() @ Gram("hw"), "random", 'Gram() @ Sobel() @ Gram("hw")'),
]


@pytest.mark.parametrize(("lens", "weights", "text"), OTHER_WEIGHTS, ids=[text for *_, text in OTHER_WEIGHTS])
def test_a_lens_with_other_weights_has_the_text_of_these_weights(lens, weights, text):
    before = repr(lens)
    assert repr(lens.with_weights(weights)) == text
    assert repr(lens) == before


def test_a_lens_with_other_weights_is_on_the_shared_network_of_these_weights(image_pair):
    x = {"pixels": image_pair()[0]}
    lens = VGG("vgg16", "relu2_1").with_weights("random")
    assert lens.backbone is vgg("relu1_1").backbone
    assert torch.equal(lens(x)["relu2_1"], vgg("relu2_1")(x)["relu2_1"])


@pytest.mark.parametrize("recompute", [False, True])
def test_other_weights_keep_the_options_of_networks_from_libraries(recompute):
    pytest.importorskip("timm")
    pytest.importorskip("torchvision")
    pytest.importorskip("transformers")
    suffix = ', weights="random"' + (", recompute=True" if recompute else "")
    for lens, text in (
        (Timm("test_resnet", "layer1", recompute=recompute), 'Timm("test_resnet.r160_in1k", "layer1"'),
        (Torchvision("resnet18", "layer1", recompute=recompute), 'Torchvision("resnet18", "layer1"'),
        (CLIP("tiny", recompute=recompute), 'CLIP("tiny"'),
    ):
        assert repr(lens.with_weights("random")) == f"{text}{suffix})"


def test_a_loss_with_random_network_weights_keeps_all_but_these_weights():
    loss = parse("L1 + 0.1 * lpips('vgg').on(target='other') + OnFrom(3) * L2 @ Gram @ AlexNet('relu1')")
    text = repr(loss.with_network_weights("random"))
    assert text == repr(loss).replace('"relu5_3"]', '"relu5_3"], weights="random"').replace(
        '"relu1")', '"relu1", weights="random")'
    )


def test_a_backbone_without_a_choice_of_weights_raises():
    class FixedBackbone(Backbone):
        name, weights, layers, sha256 = "fixed", None, ("only",), ""

        def __call__(self, image, layers):
            return {"only": image}

        def min_size(self, layers):
            return 1

        def flops(self, height, width, layers):
            return 0.0

        def find_weights(self):
            raise NotImplementedError

    class Fixed(Features):
        def __repr__(self):
            return "Fixed()"

    with pytest.raises(NotImplementedError, match="fixed cannot take other weights: FixedBackbone does not define"):
        Fixed(FixedBackbone(), "only").with_weights("random")
