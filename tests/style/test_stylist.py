import pytest
import torch

from lossmith.models import Stylist, build, load, save, tiled
from lossmith.tasks import StyleTransfer
from lossmith.tasks.style_transfer import sized


@pytest.fixture
def stylist():
    torch.manual_seed(0)
    return Stylist(channels=4, blocks=1).eval()


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (40, 33)])
def test_a_stylist_keeps_the_size_and_the_range(stylist, size):
    made = stylist(torch.rand(2, 3, *size))
    assert made.shape == (2, 3, *size) and made.min() >= 0 and made.max() <= 1


def test_a_picture_of_its_own_statistics_does_not_depend_on_its_batch(stylist):
    pictures = torch.rand(3, 3, 24, 24)
    torch.testing.assert_close(stylist(pictures)[1:2], stylist(pictures[1:2]))


def test_in_tiles_it_paints_what_it_paints_in_one_piece(stylist):
    picture = torch.rand(1, 3, 40, 56)
    torch.testing.assert_close(tiled(stylist, picture, tile=16), stylist(picture).detach())


def test_a_plain_picture_gets_no_checkerboard(stylist):
    made = stylist(torch.full((1, 3, 64, 64), 0.5))[..., 24:40, 24:40]
    torch.testing.assert_close(made, made[..., :1, :1].expand_as(made), atol=1e-5, rtol=0)


def test_it_travels_in_a_file(stylist, tmp_path):
    save(stylist, tmp_path / "model.safetensors", {"task": "style"})
    picture = torch.rand(1, 3, 20, 20)
    torch.testing.assert_close(load(tmp_path / "model.safetensors")[0](picture), stylist(picture))
    assert build("stylist", 1, channels=4, blocks=1).spec == stylist.spec


def test_a_picture_too_small_is_refused(stylist):
    with pytest.raises(ValueError, match="at least 16 px a side; got 8x20"):
        stylist(torch.rand(1, 3, 8, 20))


def test_the_task_shows_the_style_beside_each_content(tmp_path):
    from lossmith.image import to_pil

    to_pil(torch.rand(3, 40, 80)).save(tmp_path / "style.png")
    task = StyleTransfer(style=str(tmp_path / "style.png"), style_side=40)
    views = task.views(lambda image: image / 2, {"input": torch.rand(2, 3, 16, 16)})
    assert sorted(views) == sorted(task.gives)
    assert views["style"].shape == (2, 3, 20, 40)
    torch.testing.assert_close(views["pred"], views["content"] / 2)


def test_a_style_that_cannot_be_read_is_refused_before_the_run(tmp_path):
    (tmp_path / "style.png").write_text("no picture")
    task = StyleTransfer(style=str(tmp_path / "style.png"))
    with pytest.raises(ValueError, match=r"style\.png' cannot be read as a picture: it is no picture"):
        task.training([tmp_path / "style.png"], crop=16, seed=0)


def test_sized_has_the_longer_side_that_is_asked_for():
    assert sized(torch.rand(1, 3, 30, 60), 20).shape == (1, 3, 10, 20)
