"""Networks of any form: torchvision's and timm's, with layers by submodule names."""

import copy
import pickle
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lossmith import L1, L2, Gram, MissingWeightsError, WrongWeightsError, parse
from lossmith.backbone import clear_backbones
from lossmith.engine.feature_extractor import inspect_layers
from lossmith.lenses import Timm, Torchvision, _libraries, by_name

models = pytest.importorskip("torchvision.models")
timm = pytest.importorskip("timm")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def init_weights(model):
    """Return the frozen model with weights that keep the scale of features."""
    torch.manual_seed(0)
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight.data, part.bias.data, part.running_mean, part.running_var):
                tensor.uniform_(0.5, 1)
    return model.double().eval().requires_grad_(False)


TORCHVISION = {
    "resnet18": (["relu", "layer1.0.relu_1", "layer2", "layer3.1"], {}),
    "inception_v3": (["Conv2d_2b_3x3", "Mixed_5d"], {"transform_input": True, "init_weights": False}),
    "densenet121": (["features.denseblock1.denselayer2.conv1", "features.transition1", "features.denseblock2"], {}),
    "mobilenet_v3_small": (["features.1", "features.4.block.2", "features.8"], {}),
}
TIMM = {"test_convnext": [0, 1], "test_vit": [2, 4], "test_resnet": [1, 2]}


def torchvision_pair(name, folder):
    """Return a lens and torchvision's own extractor with equal weights."""
    layers, options = TORCHVISION[name]
    model = init_weights(models.get_model(name, weights=None, **options))
    path = folder / f"{name}.safetensors"
    save_file(model.float().state_dict(), path)
    graph = models.feature_extraction.create_feature_extractor(model.double(), layers, suppress_diff_warning=True)
    return Torchvision(name, layers, weights=str(path)), lambda x: graph(normalize(x, MEAN, STD))


def timm_pair(name, folder):
    """Return a lens and timm's own extractor with equal weights."""
    sizes = {"dynamic_img_size": True} if name == "test_vit" else {}
    model = init_weights(timm.create_model(name, **sizes))
    path = folder / f"{name}.pth"
    torch.save(model.float().state_dict(), path)
    model.double()
    layers = [f"{'blocks' if name == 'test_vit' else 'stages'}.{i}" for i in TIMM[name]]
    if name == "test_resnet":
        layers = [f"layer{i}" for i in TIMM[name]]

    def extract(x):
        x = normalize(x, model.pretrained_cfg["mean"], model.pretrained_cfg["std"])
        features = model.forward_intermediates(x, indices=TIMM[name], intermediates_only=True, output_fmt="NCHW")
        return dict(zip(layers, features, strict=True))

    return Timm(name, layers, weights=str(path)), extract


def normalize(x, mean, std):
    mean, std = (torch.tensor(values, dtype=x.dtype).view(1, 3, 1, 1) for values in (mean, std))
    return (x - mean) / std


@pytest.fixture(scope="module", params=[*TORCHVISION, *TIMM])
def lens_and_reference(request, tmp_path_factory):
    """Return a lens, and the library's own function from images to the same features."""
    make = torchvision_pair if request.param in TORCHVISION else timm_pair
    return make(request.param, tmp_path_factory.mktemp("weights"))


def random_image(n=1, side=80, dtype=torch.float64, seed=0):
    return torch.rand(n, 3, side, side, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
def test_every_layer_equals_the_librarys_own_extractor(lens_and_reference):
    lens, extract = lens_and_reference
    x = random_image()
    expected = extract(x)
    maps = lens({"pixels": x})
    assert set(maps) == set(expected)
    for layer, features in maps.items():
        torch.testing.assert_close(features, expected[layer], rtol=1e-8, atol=1e-8, msg=layer)


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_the_gradient_equals_plain_autograd(lens_and_reference, recompute):
    lens, extract = lens_and_reference
    if recompute:
        lens = type(lens)(lens.backbone.model_name, list(lens.layers), weights=lens.backbone.weights, recompute=True)
    x, y = random_image().requires_grad_(), random_image(seed=1)
    expected = sum((a - b).square().mean() for a, b in zip(extract(x).values(), extract(y).values(), strict=True))
    (expected_gradient,) = torch.autograd.grad(expected, x)
    value = (L2() @ lens)(x, y)
    (gradient,) = torch.autograd.grad(value, x)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-7, atol=1e-7 * expected_gradient.abs().max().item())


