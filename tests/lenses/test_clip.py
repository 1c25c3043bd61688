"""CLIP as a lens: parity with transformers, its files, and errors for damaged ones."""

import copy
import json
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from lossmith import L2, InfoNCE, MissingWeightsError, WrongWeightsError, parse
from lossmith.backbone import clear_backbones
from lossmith.lenses import CLIP, _libraries, clip_checkpoint
from lossmith.losses import TextAlignment, TextContrast

transformers = pytest.importorskip("transformers")
hub = pytest.importorskip("huggingface_hub")

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIDE = 24
PROMPTS = ["a red bird", "A photograph of two boats, at night; 3 lanterns", "café ☕", ""]
LAYER = "visual_projection"


def byte_characters():
    """Return the characters that stand for bytes in GPT-2's and CLIP's vocabularies."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    substitutes = (chr(256 + i) for i in range(256 - len(printable)))
    return [chr(byte) if byte in printable else next(substitutes) for byte in range(256)]


def build_vocabulary():
    words = [*byte_characters(), *(f"{letter}</w>" for letter in byte_characters())]
    words += ["re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    return {word: i for i, word in enumerate(words)}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Return an untrained CLIP of transformers, its tokenizer, and the folder with their files."""
    folder = tmp_path_factory.mktemp("clip")
    words = build_vocabulary()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    text = {"vocab_size": len(words), "max_position_embeddings": 60, **ends, **sizes}
    vision = {"image_size": SIDE, "patch_size": 8, **sizes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
        model = transformers.CLIPModel(config).eval().requires_grad_(False)
        for part in model.modules():  # so that they differ from their initialisation as trained ones do
            if isinstance(part, nn.LayerNorm | nn.Linear):
                part.weight.add_(0.2 * torch.randn_like(part.weight))
    tokenizer = transformers.CLIPTokenizer(words, [("r", "e"), ("re", "d</w>")])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return SimpleNamespace(model=model, tokenizer=tokenizer, folder=str(folder))


@pytest.fixture
def clip(reference):
    return CLIP("some/clip", weights=reference.folder)


@pytest.fixture
def damaged(reference, tmp_path):
    """Return a copy of the folder to be damaged, and a lens on it."""
    folder = shutil.copytree(reference.folder, tmp_path / "clip")
    return folder, CLIP("some/clip", weights=str(folder))


def random_image(n=2, side=SIDE, *, width=None, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, side, width or side, generator=generator, dtype=torch.float64).to(dtype)


def normalize(x):
    mean, std = (torch.tensor(v, dtype=x.dtype).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (x - mean) / std


def embed_images(model, x):
    return model.get_image_features(pixel_values=normalize(x)).pooler_output


def embed_prompts(reference, prompts, **options):
    tokens = reference.tokenizer(prompts, padding=True, return_tensors="pt", **options)
    return reference.model.get_text_features(**tokens).pooler_output


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True])
def test_image_embeddings_and_gradients_equal_transformers(recompute, reference, assert_parity):
    lens = CLIP("some/clip", weights=reference.folder, recompute=recompute)
    model = copy.deepcopy(reference.model).double()
    model.set_attn_implementation("eager")
    weights = torch.randn(2, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def ours(x):
        return (lens({"pixels": x})[LAYER].flatten(1) * weights).sum(dim=1)

    assert_parity(
        ours, lambda x: (embed_images(model, x) * weights).sum(dim=1), random_image(dtype=torch.float64), within=1e-6
    )


def test_other_sizes_are_resized_as_pillow_does(clip, reference):
    x = random_image(1, 37, width=51)
    channels = [
        Image.fromarray(channel.numpy(), "F").resize((SIDE, SIDE), Image.Resampling.BICUBIC) for channel in x[0]
    ]
    resized = torch.from_numpy(np.stack([np.array(channel) for channel in channels]))[None]
    torch.testing.assert_close(
        clip({"pixels": x})[LAYER].flatten(1), embed_images(reference.model, resized), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("height", "width"), [(37, 51), (12, 90)])
def test_the_gradient_reaches_the_whole_image(height, width, clip):
    x = random_image(1, height, width=width).requires_grad_()
    clip({"pixels": x})[LAYER].sum().backward()
    assert (x.grad != 0).float().mean() > 0.99


def test_prompt_embeddings_equal_transformers(clip, reference):
    torch.testing.assert_close(clip.embed(PROMPTS), embed_prompts(reference, PROMPTS), rtol=1e-4, atol=1e-5)


def test_a_prompt_embedding_does_not_depend_on_the_other_prompts(clip):
    clip.backbone.prompt_encoder.cache.clear()
    alone = clip.embed("a red bird")
    clip.backbone.prompt_encoder.cache.clear()
    assert torch.equal(clip.embed(PROMPTS)[:1], alone)


def test_each_prompt_is_encoded_once(reference, monkeypatch):
    clip = CLIP("other/clip", weights=reference.folder)
    expected = clip.embed(["a", "b", "a"])
    assert torch.equal(expected[0], expected[2])
    monkeypatch.setattr(clip.backbone.prompt_encoder, "_encode", None)
    again = CLIP("other/clip", weights=reference.folder, recompute=True).embed(["b", "a"])
    assert torch.equal(again, expected[[1, 0]])


def test_the_oldest_prompts_are_removed_from_the_cache(clip, monkeypatch):
    monkeypatch.setattr("lossmith.lenses.clip.CACHED_PROMPTS", 2)
    actual = clip.embed(["one", "two", "three"])
    assert [prompt for prompt, _ in clip.backbone.prompt_encoder.cache] == ["two", "three"]
    assert torch.equal(clip.embed(["three", "two", "one"]), actual.flip(0))


def test_changing_an_embedding_does_not_change_the_cached_one(clip):
    clip.embed("a red bird").zero_()
    assert clip.embed("a red bird").norm() > 0


def test_prompt_embeddings_have_no_gradient_and_do_not_depend_on_autocast_or_inference_mode(reference):
    expected = CLIP("some/clip", weights=reference.folder).embed(PROMPTS)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        CLIP("third/clip", weights=reference.folder).embed(PROMPTS)
    actual = CLIP("third/clip", weights=reference.folder).embed(PROMPTS)
    assert not actual.requires_grad
    assert not actual.is_inference()
    assert torch.equal(actual, expected)


def test_a_long_prompt_raises_or_is_truncated_as_in_transformers(clip, reference):
    prompt = "seven wonders " * 10
    with pytest.raises(
        ValueError,
        match=r'some/clip takes prompts of at most 60 tokens; "seven wonders seven .*\.\.\." has 12.\. Shorten',
    ):
        clip.embed(prompt)
    expected = embed_prompts(reference, [prompt], truncation=True, max_length=60)
    torch.testing.assert_close(clip.embed(prompt, truncate=True), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prompts", [[], ["a", 3], [None]])
def test_an_invalid_prompt_raises(prompts, clip):
    with pytest.raises(ValueError, match=r"some/clip embeds one or more prompts, each a string; got \["):
        clip.embed(prompts)


def test_the_contrastive_loss_equals_transformers(clip, reference):
    x, prompts = random_image(3), PROMPTS[:3]
    tokens = reference.tokenizer(prompts, padding=True, return_tensors="pt")
    expected = reference.model(pixel_values=normalize(x), **tokens, return_loss=True).loss
    temperature = (-reference.model.logit_scale).exp().item()
    loss = TextContrast(temperature) @ clip
    torch.testing.assert_close(loss(x, text=clip.embed(prompts)), expected, rtol=1e-4, atol=1e-6)


def test_gradient_descent_on_the_alignment_lowers_it(clip):
    loss, text = TextAlignment() @ clip, clip.embed(["a red bird"])
    x = random_image(1, 40).requires_grad_()
    before = loss(x, text=text).item()
    optimiser = torch.optim.Adam([x], lr=0.01)
    for _ in range(15):
        optimiser.zero_grad()
        loss(x, text=text).backward()
        optimiser.step()
    assert loss(x, text=text).item() < before - 0.1


def test_images_can_be_compared_with_images(clip):
    x, y = random_image(2, 30), random_image(2, 30, seed=1)
    f, g = (clip({"pixels": image})[LAYER].flatten(1) for image in (x, y))
    torch.testing.assert_close((L2() @ clip)(x, y), (f - g).square().mean())
    logits = F.cosine_similarity(f[:, None], g[None], dim=2) / 0.1
    expected = (F.cross_entropy(logits, torch.arange(2)) + F.cross_entropy(logits.T, torch.arange(2))) / 2
    torch.testing.assert_close((InfoNCE() @ clip)(x, y), expected)


def test_under_autocast_the_encoder_uses_its_precision_and_returns_float32(clip):
    exact = clip({"pixels": random_image()})[LAYER]
    with torch.autocast("cpu", torch.bfloat16):
        actual = clip({"pixels": random_image()})[LAYER]
    assert actual.dtype == torch.float32
    assert torch.equal(actual, actual.bfloat16().float())
    assert 0 < (actual - exact).norm() / exact.norm() < 0.03


class Parent(nn.Module):
    def __init__(self, clip):
        super().__init__()
        self.model, self.loss = nn.Linear(2, 2), TextAlignment() @ clip


PARENT_CALLS = {
    "train": lambda parent: parent.train(),
    "requires_grad_": lambda parent: parent.requires_grad_(),
    "half": lambda parent: parent.half(),
    "deepcopy": copy.deepcopy,
    "pickle": lambda parent: pickle.loads(pickle.dumps(parent)),
}


@pytest.mark.parametrize("parent_call", PARENT_CALLS)
def test_a_parent_module_cannot_change_the_encoders(parent_call, clip):
    parent, text = Parent(clip), clip.embed(PROMPTS[:2])
    assert list(parent.state_dict()) == ["model.weight", "model.bias"]
    expected = parent.loss(random_image(), text=text)
    parent = PARENT_CALLS[parent_call](parent)
    assert torch.equal(parent.loss(random_image(), text=text), expected)
    (network,) = parent.loss.networks.values()
    encoders = [*network.modules.values(), *network.prompt_encoder.encoders.values()]
    assert encoders
    assert not any(part.training for module in encoders for part in module.modules())
    assert not any(weight.requires_grad for module in encoders for weight in module.parameters())


def test_one_checkpoint_is_one_network(clip, reference):
    again = CLIP("some/clip", weights=reference.folder)
    recomputing = CLIP("some/clip", weights=reference.folder, recompute=True)
    assert again.backbone is clip.backbone
    assert recomputing.backbone.modules is clip.backbone.modules
    assert torch.equal(recomputing({"pixels": random_image()})[LAYER], clip({"pixels": random_image()})[LAYER])


@pytest.mark.slow
def test_it_compiles_with_no_graph_break(clip):
    loss, text = TextAlignment() @ clip, clip.embed(PROMPTS[:2])
    x = random_image(2, 30).requires_grad_()
    value = loss(x, text=text)
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")(x, text=text)
    torch.testing.assert_close(compiled, value)
    torch.testing.assert_close(*(torch.autograd.grad(each, x)[0] for each in (compiled, value)))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("openai/clip-vit-base-patch32", 151_277_313),
        ("openai/clip-vit-base-patch16", 149_620_737),
        ("openai/clip-vit-large-patch14", 427_616_513),
        ("openai/clip-vit-large-patch14-336", 427_944_193),
    ],
)
def test_parameter_counts_are_those_of_openai(name, parameters):
    with torch.device("meta"):
        model = transformers.CLIPModel(CLIP(name).backbone.checkpoint.config)
    assert sum(weight.numel() for weight in model.parameters()) == parameters


