import pytest
import torch
from torch.testing import assert_close

from lossmith.text_to_image.encoders import load_text_encoder


@pytest.fixture(scope="module")
def minilm(assets):
    return load_text_encoder("minilm", weights=assets / "weights" / "minilm_l6_v2_int8.safetensors")


def test_cosines_are_the_published_ones(minilm):
    """Those of the float32 original, of which the file keeps 8 bits: bread .7553, cheetah .1419."""
    eating, bread, cheetah = minilm.encode(
        ["A man is eating food.", "A man is eating a piece of bread.", "A cheetah is running behind its prey."]
    ).pooled
    assert_close(eating @ bread, torch.tensor(0.7553), atol=0.01, rtol=0)
    assert_close(eating @ cheetah, torch.tensor(0.1419), atol=0.01, rtol=0)


def test_states_agree_with_transformers(minilm):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    theirs = transformers.BertModel(config, add_pooling_layer=False).eval()
    theirs.load_state_dict(minilm.state)
    prompts = ["a large red circle on the left", "Un café flambé, 猫"]
    ours = minilm.encode(prompts)
    for i, prompt in enumerate(prompts):
        ids = torch.tensor([[token.id for token in minilm.tokenize(prompt)]])
        assert_close(ours.tokens[i][ours.mask[i]], theirs(ids).last_hidden_state[0], atol=1e-5, rtol=0)


def test_a_truncated_prompt_keeps_its_end_token(minilm):
    tokens = minilm.tokenize("word " * 10_000)
    assert len(minilm.truncate(tokens)) == 64
    assert minilm.truncate(tokens)[-1] == tokens[-1]


def test_every_embedding_is_finite(minilm):
    embedding = minilm.encode(["", "猫がいる", "🦊", "\x00", "x" * 5000])
    assert all(part.isfinite().all() for part in embedding)
