import pytest
import torch

from lossmith import calibrate, parse
from lossmith.image import to_pil
from lossmith.models import (
    build_network,
    load_restorer,
    save_network,
    run_tiled,
)
from lossmith.style_transfer.feedforward import StyleNetwork
from lossmith.style_transfer.task import StyleTransfer, resize_longer_side
from lossmith.train.task_loss import pin_constant_inputs


@pytest.fixture
def stylist():
    torch.manual_seed(0)
    made = StyleNetwork(channels=4, blocks=1).eval()
    torch.nn.init.normal_(made.tail.weight, std=0.1)  # as if it had learnt something
    return made


def test_an_untrained_stylist_gives_grey_so_that_no_colour_is_saturated_before_it_is_learnt():
    model = StyleNetwork(channels=4, blocks=1)
    for shade in (0.0, 1.0):
        made = model(torch.full((1, 3, 16, 16), shade))
        assert (made - 0.5).abs().max() < 0.2
        model.zero_grad()
        made.sum().backward()
        assert model.tail.bias.grad.abs().min() > 1


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (40, 33)])
def test_a_stylist_keeps_the_size_and_the_range(stylist, size):
    made = stylist(torch.rand(2, 3, *size))
    assert made.shape == (2, 3, *size) and made.min() >= 0 and made.max() <= 1


def test_a_picture_of_its_own_statistics_does_not_depend_on_its_batch(stylist):
    pictures = torch.rand(3, 3, 24, 24)
    torch.testing.assert_close(stylist(pictures)[1:2], stylist(pictures[1:2]))


def test_in_tiles_it_paints_what_it_paints_in_one_piece(stylist):
    picture = torch.rand(1, 3, 40, 56)
    torch.testing.assert_close(run_tiled(stylist, picture, tile=16), stylist(picture).detach())


def test_a_plain_picture_gets_no_checkerboard(stylist):
    made = stylist(torch.full((1, 3, 64, 64), 0.5))[..., 24:40, 24:40]
    torch.testing.assert_close(made, made[..., :1, :1].expand_as(made), atol=1e-5, rtol=0)


def test_it_travels_in_a_file(stylist, tmp_path):
    save_network(stylist, tmp_path / "model.safetensors", {"task": "style"})
    picture = torch.rand(1, 3, 20, 20)
    torch.testing.assert_close(load_restorer(tmp_path / "model.safetensors")[0](picture), stylist(picture))
    assert build_network("stylist", 1, channels=4, blocks=1).spec == stylist.spec


def test_a_picture_too_small_is_refused(stylist):
    with pytest.raises(ValueError, match="at least 16 px a side; got 8x20"):
        stylist(torch.rand(1, 3, 8, 20))


@pytest.fixture
def task(tmp_path):
    chance = torch.Generator().manual_seed(0)
    to_pil(torch.rand(3, 40, 80, generator=chance)).save(tmp_path / "style.png")
    return StyleTransfer(style=str(tmp_path / "style.png"), style_side=40)


def test_the_task_shows_the_style_beside_each_content(task):
    views = task.compute_inputs(lambda image: image / 2, {"input": torch.rand(2, 3, 16, 16)})
    assert sorted(views) == sorted(task.provided_inputs)
    assert views["style"].shape == (2, 3, 20, 40)
    torch.testing.assert_close(views["pred"], views["content"] / 2)
    torch.testing.assert_close(task.constant_inputs()["style"].expand(2, -1, -1, -1), views["style"])


def test_the_grids_of_the_losss_networks_move_over_the_painting(task):
    torch.manual_seed(0)
    across = torch.arange(40.0).expand(1, 3, 40, 40)
    seen = [task.compute_inputs(lambda image: image, {"input": across})["pred"] for _ in range(60)]
    assert {view.shape for view in seen} == {(1, 3, 33, 33)}
    assert {int(view[0, 0, 0, 0]) % 8 for view in seen} == set(range(8))


def test_shares_are_measured_half_way_to_the_style_where_the_content_pulls(task):
    views = task.compute_inputs(lambda image: image, {"input": torch.rand(2, 3, 24, 24)})
    shares = parse('30% * L2.on(target="content") + 70% * (L2 @ Gram).on(target="style")')
    rows = calibrate(shares, task.calibration_inputs(views)).rows
    assert [row.share for row in rows] == [pytest.approx(0.3), pytest.approx(0.7)]


def test_the_style_is_shown_to_networks_once_and_the_value_is_the_same(task):
    loss = parse("L1.on(target='content') + style('vgg16', 'relu1_1', weights='random').on(target='style')")
    views, kept = task.compute_inputs(lambda image: image / 2, {"input": torch.rand(2, 3, 24, 24)}), pin_constant_inputs(loss, task)
    for name, value in loss.evaluate(views).items():
        torch.testing.assert_close(kept.evaluate(views)[name], value)
    assert kept.kept_bytes > 0 and loss.input_names - kept.input_names == {"style"}


def test_a_style_that_cannot_be_read_is_refused_before_the_run(tmp_path):
    (tmp_path / "style.png").write_text("no picture")
    task = StyleTransfer(style=str(tmp_path / "style.png"))
    with pytest.raises(ValueError, match=r"style\.png' cannot be read as an image: the content is not an image"):
        task.training_set([tmp_path / "style.png"], crop=16, seed=0)


def test_sized_has_the_longer_side_that_is_asked_for():
    assert resize_longer_side(torch.rand(1, 3, 30, 60), 20).shape == (1, 3, 10, 20)