@pytest.mark.slow
def test_a_plan_needs_no_weights(no_weights):
    plan = (TextAlignment() @ CLIP()).plan((2, 3, 256, 400))
    (network_pass,) = plan.passes
    assert (network_pass.network, network_pass.input_name, network_pass.has_gradient) == (
        "openai/clip-vit-base-patch32",
        "pred",
        True,
    )
    assert plan.forward_flops == pytest.approx(
        2 * 2 * 4.4e9, rel=0.02
    )  # OpenCLIP's table: 4.4e9 multiply-adds per image


def test_any_image_size_is_supported(clip):
    assert clip.backbone.min_size([LAYER]) == 1
    assert clip({"pixels": random_image(1, 1)})[LAYER].isfinite().all()


def test_the_text_of_a_loss_parses_to_itself():
    text = 'TextContrast(0.1) @ CLIP("tiny", weights="random", recompute=True)'
    assert repr(parse(text)) == text
    assert repr(parse("TextAlignment @ CLIP")) == 'TextAlignment() @ CLIP("openai/clip-vit-base-patch32")'


def test_a_mask_raises():
    with pytest.raises(ValueError, match="takes no mask"):
        (TextAlignment() @ CLIP("tiny", weights="random")).on(mask="mask")


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (1, 4, 32, 32)])
def test_only_rgb_and_grey_batches_are_accepted(shape):
    with pytest.raises(ValueError, match=r"tiny expects RGB images \(N, 3, H, W\) or grey images \(N, 1, H, W\); got"):
        CLIP("tiny", weights="random")({"pixels": torch.rand(shape)})


