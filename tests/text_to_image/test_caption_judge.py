import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lossmith import CLIPLoss
from lossmith.text_to_image.metrics.caption_judge import CaptionJudge
from lossmith.text_to_image.metrics.r_precision import sample_mismatched_captions, r_precision


@pytest.fixture
def judge():
    torch.manual_seed(0)
    return CaptionJudge(32).eval()


def test_it_is_small(judge):
    assert sum(each.numel() for each in judge.parameters()) < 2_000_000


def test_it_learns_which_caption_belongs_to_which_picture(judge):
    pictures = torch.eye(3)[:, :, None, None].expand(3, 3, 32, 32)
    texts = ["a red page", "a green page", "a blue page"]
    optimizer, loss = torch.optim.AdamW(judge.parameters(), lr=2e-3), CLIPLoss()
    for _ in range(16):
        optimizer.zero_grad()
        loss(image=judge(pictures), text=judge.captions(texts)).backward()
        optimizer.step()
    faded = judge.judged(0.9 * pictures + 0.05, texts)
    assert r_precision(*faded, sample_mismatched_captions(range(3), range(3), count=2)).value == 1


def test_the_order_of_words_counts(judge):
    one, other = judge.captions(["a red ring above a blue star", "a blue star above a red ring"])
    assert (one - other).abs().max() > 1e-3


def test_captions_are_read_alike_in_any_company(judge):
    texts = ["a red ring", "", "猫がいる", "word " * 10_000]
    together = judge.captions(texts)
    assert bool(together.isfinite().all())
    for i, text in enumerate(texts):
        assert_close(judge.captions([text])[0], together[i], rtol=1e-4, atol=1e-6)


def test_it_travels_as_a_file(judge, tmp_path):
    judge.save(tmp_path / "judge.safetensors")
    again = CaptionJudge.load(tmp_path / "judge.safetensors")
    picture = torch.rand(1, 3, 64, 64)
    assert torch.equal(again(picture), judge(picture))
    assert len(again.digest) == 64 and again.side == 32


def test_a_file_that_holds_no_judge_is_named(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("a text")
    for name in ("other", "text", "none"):
        with pytest.raises(ValueError, match=rf"{name}.safetensors' holds none"):
            CaptionJudge.load(tmp_path / f"{name}.safetensors")


def test_a_side_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="a multiple of 16"):
        CaptionJudge(40)