def test_in_float32_features_are_bit_identical_to_the_library():
    lens = Torchvision("resnet18", ["layer1", "layer2"], weights="random")
    x = random_image(dtype=torch.float32)
    ours = lens({"pixels": x})
    model = lens.backbone.modules[x.device, torch.float32]
    graph = models.feature_extraction.create_feature_extractor(model, ["layer1", "layer2"])
    theirs = graph(normalize(x, MEAN, STD).contiguous(memory_format=torch.channels_last))
    assert all(torch.equal(ours[layer], theirs[layer]) for layer in ours)


@pytest.mark.parametrize("gradient", [False, True])
def test_a_layer_before_an_in_place_relu_keeps_its_value(gradient):
    layers = ["bn1", "relu", "layer1.0.bn2"]  # the third is modified by an in-place addition
    lens = Torchvision("resnet18", layers, weights="random")
    x = random_image().requires_grad_(gradient)
    maps = lens({"pixels": x})
    model = lens.backbone.modules[x.device, torch.float64]
    before = model.bn1(model.conv1(normalize(x, MEAN, STD)))
    torch.testing.assert_close(maps["bn1"], before)
    torch.testing.assert_close(maps["relu"], before.relu())
    block = model.layer1[0]
    hidden = block.bn1(block.conv1(model.maxpool(before.relu()))).relu()
    torch.testing.assert_close(maps["layer1.0.bn2"], block.bn2(block.conv2(hidden)))