@pytest.mark.parametrize("name", ["clip-vit-base-patch32", "./models/clip", "a/b/c", "", None, [], "../x"])
def test_a_name_that_is_no_repository_raises(name):
    with pytest.raises(
        ValueError, match=r"CLIP name must be a repository of the Hugging Face hub, .*; got .* folder as weights="
    ):
        CLIP(name)


def test_missing_transformers_is_named_with_its_pip_command(monkeypatch):
    def refuse(module):
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(_libraries.importlib, "import_module", refuse)
    with pytest.raises(ValueError, match=r"package 'transformers', .*pip install -e '\.\[clip\]'"):
        CLIP("tiny", weights="random")


@pytest.fixture
def no_weights(monkeypatch):
    """Hide all weights, and let every download fail."""

    def refuse(*args, **kwargs):
        raise OSError("no network here")

    clear_backbones()
    monkeypatch.delenv("LOSSMITH_WEIGHTS", raising=False)
    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *args, **named: None)
    yield hub
    clear_backbones()


def test_missing_weights_list_the_ways_to_get_them(no_weights):
    words = r"online once, .* openai/clip-vit-base-patch32, revision refs/pr/15, .* weights=\"FOLDER\".*no network here"
    with pytest.raises(MissingWeightsError, match=words):
        (TextAlignment() @ CLIP())(random_image(), text=torch.rand(2, 512))
    with pytest.raises(MissingWeightsError, match=r"No tokenizer\.json for openai/clip-vit-base-patch32 was found"):
        CLIP().embed("a bird")
    with pytest.raises(MissingWeightsError, match=r"No config\.json for some/clip was found"):
        CLIP("some/clip").embed("a bird")


