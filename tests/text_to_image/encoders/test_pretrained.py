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
    """A T5 that was never trained, as a folder of the hub."""
    reader = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="<unk>"))
    reader.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    reader.post_processor = tokenizers.processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    place = tmp_path / "t5"
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=reader, eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(place)
    torch.manual_seed(0)
    settings = transformers.T5Config(vocab_size=6, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    transformers.T5EncoderModel(settings).save_pretrained(place)
    made = json.loads((place / "tokenizer_config.json").read_text())
    (place / "tokenizer_config.json").write_text(json.dumps({**made, "tokenizer_class": "PreTrainedTokenizerFast"}))
    return place


def test_a_t5_is_read_from_a_folder(folder, capfd):
    found = load_text_encoder(f"t5:{folder}", longest=8)
    embedded = found.encode(["a red ring", "ring"])
    assert embedded.tokens.shape == (2, 4, 16)
    assert embedded.mask.sum(dim=1).tolist() == [4, 2]
    assert found.spans("a red ring") == [(0, 1), (2, 5), (6, 10), (0, 0)]
    assert embedded.tokens.dtype == torch.float32 and bool(embedded.tokens.isfinite().all())


def test_a_clip_is_read_from_a_folder(folder, capfd):
    settings = transformers.CLIPTextConfig(
        vocab_size=6, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, eos_token_id=1
    )
    transformers.CLIPTextModel(settings).save_pretrained(folder)
    found = load_text_encoder(f"clip:{folder}", longest=99)
    embedded = found.encode(["a red ring", "ring"])
    assert found.longest == 77
    assert torch.equal(embedded.pooled[1], embedded.tokens[1, 1])  # the end mark's
    assert embedded.pooled.shape == (2, 16)


def test_the_digest_is_that_of_the_weights(folder, capfd):
    first = load_text_encoder(f"t5:{folder}", longest=8).digest
    model = transformers.T5EncoderModel.from_pretrained(folder)
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    model.save_pretrained(folder)
    assert load_text_encoder(f"t5:{folder}", longest=8).digest != first


def test_a_missing_one_says_what_to_do(monkeypatch):
    monkeypatch.setattr(
        "transformers.AutoTokenizer.from_pretrained", lambda *a, **k: (_ for _ in ()).throw(OSError("no net"))
    )
    with pytest.raises(MissingWeightsError, match=r"No text encoder 't5:google/nothing' was found. Do one of these"):
        load_text_encoder("t5:google/nothing")
