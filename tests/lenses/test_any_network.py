"""Networks of any form: torchvision's and timm's, by the names of their parts."""

import copy
import pickle
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lossmith import L1, L2, Gram, MissingWeightsError, Timm, Torchvision, WrongWeightsError, parse
from lossmith.engine.feature_extractor import inspect_layers
from lossmith.lens import clear_backbones
from lossmith.lenses import any_network, by_name

models = pytest.importorskip("torchvision.models")
timm = pytest.importorskip("timm")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def untrained(model):
    """A model whose features neither fade nor explode, frozen."""
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


def torchvisions(name, folder):
    """Our lens and torchvision's own extractor, of the same weights."""
    layers, how = TORCHVISION[name]
    model = untrained(models.get_model(name, weights=None, **how))
    path = folder / f"{name}.safetensors"
    save_file(model.float().state_dict(), path)
    graph = models.feature_extraction.create_feature_extractor(model.double(), layers, suppress_diff_warning=True)
    return Torchvision(name, layers, weights=str(path)), lambda x: graph(normalised(x, MEAN, STD))


def timms(name, folder):
    """Our lens and timm's own extractor, of the same weights."""
    sizes = {"dynamic_img_size": True} if name == "test_vit" else {}
    model = untrained(timm.create_model(name, **sizes))
    path = folder / f"{name}.pth"
    torch.save(model.float().state_dict(), path)
    model.double()
    layers = [f"{'blocks' if name == 'test_vit' else 'stages'}.{i}" for i in TIMM[name]]
    if name == "test_resnet":
        layers = [f"layer{i}" for i in TIMM[name]]

    def extract(x):
        x = normalised(x, model.pretrained_cfg["mean"], model.pretrained_cfg["std"])
        features = model.forward_intermediates(x, indices=TIMM[name], intermediates_only=True, output_fmt="NCHW")
        return dict(zip(layers, features, strict=True))

    return Timm(name, layers, weights=str(path)), extract


def normalised(x, mean, std):
    mean, std = (torch.tensor(values, dtype=x.dtype).view(1, 3, 1, 1) for values in (mean, std))
    return (x - mean) / std


@pytest.fixture(scope="module", params=[*TORCHVISION, *TIMM])
def twins(request, tmp_path_factory):
    """A lens of ours, and what its library shows of a picture itself."""
    make = torchvisions if request.param in TORCHVISION else timms
    return make(request.param, tmp_path_factory.mktemp("weights"))


