import copy

import pytest
import torch

from lossmith import calibrate, parse
from lossmith.image import to_pil
from lossmith.models import build_network, load_restorer, run_tiled, save_network
from lossmith.models.files import read_header
from lossmith.style_transfer import StyleNetwork, StyleTransfer
from lossmith.style_transfer.image_sizes import resize_longer_side
from lossmith.train.task_loss import pin_constant_inputs


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = StyleNetwork(channels=4, blocks=1).eval()
    torch.nn.init.normal_(model.tail.weight, std=0.1)  # as after training
    return model


def test_an_untrained_network_returns_grey_so_that_no_colour_is_saturated():
    model = StyleNetwork(channels=4, blocks=1)
    for value in (0.0, 1.0):
        output = model(torch.full((1, 3, 16, 16), value))
        assert (output - 0.5).abs().max() < 0.2
        model.zero_grad()
        output.sum().backward()
        assert model.tail.bias.grad.abs().min() > 1


@pytest.mark.parametrize("size", [(16, 16), (17, 23), (40, 33)])
def test_the_output_has_the_size_of_the_input_and_is_in_range(network, size):
    output = network(torch.rand(2, 3, *size))
    assert output.shape == (2, 3, *size) and output.min() >= 0 and output.max() <= 1


def test_the_output_does_not_depend_on_the_batch(network):
    images = torch.rand(3, 3, 24, 24)
    torch.testing.assert_close(network(images)[1:2], network(images[1:2]))


def test_the_output_in_tiles_is_that_of_the_whole_image(network):
    image = torch.rand(1, 3, 40, 56)
    torch.testing.assert_close(run_tiled(network, image, tile=16), network(image).detach())


def test_the_output_of_a_constant_image_has_no_checkerboard(network):
    output = network(torch.full((1, 3, 64, 64), 0.5))[..., 24:40, 24:40]
    torch.testing.assert_close(output, output[..., :1, :1].expand_as(output), atol=1e-5, rtol=0)


def test_a_saved_network_loads(network, tmp_path):
    save_network(network, tmp_path / "model.safetensors", {"task": "style"})
    image = torch.rand(1, 3, 20, 20)
    torch.testing.assert_close(load_restorer(tmp_path / "model.safetensors")[0](image), network(image))
    assert build_network("style-network", 1, channels=4, blocks=1).spec == network.spec


def test_a_file_under_the_former_name_of_the_network_loads(network, tmp_path):
    old = copy.copy(network)
    old.spec = {**network.spec, "name": "stylist"}
    save_network(old, tmp_path / "model.safetensors", {"task": "style"})
    assert read_header(tmp_path / "model.safetensors")["model"]["name"] == "stylist"
    assert load_restorer(tmp_path / "model.safetensors")[0].spec == network.spec


def test_an_image_that_is_too_small_raises(network):
    with pytest.raises(ValueError, match="at least 16 px a side; got 8x20"):
        network(torch.rand(1, 3, 8, 20))


@pytest.fixture
def task(tmp_path):
    generator = torch.Generator().manual_seed(0)
    to_pil(torch.rand(3, 40, 80, generator=generator)).save(tmp_path / "style.png")
    return StyleTransfer(style=str(tmp_path / "style.png"), style_side=40)


def test_the_task_provides_the_style_for_each_content(task):
    inputs = task.compute_inputs(lambda image: image / 2, {"input": torch.rand(2, 3, 16, 16)})
    assert sorted(inputs) == sorted(task.provided_inputs)
    assert inputs["style"].shape == (2, 3, 20, 40)
    torch.testing.assert_close(inputs["pred"], inputs["content"] / 2)
    torch.testing.assert_close(task.constant_inputs()["style"].expand(2, -1, -1, -1), inputs["style"])


def test_crops_shift_the_pooling_grids_of_the_loss(task):
    torch.manual_seed(0)
    ramp = torch.arange(40.0).expand(1, 3, 40, 40)
    crops = [task.compute_inputs(lambda image: image, {"input": ramp})["pred"] for _ in range(60)]
    assert {crop.shape for crop in crops} == {(1, 3, 33, 33)}
    assert {int(crop[0, 0, 0, 0]) % 8 for crop in crops} == set(range(8))


def test_shares_are_measured_between_content_and_style_where_the_content_term_has_a_gradient(task):
    inputs = task.compute_inputs(lambda image: image, {"input": torch.rand(2, 3, 24, 24)})
    shares = parse('30% * L2.on(target="content") + 70% * (L2 @ Gram).on(target="style")')
    terms = calibrate(shares, task.calibration_inputs(inputs)).terms
    assert [term.share for term in terms] == [pytest.approx(0.3), pytest.approx(0.7)]


def test_features_of_the_style_are_computed_once_with_equal_values(task):
    loss = parse("L1.on(target='content') + style('vgg16', 'relu1_1', weights='random').on(target='style')")
    inputs = task.compute_inputs(lambda image: image / 2, {"input": torch.rand(2, 3, 24, 24)})
    pinned_loss = pin_constant_inputs(loss, task)
    for name, value in loss.evaluate(inputs).items():
        torch.testing.assert_close(pinned_loss.evaluate(inputs)[name], value)
    assert pinned_loss.kept_bytes > 0 and loss.input_names - pinned_loss.input_names == {"style"}


def test_a_style_that_cannot_be_read_raises_before_the_run(tmp_path):
    (tmp_path / "style.png").write_text("no image")
    task = StyleTransfer(style=str(tmp_path / "style.png"))
    with pytest.raises(ValueError, match=r"style\.png' cannot be read as an image: the content is not an image"):
        task.training_set([tmp_path / "style.png"], crop=16, seed=0)


def test_resizing_sets_the_longer_side():
    assert resize_longer_side(torch.rand(1, 3, 30, 60), 20).shape == (1, 3, 10, 20)
