import pytest
import torch
from torch.testing import assert_close

from lossmith.text_to_image.encoders import load_text_encoder


@pytest.fixture(scope="module")
def minilm(assets):
    return load_text_encoder("minilm", weights=assets / "weights" / "minilm_l6_v2_int8.safetensors")


def test_it_gives_the_published_cosines(minilm):
    """Those of the float32 original, of which the file keeps 8 bits: bread .7553, cheetah .1419."""
    eating, bread, cheetah = minilm.encode(
        ["A man is eating food.", "A man is eating a piece of bread.", "A cheetah is running behind its prey."]
    ).pooled
    assert_close(eating @ bread, torch.tensor(0.7553), atol=0.01, rtol=0)
    assert_close(eating @ cheetah, torch.tensor(0.1419), atol=0.01, rtol=0)


def test_it_agrees_with_transformers(minilm):
    transformers = pytest.importorskip("transformers")
    settings = transformers.BertConfig(
        vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    theirs = transformers.BertModel(settings, add_pooling_layer=False).eval()
    theirs.load_state_dict(minilm.state)
    prompts = ["a large red circle on the left", "Un café flambé, 猫"]
    ours = minilm.encode(prompts)
    for i, prompt in enumerate(prompts):
        row = torch.tensor([[token.number for token in minilm.whole(prompt)]])
        assert_close(ours.tokens[i][ours.mask[i]], theirs(row).last_hidden_state[0], atol=1e-5, rtol=0)


def test_a_long_prompt_keeps_its_end_mark(minilm):
    tokens = minilm.kept(minilm.whole("word " * 10_000))
    assert len(tokens) == 64
    assert tokens[-1].number == minilm.wordpiece.end


def test_every_prompt_is_finite(minilm):
    embedded = minilm.encode(["", "猫がいる", "🦊", "\x00", "x" * 5000])
    assert all(part.isfinite().all() for part in embedded)
