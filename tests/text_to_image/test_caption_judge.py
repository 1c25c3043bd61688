import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lossmith.losses import CLIPLoss
from lossmith.text_to_image.metrics import CaptionJudge, r_precision, sample_mismatched_captions


@pytest.fixture
def judge():
    torch.manual_seed(0)
    return CaptionJudge(32).eval()


def test_the_judge_has_less_than_two_million_parameters(judge):
    assert sum(each.numel() for each in judge.parameters()) < 2_000_000


def test_the_judge_learns_which_caption_belongs_to_which_image(judge):
    images = torch.eye(3)[:, :, None, None].expand(3, 3, 32, 32)
    captions = ["a red page", "a green page", "a blue page"]
    optimizer, loss = torch.optim.AdamW(judge.parameters(), lr=2e-3), CLIPLoss()
    for _ in range(16):
        optimizer.zero_grad()
        loss(image=judge(images), text=judge.encode_captions(captions)).backward()
        optimizer.step()
    faded = judge.embed(0.9 * images + 0.05, captions)
    assert r_precision(*faded, sample_mismatched_captions(range(3), range(3), count=2)).value == 1


def test_the_order_of_words_counts(judge):
    one, other = judge.encode_captions(["a red ring above a blue star", "a blue star above a red ring"])
    assert (one - other).abs().max() > 1e-3


def test_the_vector_of_a_caption_does_not_depend_on_its_batch(judge):
    captions = ["a red ring", "", "猫がいる", "word " * 10_000]
    together = judge.encode_captions(captions)
    assert bool(together.isfinite().all())
    for i, caption in enumerate(captions):
        assert_close(judge.encode_captions([caption])[0], together[i], rtol=1e-4, atol=1e-6)


def test_a_saved_judge_loads(judge, tmp_path):
    judge.save(tmp_path / "judge.safetensors")
    again = CaptionJudge.load(tmp_path / "judge.safetensors")
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(again(image), judge(image))
    assert len(again.digest) == 64 and again.side == 32


def test_a_file_with_the_former_names_of_the_towers_loads(judge, tmp_path):
    judge.save(tmp_path / "new.safetensors")
    former = {"image_tower": "eye", "text_tower": "ear"}
    state = {
        ".".join(former.get(part, part) for part in key.split(".")): value
        for key, value in load_file(tmp_path / "new.safetensors").items()
    }
    save_file(state, tmp_path / "old.safetensors", metadata={"kind": "caption judge", "side": "32"})
    assert_close(CaptionJudge.load(tmp_path / "old.safetensors").state_dict(), judge.state_dict())


def test_a_file_without_a_judge_raises_with_its_name(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("a text")
    for name in ("other", "text", "none"):
        with pytest.raises(ValueError, match=rf"{name}.safetensors' is not the weight file of a caption judge"):
            CaptionJudge.load(tmp_path / f"{name}.safetensors")


def test_a_side_that_is_no_multiple_of_16_raises():
    with pytest.raises(ValueError, match="a multiple of 16"):
        CaptionJudge(40)