def test_a_layer_before_an_in_place_relu_keeps_its_gradient():
    lens = Torchvision("resnet18", ["bn1", "layer1"], weights="random")
    x = random_image().requires_grad_()
    maps = lens({"pixels": x})
    model = lens.backbone.modules[x.device, torch.float64]
    (gradient,) = torch.autograd.grad(maps["bn1"].square().sum() + 0 * maps["layer1"].sum(), x)
    (expected,) = torch.autograd.grad(model.bn1(model.conv1(normalize(x, MEAN, STD))).square().sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_the_image_is_not_modified():
    x = random_image()
    before = x.clone()
    Timm("test_resnet", "layer1", weights="random")({"pixels": x})
    assert torch.equal(x, before)


def test_nothing_beyond_the_deepest_layer_runs():
    lens = Torchvision("resnet18", ["layer1"], weights="random")
    x = random_image(dtype=torch.float32)
    lens({"pixels": x})
    with FlopCounterMode(display=False) as counter:
        lens({"pixels": x})
    assert counter.get_total_flops() == lens.backbone.flops(80, 80, ["layer1"])
    assert counter.get_total_flops() < 0.5 * lens.backbone.flops(80, 80, ["layer3"])


def test_a_network_of_relus_saves_bits(measure_kept_bytes):
    lens = Torchvision("resnet18", "layer2", weights="random")
    x = random_image(dtype=torch.float32).requires_grad_()
    lens({"pixels": x})
    model = lens.backbone.modules[x.device, torch.float32]
    graph = models.feature_extraction.create_feature_extractor(model, ["layer2"])
    _, theirs = measure_kept_bytes(lambda: graph(x), model)
    _, ours = measure_kept_bytes(lambda: lens({"pixels": x}), model)
    assert ours < theirs / 15


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_recomputation_saves_less_with_equal_gradients(name, measure_kept_bytes):
    layers = ["stages.1.blocks.0", "stages.3"] if name == "test_convnext" else ["blocks.1.attn.qkv", "blocks.4"]
    x = random_image(dtype=torch.float32).requires_grad_()
    results = []
    for recompute in (False, True):
        lens = Timm(name, layers, weights="random", recompute=recompute)
        lens({"pixels": x})
        model = lens.backbone.modules[x.device, torch.float32]
        maps, count = measure_kept_bytes(lambda: lens({"pixels": x}), model)  # noqa: B023
        (gradient,) = torch.autograd.grad(sum(features.square().mean() for features in maps.values()), x)
        results.append((count, gradient, maps))
    (plain_bytes, expected, maps), (fewer_bytes, gradient, second) = results
    assert fewer_bytes < 0.4 * plain_bytes
    assert torch.equal(gradient, expected)
    assert all(torch.equal(maps[layer], second[layer]) for layer in maps)


def test_lenses_share_a_network_and_its_weights():
    one = Timm("test_resnet", "layer1", weights="random").backbone
    assert Timm("test_resnet", "layer2", weights="random").backbone is one
    second = Timm("test_resnet", "layer1", weights="random", recompute=True).backbone
    assert second is not one
    assert second.modules is one.modules


def test_a_loss_on_two_layers_needs_one_pass_per_input():
    loss = L1() @ Timm("test_resnet", "layer1", weights="random")
    loss = loss + L2() @ Gram() @ Timm("test_resnet", "layer2", weights="random")
    assert [(p.input_name, p.layers) for p in loss.plan((1, 3, 64, 64)).passes] == [
        ("pred", ("layer1", "layer2")),
        ("target", ("layer1", "layer2")),
    ]


def test_without_a_gradient_there_is_no_graph():
    lens = Timm("test_resnet", "layer2", weights="random")
    assert not lens({"pixels": random_image()})["layer2"].requires_grad
    with torch.no_grad():
        assert not lens({"pixels": random_image().requires_grad_()})["layer2"].requires_grad


def test_training_works_after_a_first_pass_in_inference_mode(image_pair):
    clear_backbones()
    loss = L1() @ Timm("test_resnet", "layer2", weights="random")
    pred, target = image_pair(side=64)
    with torch.inference_mode():
        loss(pred, target)
    loss(pred.requires_grad_(), target).backward()


def test_building_a_network_does_not_change_the_random_state(image_pair):
    pred, target = image_pair(side=64)
    clear_backbones()
    before = torch.get_rng_state()
    (L1() @ Timm("test_resnet", "layer1", weights="random"))(pred, target)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_computes_in_its_constructor_is_supported():
    assert "trunk_output.block2" in Torchvision("regnet_x_400mf", "stem", weights="random").backbone.layers


class Parent(nn.Module):
    """A training module that contains a loss, as users write it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Conv2d(3, 3, 3)
        self.loss = L1() @ Timm("test_resnet", "layer2", weights="random")


PARENT_CALLS = {
    "train": lambda parent: parent.train(),
    "requires_grad_": lambda parent: parent.requires_grad_(True),
    "bfloat16": lambda parent: parent.to(torch.bfloat16),
    "deepcopy": copy.deepcopy,
    "pickle": lambda parent: pickle.loads(pickle.dumps(parent)),
}


@pytest.mark.parametrize("parent_call", PARENT_CALLS)
def test_a_parent_module_cannot_change_the_network(parent_call, image_pair):
    pred, target = image_pair(side=64)
    parent = Parent()
    assert list(parent.state_dict()) == ["model.weight", "model.bias"]
    expected = parent.loss(pred, target)
    parent = PARENT_CALLS[parent_call](parent)
    assert torch.equal(parent.loss(pred, target), expected)
    networks = parent.loss.networks["timm.test_resnet.r160_in1k, weights=random"].modules.values()
    assert not any(part.training for module in networks for part in module.modules())
    assert not any(weight.requires_grad for module in networks for weight in module.parameters())


def test_under_autocast_convolutions_use_its_precision_and_features_are_float32():
    lens = Torchvision("resnet18", ["conv1", "layer2"], weights="random")
    x = random_image(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        maps = lens({"pixels": x})
    exact = lens({"pixels": x})
    assert {features.dtype for features in maps.values()} == {torch.float32}
    assert torch.equal(maps["conv1"], maps["conv1"].bfloat16().float())
    assert 0 < (maps["layer2"] - exact["layer2"]).norm() / exact["layer2"].norm() < 0.02


def test_tokens_are_returned_as_a_grid_that_covers_the_border():
    x = torch.rand(2, 3, 50, 90)  # patches of 16
    maps = Timm("test_vit", ["patch_embed", "blocks.0", "norm"], weights="random")({"pixels": x})
    assert {features.shape for features in maps.values()} == {torch.Size([2, 64, 4, 6])}


def test_channels_last_maps_and_vectors_are_returned_as_nchw():
    x = random_image(n=2, side=64, dtype=torch.float32)
    swin = Torchvision("swin_t", "features.1.0", weights="random")({"pixels": x})
    vector = Timm("test_resnet", "fc", weights="random")({"pixels": x})
    assert swin["features.1.0"].shape == (2, 96, 16, 16)
    assert vector["fc"].shape == (2, 1000, 1, 1)


def test_repeated_calls_of_a_submodule_get_a_suffix():
    part = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), part, nn.Conv2d(4, 4, 3), part).to("meta")
    assert list(inspect_layers(model, 16)) == ["0", "1", "2", "1_1"]


def test_threads_do_not_mix_their_features():
    lens = Timm("test_resnet", "layer2", weights="random")
    inputs = [random_image(dtype=torch.float32, seed=seed) for seed in range(4)]
    expected = [lens({"pixels": x})["layer2"] for x in inputs]
    results = {}

    def run(i):
        for _ in range(5):
            results[i] = torch.equal(lens({"pixels": inputs[i]})["layer2"], expected[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(4), True)


@pytest.mark.slow
def test_it_compiles_with_no_graph_break(image_pair):
    loss = L1() @ Timm("test_resnet", ["bn1", "layer2"], weights="random")
    pred, target = image_pair(side=64)
    pred.requires_grad_()
    value = loss(pred, target)  # loads the weights, which a compiler cannot do
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")(pred, target)
    torch.testing.assert_close(compiled, value)
    gradients = [torch.autograd.grad(each, pred)[0] for each in (compiled, value)]
    torch.testing.assert_close(*gradients)


def test_flops_are_those_that_torchvision_reports():
    reported = models.get_model_weights("resnet18").DEFAULT.meta["_ops"]  # 1e9 multiply-adds
    counted = Torchvision("resnet18", "fc", weights="random").backbone.flops(224, 224, ["fc"])
    assert counted == pytest.approx(2e9 * reported, rel=0.005)


def test_a_plan_needs_no_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("LOSSMITH_WEIGHTS", raising=False)
    plan = (L1() @ Torchvision("resnet18", "layer2")).plan((2, 3, 64, 64))
    assert plan.forward_flops > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lens", "side", "message"),
    [
        (lambda: Torchvision("inception_v3", "Mixed_6a", weights="random"), 20, "at least 43 px a side for Mixed_6a"),
        (
            lambda: Torchvision("vit_b_16", "conv_proj", weights="random"),
            64,
            "torchvision.vit_b_16 expects .* 224x224 px",
        ),
        (
            lambda: Torchvision("vit_b_16", "conv_proj", weights="random"),
            256,
            "torchvision.vit_b_16 expects .* 224x224 px",
        ),
    ],
)
def test_an_unsupported_image_size_raises_with_the_networks_name(lens, side, message, monkeypatch):
    lens = lens()
    meta_module = lens.backbone.meta_module  # fails as well, without the time to initialise weights
    monkeypatch.setitem(lens.backbone.modules, (torch.device("cpu"), torch.float32), meta_module)
    with pytest.raises(ValueError, match=rf"{message}.*; got {side}x{side}"):
        lens.backbone.flops(side, side, lens.layers)
    with pytest.raises(ValueError, match=rf"{message}.*; got {side}x{side}"):
        lens({"pixels": torch.rand(1, 3, side, side)})


@pytest.mark.parametrize(
    ("shape", "cure"),
    [
        ((1, 64, 64, 3), "move the channels with"),
        ((1, 4, 64, 64), r"say which bands are red, green and blue with a lens, such as ... @ Bands\(3, 2, 1\)"),
    ],
)
def test_only_rgb_and_grey_batches_are_accepted(shape, cure):
    with pytest.raises(ValueError, match=rf"timm.test_resnet.r160_in1k expects RGB images .*; got .*{cure}"):
        Timm("test_resnet", "layer1", weights="random")({"pixels": torch.rand(shape)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Torchvision("resnet18", "layer7"),
            r"torchvision.resnet18 has no layer 'layer7'; .* Did you mean 'layer",
        ),
        (lambda: Torchvision("resnet5", "layer1"), r"torchvision has no classifier 'resnet5'. Did you mean 'resnet50'"),
        (lambda: Timm("resnet5", "layer1"), r"timm has no network 'resnet5'. Did you mean 'resnet50"),
        (lambda: Timm("resnet18.a9_in1k", "layer1"), r"timm has no network 'resnet18.a9_in1k'. Did you mean 'resnet18"),
        (lambda: Timm("hf-hub:some/one", "layer1"), "timm has no network 'hf-hub:some/one'"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_a_missing_library_is_named_with_its_pip_command(name, monkeypatch):
    def refuse(module):
        raise ImportError(f"No module named {module!r}")

    clear_backbones()
    monkeypatch.setattr(_libraries.importlib, "import_module", refuse)
    with pytest.raises(ValueError, match=rf"package '{name}', .*pip install -e '\.\[networks\]'"):
        (Torchvision if name == "torchvision" else Timm)("resnet18", "layer1")


@pytest.mark.parametrize(
    "text",
    [
        'L1() @ Torchvision("resnet18", "layer2", weights="random")',
        'L2() @ Gram() @ Torchvision("resnet18", {"layer1": 0.5, "layer2": 1.0}, weights="random", recompute=True)',
        'L1() @ Timm("test_vit.r160_in1k", ["blocks.0", "blocks.2"], weights="random")',
    ],
)
def test_the_text_of_a_loss_parses_to_itself(text):
    assert repr(parse(text)) == text


@pytest.mark.parametrize(
    ("name", "kind"),
    [("vgg16", "VGG"), ("resnet18", "Torchvision"), ("resnet18.a1_in1k", "Timm"), ("test_vit", "Timm")],
)
def test_a_lens_is_built_by_the_networks_name(name, kind):
    layer = {"vgg16": "relu1_1", "test_vit": "blocks.0"}.get(name, "layer1")
    assert type(by_name.build_lens(name, layer, "random")).__name__ == kind


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    """Hide all weights, and let every download fail."""
    hub = pytest.importorskip("huggingface_hub")

    def refuse(*args, **kwargs):
        raise OSError("no network here")

    clear_backbones()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("LOSSMITH_WEIGHTS", raising=False)
    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *args: None)
    yield hub
    clear_backbones()


def test_missing_torchvision_weights_list_the_ways_to_get_them(no_weights):
    with pytest.raises(
        MissingWeightsError, match=r"put resnet18-f37072fd.pth into a folder .* weights=\"random\".*no network"
    ):
        (L1() @ Torchvision("resnet18", "layer1"))(*torch.rand(2, 1, 3, 64, 64))


def test_missing_timm_weights_list_the_ways_to_get_them(no_weights):
    words = r"test_resnet.r160_in1k.safetensors .* model.safetensors of timm/test_resnet.r160_in1k .*no network here"
    with pytest.raises(MissingWeightsError, match=words):
        (L1() @ Timm("test_resnet", "layer1"))(*torch.rand(2, 1, 3, 64, 64))


def save_weights(model, path):
    path.parent.mkdir(exist_ok=True)
    state = init_weights(model).float().state_dict()
    torch.save(state, path) if path.suffix == ".pth" else save_file(state, path)
    return str(path)


def test_timm_weights_are_found_in_a_folder_and_in_the_hub_cache(no_weights, monkeypatch, tmp_path):
    path = save_weights(timm.create_model("test_resnet"), tmp_path / "files" / "test_resnet.r160_in1k.safetensors")
    given = Timm("test_resnet", "layer1", weights=path)
    with monkeypatch.context() as patch:
        patch.setenv("LOSSMITH_WEIGHTS", str(Path(path).parent))
        assert Timm("test_resnet", "layer1").backbone.sha256 == given.backbone.sha256
    clear_backbones()
    monkeypatch.setattr(no_weights, "try_to_load_from_cache", lambda *args: path)
    assert Timm("test_resnet", "layer1").backbone.sha256 == given.backbone.sha256


def test_a_file_with_torchvisions_name_must_match_its_hash(no_weights, monkeypatch, tmp_path):
    path = save_weights(models.resnet18(), tmp_path / "resnet18-f37072fd.pth")
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(Path(path).parent))
    with pytest.raises(WrongWeightsError, match="does not have the hash"):
        assert Torchvision("resnet18", "layer1").backbone.sha256


def test_torchvision_weights_are_selected_by_their_names(no_weights):
    with pytest.raises(MissingWeightsError, match=r"resnet50-0676ba61.pth"):
        assert Torchvision("resnet50", "layer1", weights="IMAGENET1K_V1").backbone.sha256


@pytest.mark.parametrize("kind", [Torchvision, Timm])
def test_the_file_of_another_network_raises(kind, tmp_path):
    path = save_weights(nn.Sequential(nn.Conv2d(3, 8, 3)), tmp_path / "other.safetensors")
    name = "resnet18" if kind is Torchvision else "test_resnet"
    with pytest.raises(WrongWeightsError, match="does not fit and belongs to another network"):
        kind(name, "layer1", weights=path)({"pixels": random_image(dtype=torch.float32)})


@pytest.mark.slow
def test_old_densenet_files_are_read(tmp_path):
    model = init_weights(models.densenet121()).float()
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for key, v in model.state_dict().items()}
    torch.save({"state_dict": old}, tmp_path / "old.pth")
    lens = Torchvision("densenet121", "features.denseblock1", weights=str(tmp_path / "old.pth"))
    x = random_image(dtype=torch.float32)
    features = model.features[:5](normalize(x, MEAN, STD))
    torch.testing.assert_close(lens({"pixels": x})["features.denseblock1"], features, rtol=1e-4, atol=1e-4)
