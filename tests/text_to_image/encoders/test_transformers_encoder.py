import json

import pytest
import torch

from lossmith.pretrained.locate import MissingWeightsError
from lossmith.text_to_image.encoders import load_text_encoder

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = {"<pad>": 0, "</s>": 1, "<unk>": 2, "a": 3, "red": 4, "ring": 5}


@pytest.fixture
def folder(tmp_path):
    """An untrained T5 in a folder, as the hub stores it."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    path = tmp_path / "t5"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(path)
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=6, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    transformers.T5EncoderModel(config).save_pretrained(path)
    content = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**content, "tokenizer_class": "PreTrainedTokenizerFast"}))
    return path


def test_a_t5_is_loaded_from_a_folder(folder, capfd):
    found = load_text_encoder(f"t5:{folder}", max_length=8)
    embedding = found.encode(["a red ring", "ring"])
    assert embedding.tokens.shape == (2, 4, 16)
    assert embedding.mask.sum(dim=1).tolist() == [4, 2]
    assert found.token_spans("a red ring") == [(0, 1), (2, 5), (6, 10), (0, 0)]
    assert embedding.tokens.dtype == torch.float32 and bool(embedding.tokens.isfinite().all())


def test_a_clip_is_loaded_from_a_folder(folder, capfd):
    config = transformers.CLIPTextConfig(
        vocab_size=6, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, eos_token_id=1
    )
    transformers.CLIPTextModel(config).save_pretrained(folder)
    found = load_text_encoder(f"clip:{folder}", max_length=99)
    embedding = found.encode(["a red ring", "ring"])
    assert found.max_length == 77
    assert torch.equal(embedding.pooled[1], embedding.tokens[1, 1])  # that of the end token
    assert embedding.pooled.shape == (2, 16)


def test_the_digest_depends_on_the_weights(folder, capfd):
    first = load_text_encoder(f"t5:{folder}", max_length=8).digest
    model = transformers.T5EncoderModel.from_pretrained(folder)
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    model.save_pretrained(folder)
    assert load_text_encoder(f"t5:{folder}", max_length=8).digest != first


def test_missing_weights_raise_with_the_ways_to_get_them(monkeypatch):
    monkeypatch.setattr(
        "transformers.AutoTokenizer.from_pretrained", lambda *a, **k: (_ for _ in ()).throw(OSError("no net"))
    )
    with pytest.raises(MissingWeightsError, match=r"No text encoder 't5:google/nothing' was found. Do one of these"):
        load_text_encoder("t5:google/nothing")
