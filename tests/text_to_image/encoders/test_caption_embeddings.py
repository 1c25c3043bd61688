import pytest
import torch
from torch.testing import assert_close

from lossmith.text_to_image.encoders import (
    CaptionEmbeddings,
    EmbeddingStandardizer,
    TextEmbedding,
    load_text_encoder,
    null_embedding,
)

CAPTIONS = ["a red ring", "a small blue star on the left", "stars", "a red star"]


@pytest.fixture
def words():
    return load_text_encoder("words", captions=CAPTIONS)


def test_embeddings_equal_those_of_the_encoder(words):
    found = CaptionEmbeddings(words, CAPTIONS).get_batch([0, 1, 2, 3])
    for ours, theirs in zip(found, words.encode(CAPTIONS), strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)


def test_cached_embeddings_are_not_computed_again(words, tmp_path, monkeypatch):
    first = CaptionEmbeddings(words, CAPTIONS, folder=tmp_path).get_batch([3, 0])
    monkeypatch.setattr(type(words), "forward", None)
    again = CaptionEmbeddings(words, CAPTIONS[::-1], folder=tmp_path).get_batch([0, 3])
    assert_close(tuple(again), tuple(first), rtol=0, atol=0)


def test_only_new_captions_are_computed(words, tmp_path, monkeypatch):
    CaptionEmbeddings(words, CAPTIONS[:3], folder=tmp_path)
    counts, embed_tokens = [], type(words).embed_tokens
    monkeypatch.setattr(
        type(words), "embed_tokens", lambda self, prompts: counts.append(len(prompts)) or embed_tokens(self, prompts)
    )
    CaptionEmbeddings(words, CAPTIONS, folder=tmp_path)
    assert counts == [1]


def test_another_encoder_does_not_use_the_cache(words, tmp_path):
    CaptionEmbeddings(words, CAPTIONS, folder=tmp_path)
    other = load_text_encoder("words", captions=CAPTIONS, seed=1)
    found = CaptionEmbeddings(other, CAPTIONS, folder=tmp_path).get_batch([0])
    assert_close(found.pooled, other.encode(CAPTIONS[:1]).pooled)


def test_a_damaged_cache_file_is_computed_again(words, tmp_path):
    CaptionEmbeddings(words, CAPTIONS, folder=tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    found = CaptionEmbeddings(words, CAPTIONS, folder=tmp_path).get_batch([1])
    assert_close(found.pooled, words.encode(CAPTIONS[1:2]).pooled)


def test_a_cache_that_cannot_be_written_warns_and_keeps_embeddings_in_memory(words, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="are kept in memory"):
        found = CaptionEmbeddings(words, CAPTIONS, folder=tmp_path / "file")
    assert len(found) == 4


def test_phrases_become_token_masks(words):
    found = CaptionEmbeddings(words, CAPTIONS)
    masks = found.phrase_masks(1, [(2, 17), (0, 0)])
    assert CAPTIONS[1][2:17] == "small blue star"
    assert masks.int().tolist() == [[0, 1, 1, 1, 0, 0, 0], [0] * 7]


def test_standardized_tokens_have_mean_0_and_standard_deviation_1(words):
    found = CaptionEmbeddings(words, CAPTIONS)
    standardizer = found.fit_standardizer()
    tokens, mask, pooled = found.get_batch(range(4))
    flat = tokens[mask]
    varied = standardizer.std[0] != 1
    assert_close(flat.mean(dim=0), torch.zeros(128), atol=1e-4, rtol=0)
    assert_close(flat.std(dim=0, correction=0)[varied], torch.ones(int(varied.sum())), atol=1e-3, rtol=0)
    assert_close(pooled.mean(dim=0), torch.zeros(128), atol=1e-4, rtol=0)


def test_padding_and_null_embeddings_stay_zeros(words):
    standardizer = CaptionEmbeddings(words, CAPTIONS).fit_standardizer()
    padded = standardizer(words.encode(["ring", "a red ring"]))
    assert not padded.tokens[0, 1:].any()
    null = standardizer(null_embedding(2, 3, 128))
    assert not null.tokens.any() and not null.pooled.any()


def test_statistics_are_part_of_the_state_dict(words):
    standardizer = CaptionEmbeddings(words, CAPTIONS).fit_standardizer()
    other = EmbeddingStandardizer(128)
    other.load_state_dict(standardizer.state_dict())
    assert_close(tuple(other(words.encode(CAPTIONS))), tuple(standardizer(words.encode(CAPTIONS))))


@pytest.mark.parametrize("std", ["std", "deviation"])
def test_statistics_of_a_header_are_read_under_their_present_and_their_former_name(words, std):
    standardizer = CaptionEmbeddings(words, CAPTIONS).fit_standardizer()
    statistics = {"mean": standardizer.mean.tolist(), std: standardizer.std.tolist()}
    assert_close(EmbeddingStandardizer.from_statistics(statistics).state_dict(), standardizer.state_dict())


def test_statistics_fitted_in_parts_equal_those_of_the_whole(words):
    whole = words.encode(CAPTIONS)
    parts = [TextEmbedding(*(part[k : k + 2] for part in whole)) for k in (0, 2)]
    assert_close(EmbeddingStandardizer(128).fit(parts).state_dict(), EmbeddingStandardizer(128).fit(whole).state_dict())


def test_truncated_captions_give_one_warning(words):
    long = [f"a red {'ring ' * n}" for n in (80, 90, 3)]
    with pytest.warns(UserWarning, match="2 of 3 captions have more than the 64 tokens that words reads") as warned:
        assert CaptionEmbeddings(words, long).length == 64
    assert len(warned) == 1


def test_an_empty_list_of_captions_raises(words):
    with pytest.raises(ValueError, match="at least one caption"):
        CaptionEmbeddings(words, [])