def test_trained_weights_of_the_tiny_model_raise(no_weights):
    with pytest.raises(MissingWeightsError, match=r'use CLIP\("tiny", weights="random"\)'):
        CLIP("tiny").embed("a bird")


def test_a_folder_with_a_missing_file_is_named(damaged):
    folder, clip = damaged
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match=r"some/clip: the folder of weights .* has no model.safetensors"):
        clip({"pixels": random_image()})


def test_files_are_found_in_a_folder_and_in_the_hub_cache(no_weights, monkeypatch, clip, reference, tmp_path):
    expected, text = clip({"pixels": random_image()})[LAYER], clip.embed(PROMPTS)
    with monkeypatch.context() as patch:
        shutil.copytree(reference.folder, tmp_path / "one" / "clip")
        patch.setenv("LOSSMITH_WEIGHTS", str(tmp_path))
        actual = CLIP("one/clip")
        assert torch.equal(actual({"pixels": random_image()})[LAYER], expected)
        assert torch.equal(actual.embed(PROMPTS), text)
        assert actual.weight_hashes == {"one/clip": clip.backbone.sha256}
    monkeypatch.setattr(no_weights, "try_to_load_from_cache", lambda _, file, **named: f"{reference.folder}/{file}")
    assert torch.equal(CLIP("two/clip")({"pixels": random_image()})[LAYER], expected)


