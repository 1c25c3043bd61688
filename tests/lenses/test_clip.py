"""CLIP as a lens: against transformers' own, its files, and what becomes of bad ones."""

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

from lossmith import CLIP, L2, InfoNCE, MissingWeightsError, TextAlignment, TextContrast, WrongWeightsError, parse
from lossmith.lens import clear_backbones
from lossmith.lenses import clip_checkpoint

transformers = pytest.importorskip("transformers")
hub = pytest.importorskip("huggingface_hub")

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIDE = 24
PROMPTS = ["a red bird", "A photograph of two boats, at night; 3 lanterns", "café ☕", ""]
LAYER = "visual_projection"


def byte_letters():
    """The letters that stand for bytes in GPT-2's and CLIP's vocabularies."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (chr(256 + i) for i in range(256 - len(plain)))
    return [chr(byte) if byte in plain else next(others) for byte in range(256)]


def vocabulary():
    words = [*byte_letters(), *(f"{letter}</w>" for letter in byte_letters())]
    words += ["re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    return {word: i for i, word in enumerate(words)}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """An untrained CLIP of transformers, its tokenizer, and the folder in which they lie."""
    folder = tmp_path_factory.mktemp("clip")
    words = vocabulary()
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    text = {"vocab_size": len(words), "max_position_embeddings": 60, **ends, **tower}
    vision = {"image_size": SIDE, "patch_size": 8, **tower}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
        model = transformers.CLIPModel(config).eval().requires_grad_(False)
        for part in model.modules():  # as far from their beginnings as trained ones are
            if isinstance(part, nn.LayerNorm | nn.Linear):
                part.weight.add_(0.2 * torch.randn_like(part.weight))
    tokenizer = transformers.CLIPTokenizer(words, [("r", "e"), ("re", "d</w>")])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return SimpleNamespace(model=model, tokenizer=tokenizer, folder=str(folder))


@pytest.fixture
def clip(theirs):
    return CLIP("some/clip", weights=theirs.folder)


@pytest.fixture
def broken(theirs, tmp_path):
    """A copy of the folder, to be broken, and the lens of it."""
    folder = shutil.copytree(theirs.folder, tmp_path / "clip")
    return folder, CLIP("some/clip", weights=str(folder))


def picture(n=2, side=SIDE, *, width=None, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, side, width or side, generator=generator, dtype=torch.float64).to(dtype)


def normalised(x):
    mean, std = (torch.tensor(v, dtype=x.dtype).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (x - mean) / std


def image_vectors(model, x):
    return model.get_image_features(pixel_values=normalised(x)).pooler_output


def text_vectors(theirs, prompts, **how):
    tokens = theirs.tokenizer(prompts, padding=True, return_tensors="pt", **how)
    return theirs.model.get_text_features(**tokens).pooler_output


@pytest.mark.parametrize("recompute", [False, True])
def test_a_picture_has_transformers_vector_and_gradient(recompute, theirs, assert_parity):
    lens = CLIP("some/clip", weights=theirs.folder, recompute=recompute)
    model = copy.deepcopy(theirs.model).double()
    model.set_attn_implementation("eager")
    weights = torch.randn(2, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def ours(x):
        return (lens({"pixels": x})[LAYER].flatten(1) * weights).sum(dim=1)

    assert_parity(ours, lambda x: (image_vectors(model, x) * weights).sum(dim=1), picture(dtype=torch.float64), within=1e-6)


def test_other_sizes_are_resampled_as_pillow_does(clip, theirs):
    x = picture(1, 37, width=51)
    channels = [
        Image.fromarray(channel.numpy(), "F").resize((SIDE, SIDE), Image.Resampling.BICUBIC) for channel in x[0]
    ]
    small = torch.from_numpy(np.stack([np.array(channel) for channel in channels]))[None]
    torch.testing.assert_close(
        clip({"pixels": x})[LAYER].flatten(1), image_vectors(theirs.model, small), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("height", "width"), [(37, 51), (12, 90)])
def test_the_gradient_reaches_all_of_a_picture(height, width, clip):
    x = picture(1, height, width=width).requires_grad_()
    clip({"pixels": x})[LAYER].sum().backward()
    assert (x.grad != 0).float().mean() > 0.99


def test_prompts_have_transformers_vectors(clip, theirs):
    torch.testing.assert_close(clip.embed(PROMPTS), text_vectors(theirs, PROMPTS), rtol=1e-4, atol=1e-5)


def test_a_prompt_has_one_vector_whatever_it_is_asked_with(clip):
    clip.backbone.prompts.seen.clear()
    alone = clip.embed("a red bird")
    clip.backbone.prompts.seen.clear()
    assert torch.equal(clip.embed(PROMPTS)[:1], alone)


def test_each_prompt_is_read_once(theirs, monkeypatch):
    clip = CLIP("other/clip", weights=theirs.folder)
    wanted = clip.embed(["a", "b", "a"])
    assert torch.equal(wanted[0], wanted[2])
    monkeypatch.setattr(clip.backbone.prompts, "_read", None)
    again = CLIP("other/clip", weights=theirs.folder, recompute=True).embed(["b", "a"])
    assert torch.equal(again, wanted[[1, 0]])


def test_the_oldest_prompts_are_forgotten(clip, monkeypatch):
    monkeypatch.setattr("lossmith.lenses.clip.REMEMBERED", 2)
    found = clip.embed(["one", "two", "three"])
    assert [prompt for prompt, _ in clip.backbone.prompts.seen] == ["two", "three"]
    assert torch.equal(clip.embed(["three", "two", "one"]), found.flip(0))


def test_a_vector_that_is_changed_leaves_the_remembered_one(clip):
    clip.embed("a red bird").zero_()
    assert clip.embed("a red bird").norm() > 0


def test_prompts_carry_no_gradient_and_are_exact_under_autocast_and_inference_mode(theirs):
    wanted = CLIP("some/clip", weights=theirs.folder).embed(PROMPTS)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        CLIP("third/clip", weights=theirs.folder).embed(PROMPTS)
    found = CLIP("third/clip", weights=theirs.folder).embed(PROMPTS)
    assert not found.requires_grad
    assert not found.is_inference()
    assert torch.equal(found, wanted)


def test_a_prompt_that_is_too_long_is_refused_or_cut_as_transformers_cuts_it(clip, theirs):
    prompt = "seven wonders " * 10
    with pytest.raises(
        ValueError, match=r'some/clip reads 60 tokens .*"seven wonders seven .*\.\.\." has 12.: shorten'
    ):
        clip.embed(prompt)
    wanted = text_vectors(theirs, [prompt], truncation=True, max_length=60)
    torch.testing.assert_close(clip.embed(prompt, truncate=True), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prompts", [[], ["a", 3], [None]])
def test_what_is_no_prompt_is_refused(prompts, clip):
    with pytest.raises(ValueError, match=r"some/clip embeds one prompt or more, each a text; got \["):
        clip.embed(prompts)


def test_the_contrast_is_the_loss_that_transformers_gives(clip, theirs):
    x, prompts = picture(3), PROMPTS[:3]
    tokens = theirs.tokenizer(prompts, padding=True, return_tensors="pt")
    wanted = theirs.model(pixel_values=normalised(x), **tokens, return_loss=True).loss
    temperature = (-theirs.model.logit_scale).exp().item()
    loss = TextContrast(temperature) @ clip
    torch.testing.assert_close(loss(x, text=clip.embed(prompts)), wanted, rtol=1e-4, atol=1e-6)


def test_descending_on_the_alignment_makes_a_picture_what_the_prompt_says(clip):
    loss, text = TextAlignment() @ clip, clip.embed(["a red bird"])
    x = picture(1, 40).requires_grad_()
    before = loss(x, text=text).item()
    optimiser = torch.optim.Adam([x], lr=0.01)
    for _ in range(15):
        optimiser.zero_grad()
        loss(x, text=text).backward()
        optimiser.step()
    assert loss(x, text=text).item() < before - 0.1


def test_pictures_are_compared_with_pictures_too(clip):
    x, y = picture(2, 30), picture(2, 30, seed=1)
    f, g = (clip({"pixels": view})[LAYER].flatten(1) for view in (x, y))
    torch.testing.assert_close((L2() @ clip)(x, y), (f - g).square().mean())
    logits = F.cosine_similarity(f[:, None], g[None], dim=2) / 0.1
    wanted = (F.cross_entropy(logits, torch.arange(2)) + F.cross_entropy(logits.T, torch.arange(2))) / 2
    torch.testing.assert_close((InfoNCE() @ clip)(x, y), wanted)


def test_autocast_runs_the_encoder_in_its_precision_and_gives_float32(clip):
    exact = clip({"pixels": picture()})[LAYER]
    with torch.autocast("cpu", torch.bfloat16):
        found = clip({"pixels": picture()})[LAYER]
    assert found.dtype == torch.float32
    assert torch.equal(found, found.bfloat16().float())
    assert 0 < (found - exact).norm() / exact.norm() < 0.03


class Parent(nn.Module):
    def __init__(self, clip):
        super().__init__()
        self.model, self.loss = nn.Linear(2, 2), TextAlignment() @ clip


ATTACKS = {
    "train": lambda parent: parent.train(),
    "requires_grad_": lambda parent: parent.requires_grad_(),
    "half": lambda parent: parent.half(),
    "deepcopy": copy.deepcopy,
    "pickle": lambda parent: pickle.loads(pickle.dumps(parent)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_encoders_stay_frozen_whatever_a_parent_does(attack, clip):
    parent, text = Parent(clip), clip.embed(PROMPTS[:2])
    assert list(parent.state_dict()) == ["model.weight", "model.bias"]
    wanted = parent.loss(picture(), text=text)
    parent = ATTACKS[attack](parent)
    assert torch.equal(parent.loss(picture(), text=text), wanted)
    (network,) = parent.loss.networks.values()
    parts = [*network.modules.values(), *network.prompts.towers.values()]
    assert parts
    assert not any(part.training for module in parts for part in module.modules())
    assert not any(weight.requires_grad for module in parts for weight in module.parameters())


def test_one_checkpoint_is_one_network(clip, theirs):
    again = CLIP("some/clip", weights=theirs.folder)
    thrifty = CLIP("some/clip", weights=theirs.folder, recompute=True)
    assert again.backbone is clip.backbone
    assert thrifty.backbone.modules is clip.backbone.modules
    assert torch.equal(thrifty({"pixels": picture()})[LAYER], clip({"pixels": picture()})[LAYER])


def test_it_compiles_with_no_graph_break(clip):
    loss, text = TextAlignment() @ clip, clip.embed(PROMPTS[:2])
    x = picture(2, 30).requires_grad_()
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
def test_the_sizes_are_those_that_openai_counts(name, parameters):
    with torch.device("meta"):
        model = transformers.CLIPModel(CLIP(name).backbone.checkpoint.settings)
    assert sum(weight.numel() for weight in model.parameters()) == parameters


def test_a_plan_needs_no_weights(nothing):
    plan = (TextAlignment() @ CLIP()).plan((2, 3, 256, 400))
    (look,) = plan.passes
    assert (look.network, look.input_name, look.has_gradient) == ("openai/clip-vit-base-patch32", "pred", True)
    assert plan.forward_flops == pytest.approx(2 * 2 * 4.4e9, rel=0.02)  # OpenCLIP's table: 4.4e9 multiply-adds a picture


def test_any_size_will_do(clip):
    assert clip.backbone.min_size([LAYER]) == 1
    assert clip({"pixels": picture(1, 1)})[LAYER].isfinite().all()


def test_its_text_is_the_same_loss():
    text = 'TextContrast(0.1) @ CLIP("tiny", weights="random", recompute=True)'
    assert repr(parse(text)) == text
    assert repr(parse("TextAlignment @ CLIP")) == 'TextAlignment() @ CLIP("openai/clip-vit-base-patch32")'


def test_a_mask_is_refused():
    with pytest.raises(ValueError, match="takes no mask"):
        (TextAlignment() @ CLIP("tiny", weights="random")).on(mask="mask")


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (1, 32, 32, 3), (1, 4, 32, 32)])
def test_it_takes_rgb_batches_alone(shape):
    with pytest.raises(ValueError, match=r"tiny wants RGB pictures \(N, 3, H, W\); got"):
        CLIP("tiny", weights="random")({"pixels": torch.rand(shape)})


@pytest.mark.parametrize("name", ["clip-vit-base-patch32", "./models/clip", "a/b/c", "", None, [], "../x"])
def test_a_name_that_is_no_repository_is_refused(name):
    with pytest.raises(
        ValueError, match=r"CLIP wants a repository of the Hugging Face hub, .* folder as weights=; got"
    ):
        CLIP(name)


def test_transformers_that_is_missing_is_named_with_its_cure(monkeypatch):
    def refuse(module):
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(clip_checkpoint.importlib, "import_module", refuse)
    with pytest.raises(ValueError, match=r"package 'transformers', .*pip install -e '\.\[clip\]'"):
        CLIP("tiny", weights="random")


@pytest.fixture
def nothing(monkeypatch):
    """No weights anywhere, and no network."""

    def refuse(*args, **kwargs):
        raise OSError("no network here")

    clear_backbones()
    monkeypatch.delenv("LOSSMITH_WEIGHTS", raising=False)
    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *args, **named: None)
    yield hub
    clear_backbones()


def test_missing_weights_say_the_ways_to_get_them(nothing):
    words = r"online once, .* openai/clip-vit-base-patch32, revision refs/pr/15, .* weights=\"FOLDER\".*no network here"
    with pytest.raises(MissingWeightsError, match=words):
        (TextAlignment() @ CLIP())(picture(), text=torch.rand(2, 512))
    with pytest.raises(MissingWeightsError, match=r"No tokenizer\.json for openai/clip-vit-base-patch32 was found"):
        CLIP().embed("a bird")
    with pytest.raises(MissingWeightsError, match=r"No config\.json for some/clip was found"):
        CLIP("some/clip").embed("a bird")


def test_what_was_never_trained_says_so(nothing):
    with pytest.raises(MissingWeightsError, match=r'ask for CLIP\("tiny", weights="random"\)'):
        CLIP("tiny").embed("a bird")


def test_a_folder_without_a_file_is_named(broken):
    folder, clip = broken
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        MissingWeightsError, match=r"some/clip was given .*, a folder in which there is no model.safetensors"
    ):
        clip({"pixels": picture()})


def test_the_files_are_found_in_a_folder_and_in_the_cache_of_the_hub(nothing, monkeypatch, clip, theirs, tmp_path):
    wanted, text = clip({"pixels": picture()})[LAYER], clip.embed(PROMPTS)
    with monkeypatch.context() as patch:
        shutil.copytree(theirs.folder, tmp_path / "one" / "clip")
        patch.setenv("LOSSMITH_WEIGHTS", str(tmp_path))
        found = CLIP("one/clip")
        assert torch.equal(found({"pixels": picture()})[LAYER], wanted)
        assert torch.equal(found.embed(PROMPTS), text)
        assert found.weight_hashes == {"one/clip": clip.backbone.sha256}
    monkeypatch.setattr(nothing, "try_to_load_from_cache", lambda _, file, **named: f"{theirs.folder}/{file}")
    assert torch.equal(CLIP("two/clip")({"pixels": picture()})[LAYER], wanted)


def test_the_hub_is_asked_where_it_has_safetensors(nothing, monkeypatch):
    asked = []
    monkeypatch.setattr(nothing, "hf_hub_download", lambda *args, **named: asked.append((*args, named["revision"])))
    checkpoint = clip_checkpoint.CLIPCheckpoint("openai/clip-vit-base-patch32", None)
    checkpoint.file("model.safetensors")
    checkpoint.file("tokenizer.json")
    assert [each[1:] for each in asked] == [("model.safetensors", "refs/pr/15"), ("tokenizer.json", None)]


def test_weights_in_half_precision_are_used_in_full(broken, clip):
    folder, halved = broken
    path = folder / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16", "torch_dtype": "float16"}))
    found = halved({"pixels": picture()})[LAYER]
    torch.testing.assert_close(found, clip({"pixels": picture()})[LAYER], rtol=1e-2, atol=1e-2)
    (module,) = halved.backbone.modules.values()
    assert {weight.dtype for weight in module.parameters()} == {torch.float32}
    assert halved.embed("a bird").dtype == torch.float32


def damage(folder, file, change):
    path = folder / file
    path.write_bytes(change(path.read_bytes()))


BROKEN = {
    "truncated weights": ("model.safetensors", lambda b: b[: len(b) // 2], "weights .* cannot be read"),
    "a page for weights": ("model.safetensors", lambda b: b"<html>", "weights .* cannot be read"),
    "another model's configuration": ("config.json", lambda b: b.replace(b'"clip"', b'"siglip"'), "kind 'siglip'"),
    "a truncated configuration": ("config.json", lambda b: b[:50], "is no configuration of a model"),
    "a list for a configuration": ("config.json", lambda b: b"[1]", "is no configuration of a model"),
    "other sizes": ("config.json", lambda b: b.replace(b'"patch_size": 8', b'"patch_size": 4'), "does not fit"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_named(how, broken):
    folder, clip = broken
    file, change, message = BROKEN[how]
    damage(folder, file, change)
    with pytest.raises(WrongWeightsError, match=rf"some/clip.*{message}") as caught:
        clip({"pixels": picture()})
    assert file in str(caught.value) or message == "does not fit"
    assert "\n" not in str(caught.value)


def test_a_broken_tokenizer_is_named(broken):
    folder, clip = broken
    damage(folder, "tokenizer.json", lambda b: b"{}")
    with pytest.raises(WrongWeightsError, match=r"tokenizer.json' is no tokenizer"):
        clip.embed("a bird")


def test_the_weights_of_another_clip_are_refused(broken):
    folder, clip = broken
    save_file({"vision_model.x": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(WrongWeightsError, match="does not fit; it is another network's file"):
        clip({"pixels": picture()})
    with pytest.raises(WrongWeightsError, match="does not fit; it is another network's file"):
        clip.embed("a bird")
