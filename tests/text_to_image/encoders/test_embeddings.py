import pytest
import torch
from torch.testing import assert_close

from lossmith.text_to_image.encoders import (
    TextEmbedding,
    CaptionEmbeddings,
    EmbeddingStandardizer,
    load_text_encoder,
    null_embedding,
)

CAPTIONS = ["a red ring", "a small blue star on the left", "stars", "a red star"]


@pytest.fixture
def words():
    return load_text_encoder("words", captions=CAPTIONS)


def test_they_are_what_the_encoder_gives(words):
    found = CaptionEmbeddings(words, CAPTIONS).batch([0, 1, 2, 3])
    for ours, theirs in zip(found, words.encode(CAPTIONS), strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)


def test_what_is_on_disk_is_not_computed_again(words, tmp_path, monkeypatch):
    first = CaptionEmbeddings(words, CAPTIONS, folder=tmp_path).batch([3, 0])
    monkeypatch.setattr(type(words), "look", None)
    again = CaptionEmbeddings(words, CAPTIONS[::-1], folder=tmp_path).batch([0, 3])
    assert_close(tuple(again), tuple(first), rtol=0, atol=0)


def test_only_new_captions_are_computed(words, tmp_path, monkeypatch):
    CaptionEmbeddings(words, CAPTIONS[:3], folder=tmp_path)
    seen, rows = [], type(words).rows
    monkeypatch.setattr(type(words), "rows", lambda self, prompts: seen.append(len(prompts)) or rows(self, prompts))
    CaptionEmbeddings(words, CAPTIONS, folder=tmp_path)
    assert seen == [1]


def test_another_encoder_does_not_read_them(words, tmp_path):
    CaptionEmbeddings(words, CAPTIONS, folder=tmp_path)
    other = load_text_encoder("words", captions=CAPTIONS, seed=1)
    assert_close(CaptionEmbeddings(other, CAPTIONS, folder=tmp_path).batch([0]).pooled, other.encode(CAPTIONS[:1]).pooled)


def test_a_broken_file_is_computed_again(words, tmp_path):
    CaptionEmbeddings(words, CAPTIONS, folder=tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    assert_close(CaptionEmbeddings(words, CAPTIONS, folder=tmp_path).batch([1]).pooled, words.encode(CAPTIONS[1:2]).pooled)


def test_a_folder_that_cannot_be_written_is_said_and_does_without(words, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="stay in memory"):
        found = CaptionEmbeddings(words, CAPTIONS, folder=tmp_path / "file")
    assert len(found) == 4


def test_phrases_become_tokens(words):
    found = CaptionEmbeddings(words, CAPTIONS)
    speaking = found.speaking(1, [(2, 17), (0, 0)])
    assert CAPTIONS[1][2:17] == "small blue star"
    assert speaking.int().tolist() == [[0, 1, 1, 1, 0, 0, 0], [0] * 7]


def test_standardised_tokens_have_mean_0_and_deviation_1(words):
    found = CaptionEmbeddings(words, CAPTIONS)
    standard = found.standardise()
    tokens, mask, pooled = found.batch(range(4))
    flat = tokens[mask]
    varied = standard.deviation[0] != 1
    assert_close(flat.mean(dim=0), torch.zeros(128), atol=1e-4, rtol=0)
    assert_close(flat.std(dim=0, correction=0)[varied], torch.ones(int(varied.sum())), atol=1e-3, rtol=0)
    assert_close(pooled.mean(dim=0), torch.zeros(128), atol=1e-4, rtol=0)


def test_padding_and_nulls_stay_zeros(words):
    standard = CaptionEmbeddings(words, CAPTIONS).standardise()
    some = standard(words.encode(["ring", "a red ring"]))
    assert not some.tokens[0, 1:].any()
    nothing = standard(null_embedding(2, 3, 128))
    assert not nothing.tokens.any() and not nothing.pooled.any()


def test_the_statistics_travel_with_the_state(words):
    standard = CaptionEmbeddings(words, CAPTIONS).standardise()
    other = EmbeddingStandardizer(128)
    other.load_state_dict(standard.state_dict())
    assert_close(tuple(other(words.encode(CAPTIONS))), tuple(standard(words.encode(CAPTIONS))))


def test_statistics_in_parts_are_those_of_the_whole(words):
    whole = words.encode(CAPTIONS)
    parts = [TextEmbedding(*(part[k : k + 2] for part in whole)) for k in (0, 2)]
    assert_close(EmbeddingStandardizer(128).fit(parts).state_dict(), EmbeddingStandardizer(128).fit(whole).state_dict())


def test_captions_that_are_too_long_are_said_once(words):
    long = [f"a red {'ring ' * n}" for n in (80, 90, 3)]
    with pytest.warns(UserWarning, match="2 of 3 captions have more than the 64 tokens that words reads") as said:
        assert CaptionEmbeddings(words, long).length == 64
    assert len(said) == 1


def test_no_captions_are_refused(words):
    with pytest.raises(ValueError, match="at least one caption"):
        CaptionEmbeddings(words, [])