def test_the_revision_with_safetensors_is_requested(no_weights, monkeypatch):
    requests = []
    monkeypatch.setattr(
        no_weights, "hf_hub_download", lambda *args, **named: requests.append((*args, named["revision"]))
    )
    checkpoint = clip_checkpoint.CLIPCheckpoint("openai/clip-vit-base-patch32", None)
    checkpoint.find_file("model.safetensors")
    checkpoint.find_file("tokenizer.json")
    assert [each[1:] for each in requests] == [("model.safetensors", "refs/pr/15"), ("tokenizer.json", None)]


def test_weights_in_half_precision_are_converted_to_float32(damaged, clip):
    folder, half_precision = damaged
    path = folder / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16", "torch_dtype": "float16"}))
    actual = half_precision({"pixels": random_image()})[LAYER]
    torch.testing.assert_close(actual, clip({"pixels": random_image()})[LAYER], rtol=1e-2, atol=1e-2)
    (module,) = half_precision.backbone.modules.values()
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}
    assert half_precision.embed("a bird").dtype == torch.float32


def change_file(folder, file, change):
    path = folder / file
    path.write_bytes(change(path.read_bytes()))


DAMAGES = {
    "truncated weights": ("model.safetensors", lambda b: b[: len(b) // 2], "weights .* cannot be read"),
    "a page for weights": ("model.safetensors", lambda b: b"<html>", "weights .* cannot be read"),
    "another model's configuration": ("config.json", lambda b: b.replace(b'"clip"', b'"siglip"'), "kind 'siglip'"),
    "a truncated configuration": ("config.json", lambda b: b[:50], "is no model configuration"),
    "a list for a configuration": ("config.json", lambda b: b"[1]", "is no model configuration"),
    "other sizes": ("config.json", lambda b: b.replace(b'"patch_size": 8', b'"patch_size": 4'), "does not fit"),
}


@pytest.mark.parametrize("damage_name", DAMAGES)
def test_a_damaged_file_is_named(damage_name, damaged):
    folder, clip = damaged
    file, change, message = DAMAGES[damage_name]
    change_file(folder, file, change)
    with pytest.raises(WrongWeightsError, match=rf"some/clip.*{message}") as caught:
        clip({"pixels": random_image()})
    assert file in str(caught.value) or message == "does not fit"
    assert "\n" not in str(caught.value)


def test_a_damaged_tokenizer_is_named(damaged):
    folder, clip = damaged
    change_file(folder, "tokenizer.json", lambda b: b"{}")
    with pytest.raises(WrongWeightsError, match=r"tokenizer.json' is no tokenizer"):
        clip.embed("a bird")


def test_the_weights_of_another_clip_raise(damaged):
    folder, clip = damaged
    save_file({"vision_model.x": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(WrongWeightsError, match="does not fit and belongs to another network"):
        clip({"pixels": random_image()})
    with pytest.raises(WrongWeightsError, match="does not fit and belongs to another network"):
        clip.embed("a bird")