def picture(n=1, side=80, dtype=torch.float64, seed=0):
    return torch.rand(n, 3, side, side, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def test_every_layer_is_the_librarys_own(twins):
    lens, extract = twins
    x = picture()
    wanted = extract(x)
    maps = lens({"pixels": x})
    assert set(maps) == set(wanted)
    for layer, features in maps.items():
        torch.testing.assert_close(features, wanted[layer], rtol=1e-8, atol=1e-8, msg=layer)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_gradient_is_plain_autograds(twins, recompute):
    lens, extract = twins
    if recompute:
        lens = type(lens)(lens.backbone.call, list(lens.layers), weights=lens.backbone.weights, recompute=True)
    x, y = picture().requires_grad_(), picture(seed=1)
    wanted = sum((a - b).square().mean() for a, b in zip(extract(x).values(), extract(y).values(), strict=True))
    (direction,) = torch.autograd.grad(wanted, x)
    value = (L2() @ lens)(x, y)
    (gradient,) = torch.autograd.grad(value, x)
    torch.testing.assert_close(value, wanted, rtol=1e-9, atol=0)
    torch.testing.assert_close(gradient, direction, rtol=1e-7, atol=1e-7 * direction.abs().max().item())


def test_in_float32_it_is_the_library_to_the_bit():
    lens = Torchvision("resnet18", ["layer1", "layer2"], weights="random")
    x = picture(dtype=torch.float32)
    ours = lens({"pixels": x})
    model = lens.backbone.modules[x.device, torch.float32]
    graph = models.feature_extraction.create_feature_extractor(model, ["layer1", "layer2"])
    theirs = graph(normalised(x, MEAN, STD).contiguous(memory_format=torch.channels_last))
    assert all(torch.equal(ours[layer], theirs[layer]) for layer in ours)


@pytest.mark.parametrize("gradient", [False, True])
def test_a_tap_before_a_relu_in_place_holds_what_was_there(gradient):
    taps = ["bn1", "relu", "layer1.0.bn2"]  # the third is added to in place
    lens = Torchvision("resnet18", taps, weights="random")
    x = picture().requires_grad_(gradient)
    maps = lens({"pixels": x})
    model = lens.backbone.modules[x.device, torch.float64]
    before = model.bn1(model.conv1(normalised(x, MEAN, STD)))
    torch.testing.assert_close(maps["bn1"], before)
    torch.testing.assert_close(maps["relu"], before.relu())
    block = model.layer1[0]
    half = block.bn1(block.conv1(model.maxpool(before.relu()))).relu()
    torch.testing.assert_close(maps["layer1.0.bn2"], block.bn2(block.conv2(half)))


def test_the_gradient_of_a_tap_before_a_relu_in_place_is_there_too():
    lens = Torchvision("resnet18", ["bn1", "layer1"], weights="random")
    x = picture().requires_grad_()
    maps = lens({"pixels": x})
    model = lens.backbone.modules[x.device, torch.float64]
    (gradient,) = torch.autograd.grad(maps["bn1"].square().sum() + 0 * maps["layer1"].sum(), x)
    (wanted,) = torch.autograd.grad(model.bn1(model.conv1(normalised(x, MEAN, STD))).square().sum(), x)
    torch.testing.assert_close(gradient, wanted)


def test_a_picture_is_not_written_to():
    x = picture()
    before = x.clone()
    Timm("test_resnet", "layer1", weights="random")({"pixels": x})
    assert torch.equal(x, before)


def test_nothing_beyond_the_deepest_layer_runs():
    lens = Torchvision("resnet18", ["layer1"], weights="random")
    x = picture(dtype=torch.float32)
    lens({"pixels": x})
    with FlopCounterMode(display=False) as counter:
        lens({"pixels": x})
    assert counter.get_total_flops() == lens.backbone.flops(80, 80, ["layer1"])
    assert counter.get_total_flops() < 0.5 * lens.backbone.flops(80, 80, ["layer3"])


def test_a_network_of_relus_keeps_bits(measure_kept_bytes):
    lens = Torchvision("resnet18", "layer2", weights="random")
    x = picture(dtype=torch.float32).requires_grad_()
    lens({"pixels": x})
    model = lens.backbone.modules[x.device, torch.float32]
    graph = models.feature_extraction.create_feature_extractor(model, ["layer2"])
    _, theirs = measure_kept_bytes(lambda: graph(x), model)
    _, ours = measure_kept_bytes(lambda: lens({"pixels": x}), model)
    assert ours < theirs / 15


@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_recomputation_keeps_less_for_equal_gradients(name, measure_kept_bytes):
    layers = ["stages.1.blocks.0", "stages.3"] if name == "test_convnext" else ["blocks.1.attn.qkv", "blocks.4"]
    x = picture(dtype=torch.float32).requires_grad_()
    found = []
    for recompute in (False, True):
        lens = Timm(name, layers, weights="random", recompute=recompute)
        lens({"pixels": x})
        model = lens.backbone.modules[x.device, torch.float32]
        maps, count = measure_kept_bytes(lambda: lens({"pixels": x}), model)  # noqa: B023
        (gradient,) = torch.autograd.grad(sum(features.square().mean() for features in maps.values()), x)
        found.append((count, gradient, maps))
    (plain, wanted, maps), (less, gradient, again) = found
    assert less < 0.4 * plain
    assert torch.equal(gradient, wanted)
    assert all(torch.equal(maps[layer], again[layer]) for layer in maps)


def test_lenses_share_a_network_and_its_weights():
    one = Timm("test_resnet", "layer1", weights="random").backbone
    assert Timm("test_resnet", "layer2", weights="random").backbone is one
    again = Timm("test_resnet", "layer1", weights="random", recompute=True).backbone
    assert again is not one
    assert again.modules is one.modules


def test_a_loss_on_two_layers_passes_the_network_once_a_view():
    loss = L1() @ Timm("test_resnet", "layer1", weights="random")
    loss = loss + L2() @ Gram() @ Timm("test_resnet", "layer2", weights="random")
    assert [(p.input_name, p.layers) for p in loss.plan((1, 3, 64, 64)).passes] == [
        ("pred", ("layer1", "layer2")),
        ("target", ("layer1", "layer2")),
    ]


def test_no_gradient_makes_no_graph():
    lens = Timm("test_resnet", "layer2", weights="random")
    assert not lens({"pixels": picture()})["layer2"].requires_grad
    with torch.no_grad():
        assert not lens({"pixels": picture().requires_grad_()})["layer2"].requires_grad


def test_inference_mode_before_training_spoils_nothing(image_pair):
    clear_backbones()
    loss = L1() @ Timm("test_resnet", "layer2", weights="random")
    pred, target = image_pair(side=64)
    with torch.inference_mode():
        loss(pred, target)
    loss(pred.requires_grad_(), target).backward()


def test_making_a_network_leaves_the_seed_alone(image_pair):
    pred, target = image_pair(side=64)
    clear_backbones()
    before = torch.get_rng_state()
    (L1() @ Timm("test_resnet", "layer1", weights="random"))(pred, target)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_computes_while_it_is_made_is_looked_into_too():
    assert "trunk_output.block2" in Torchvision("regnet_x_400mf", "stem", weights="random").backbone.layers


class Parent(nn.Module):
    """A training module that holds a loss, as users write them."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Conv2d(3, 3, 3)
        self.loss = L1() @ Timm("test_resnet", "layer2", weights="random")


ATTACKS = {
    "train": lambda parent: parent.train(),
    "requires_grad_": lambda parent: parent.requires_grad_(True),
    "bfloat16": lambda parent: parent.to(torch.bfloat16),
    "deepcopy": copy.deepcopy,
    "pickle": lambda parent: pickle.loads(pickle.dumps(parent)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_network_stays_frozen_whatever_a_parent_does(attack, image_pair):
    pred, target = image_pair(side=64)
    parent = Parent()
    assert list(parent.state_dict()) == ["model.weight", "model.bias"]
    wanted = parent.loss(pred, target)
    parent = ATTACKS[attack](parent)
    assert torch.equal(parent.loss(pred, target), wanted)
    parts = parent.loss.networks["timm.test_resnet.r160_in1k, weights=random"].modules.values()
    assert not any(part.training for module in parts for part in module.modules())
    assert not any(weight.requires_grad for module in parts for weight in module.parameters())


def test_under_autocast_convolutions_run_in_its_precision_and_layers_come_in_float32():
    lens = Torchvision("resnet18", ["conv1", "layer2"], weights="random")
    x = picture(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        maps = lens({"pixels": x})
    exact = lens({"pixels": x})
    assert {features.dtype for features in maps.values()} == {torch.float32}
    assert torch.equal(maps["conv1"], maps["conv1"].bfloat16().float())
    assert 0 < (maps["layer2"] - exact["layer2"]).norm() / exact["layer2"].norm() < 0.02


def test_tokens_come_as_a_grid_that_reaches_over_the_border():
    x = torch.rand(2, 3, 50, 90)  # patches of 16
    maps = Timm("test_vit", ["patch_embed", "blocks.0", "norm"], weights="random")({"pixels": x})
    assert {features.shape for features in maps.values()} == {torch.Size([2, 64, 4, 6])}


def test_maps_with_channels_last_and_vectors_come_with_channels_second():
    x = picture(n=2, side=64, dtype=torch.float32)
    swin = Torchvision("swin_t", "features.1.0", weights="random")({"pixels": x})
    vector = Timm("test_resnet", "fc", weights="random")({"pixels": x})
    assert swin["features.1.0"].shape == (2, 96, 16, 16)
    assert vector["fc"].shape == (2, 1000, 1, 1)


def test_a_part_that_is_called_again_has_a_number_behind_its_name():
    part = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), part, nn.Conv2d(4, 4, 3), part).to("meta")
    assert list(inspect_layers(model, 16)) == ["0", "1", "2", "1_1"]


def test_two_threads_see_each_their_own():
    lens = Timm("test_resnet", "layer2", weights="random")
    inputs = [picture(dtype=torch.float32, seed=seed) for seed in range(4)]
    wanted = [lens({"pixels": x})["layer2"] for x in inputs]
    seen = {}

    def look(i):
        for _ in range(5):
            seen[i] = torch.equal(lens({"pixels": inputs[i]})["layer2"], wanted[i])

    threads = [threading.Thread(target=look, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == dict.fromkeys(range(4), True)


def test_it_compiles_with_no_graph_break(image_pair):
    loss = L1() @ Timm("test_resnet", ["bn1", "layer2"], weights="random")
    pred, target = image_pair(side=64)
    pred.requires_grad_()
    value = loss(pred, target)  # finds the weights, which a compiler cannot
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")(pred, target)
    torch.testing.assert_close(compiled, value)
    gradients = [torch.autograd.grad(each, pred)[0] for each in (compiled, value)]
    torch.testing.assert_close(*gradients)


def test_the_operations_are_those_that_torchvision_states():
    stated = models.get_model_weights("resnet18").DEFAULT.meta["_ops"]  # 1e9 multiply-adds
    counted = Torchvision("resnet18", "fc", weights="random").backbone.flops(224, 224, ["fc"])
    assert counted == pytest.approx(2e9 * stated, rel=0.005)


def test_a_plan_needs_no_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("LOSSMITH_WEIGHTS", raising=False)
    plan = (L1() @ Torchvision("resnet18", "layer2")).plan((2, 3, 64, 64))
    assert plan.forward_flops > 0


@pytest.mark.parametrize(
    ("lens", "side", "message"),
    [
        (lambda: Torchvision("inception_v3", "Mixed_6a", weights="random"), 20, "at least 43 px a side for Mixed_6a"),
        (
            lambda: Torchvision("vit_b_16", "conv_proj", weights="random"),
            64,
            "torchvision.vit_b_16 wants .* 224x224 px",
        ),
        (
            lambda: Torchvision("vit_b_16", "conv_proj", weights="random"),
            256,
            "torchvision.vit_b_16 wants .* 224x224 px",
        ),
    ],
)
def test_a_size_that_does_not_pass_is_refused_by_name(lens, side, message, monkeypatch):
    lens = lens()
    blank = lens.backbone.blank  # on which weights no time is spent; it fails as well
    monkeypatch.setitem(lens.backbone.modules, (torch.device("cpu"), torch.float32), blank)
    with pytest.raises(ValueError, match=rf"{message}.*; got {side}x{side}"):
        lens.backbone.flops(side, side, lens.layers)
    with pytest.raises(ValueError, match=rf"{message}.*; got {side}x{side}"):
        lens({"pixels": torch.rand(1, 3, side, side)})


@pytest.mark.parametrize(
    ("shape", "cure"),
    [((1, 1, 64, 64), "give grey ones as"), ((1, 64, 64, 3), "turn channels last into"), ((1, 4, 64, 64), "cut or")],
)
def test_a_network_takes_rgb_batches_alone(shape, cure):
    with pytest.raises(ValueError, match=rf"timm.test_resnet.r160_in1k wants RGB pictures \(N, 3, H, W\); .*{cure}"):
        Timm("test_resnet", "layer1", weights="random")({"pixels": torch.rand(shape)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Torchvision("resnet18", "layer7"), r"torchvision.resnet18 has no layer 'layer7'; .* Did you mean 'layer"),
        (lambda: Torchvision("resnet5", "layer1"), r"torchvision has no classifier 'resnet5'; did you mean 'resnet50'"),
        (lambda: Timm("resnet5", "layer1"), r"timm has no network 'resnet5'; did you mean 'resnet50"),
        (lambda: Timm("resnet18.a9_in1k", "layer1"), r"timm has no network 'resnet18.a9_in1k'; did you mean 'resnet18"),
        (lambda: Timm("hf-hub:some/one", "layer1"), "timm has no network 'hf-hub:some/one'"),
    ],
)
def test_a_wrong_name_gets_the_nearest(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_a_library_that_is_missing_is_named_with_its_cure(name, monkeypatch):
    def refuse(module):
        raise ImportError(f"No module named {module!r}")

    clear_backbones()
    monkeypatch.setattr(any_network.importlib, "import_module", refuse)
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
def test_its_text_is_the_same_loss(text):
    assert repr(parse(text)) == text


@pytest.mark.parametrize(
    ("name", "kind"),
    [("vgg16", "VGG"), ("resnet18", "Torchvision"), ("resnet18.a1_in1k", "Timm"), ("test_vit", "Timm")],
)
def test_a_network_is_found_by_its_name_alone(name, kind):
    layer = {"vgg16": "relu1_1", "test_vit": "blocks.0"}.get(name, "layer1")
    assert type(by_name.build_lens(name, layer, "random")).__name__ == kind


@pytest.fixture
def nothing(monkeypatch, tmp_path):
    """No weights anywhere, and no network."""
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


def test_missing_weights_of_torchvision_say_the_ways_to_get_them(nothing):
    with pytest.raises(
        MissingWeightsError, match=r"put resnet18-f37072fd.pth into a folder .* weights=\"random\".*no network"
    ):
        (L1() @ Torchvision("resnet18", "layer1"))(*torch.rand(2, 1, 3, 64, 64))


def test_missing_weights_of_timm_say_the_ways_to_get_them(nothing):
    words = r"test_resnet.r160_in1k.safetensors .* model.safetensors of timm/test_resnet.r160_in1k .*no network here"
    with pytest.raises(MissingWeightsError, match=words):
        (L1() @ Timm("test_resnet", "layer1"))(*torch.rand(2, 1, 3, 64, 64))


def written(model, path):
    path.parent.mkdir(exist_ok=True)
    state = untrained(model).float().state_dict()
    torch.save(state, path) if path.suffix == ".pth" else save_file(state, path)
    return str(path)


def test_timms_weights_are_found_in_a_folder_and_in_the_cache_of_the_hub(nothing, monkeypatch, tmp_path):
    path = written(timm.create_model("test_resnet"), tmp_path / "files" / "test_resnet.r160_in1k.safetensors")
    given = Timm("test_resnet", "layer1", weights=path)
    with monkeypatch.context() as patch:
        patch.setenv("LOSSMITH_WEIGHTS", str(Path(path).parent))
        assert Timm("test_resnet", "layer1").backbone.sha256 == given.backbone.sha256
    clear_backbones()
    monkeypatch.setattr(nothing, "try_to_load_from_cache", lambda *args: path)
    assert Timm("test_resnet", "layer1").backbone.sha256 == given.backbone.sha256


def test_a_file_of_torchvisions_name_must_have_its_hash(nothing, monkeypatch, tmp_path):
    path = written(models.resnet18(), tmp_path / "resnet18-f37072fd.pth")
    monkeypatch.setenv("LOSSMITH_WEIGHTS", str(Path(path).parent))
    with pytest.raises(WrongWeightsError, match="has not the hash"):
        assert Torchvision("resnet18", "layer1").backbone.sha256


def test_torchvisions_trainings_are_called_by_their_names(nothing):
    with pytest.raises(MissingWeightsError, match=r"resnet50-0676ba61.pth"):
        assert Torchvision("resnet50", "layer1", weights="IMAGENET1K_V1").backbone.sha256


@pytest.mark.parametrize("kind", [Torchvision, Timm])
def test_the_file_of_another_network_is_refused(kind, tmp_path):
    path = written(nn.Sequential(nn.Conv2d(3, 8, 3)), tmp_path / "other.safetensors")
    name = "resnet18" if kind is Torchvision else "test_resnet"
    with pytest.raises(WrongWeightsError, match="does not fit; it is another network's file"):
        kind(name, "layer1", weights=path)({"pixels": picture(dtype=torch.float32)})


def test_densenets_old_files_are_read(tmp_path):
    model = untrained(models.densenet121()).float()
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for key, v in model.state_dict().items()}
    torch.save({"state_dict": old}, tmp_path / "old.pth")
    lens = Torchvision("densenet121", "features.denseblock1", weights=str(tmp_path / "old.pth"))
    x = picture(dtype=torch.float32)
    features = model.features[:5](normalised(x, MEAN, STD))
    torch.testing.assert_close(lens({"pixels": x})["features.denseblock1"], features, rtol=1e-4, atol=1e-4)
