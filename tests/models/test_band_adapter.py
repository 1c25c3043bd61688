"""A network for RGB images on images of other bands."""

import pytest
import torch

from lossmith.models import EDSR, BandAdapter, Inpainter, adapt_channels, build_network, load_network, save_network


@pytest.fixture
def trained():
    torch.manual_seed(0)
    network = EDSR(2, channels=4, blocks=1)
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    return network.eval()


@pytest.mark.parametrize("mode", ["mean", "each"])
@pytest.mark.parametrize("bands", [1, 2, 4, 13])
def test_equal_bands_give_the_grey_answer(trained, bands, mode):
    grey = torch.rand(2, 1, 6, 7)
    answer = trained(grey.expand(-1, 3, -1, -1)).mean(dim=1, keepdim=True)
    adapted = BandAdapter(trained, image_channels=bands, mode=mode)
    torch.testing.assert_close(adapted(grey.expand(-1, bands, -1, -1)), answer.expand(-1, bands, -1, -1))


def test_bands_keep_their_differences_before_training(trained):
    image = torch.rand(1, 5, 6, 7) + torch.arange(5.0).view(1, 5, 1, 1)
    output = BandAdapter(trained, image_channels=5)(image)
    torch.testing.assert_close(output.diff(dim=1).mean(), image.diff(dim=1).mean(), rtol=0.1, atol=0)


def test_each_band_is_restored_alone(trained):
    image = torch.rand(2, 4, 6, 7)
    adapted = BandAdapter(trained, image_channels=4, mode="each")
    changed = image.clone()
    changed[:, 1] = 0
    same = [0, 2, 3]
    torch.testing.assert_close(adapted(changed)[:, same], adapted(image)[:, same])


def test_all_weights_are_trained(trained):
    adapted = BandAdapter(trained, image_channels=4)
    adapted(torch.rand(1, 4, 6, 7)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in adapted.parameters())


def test_an_adapted_network_survives_its_file(trained, tmp_path):
    adapted = BandAdapter(trained, image_channels=5)
    torch.nn.init.normal_(adapted.mix_in.weight)
    save_network(adapted, tmp_path / "bands.safetensors", {})
    loaded = load_network(tmp_path / "bands.safetensors")[0]
    image = torch.rand(1, 5, 8, 8)
    torch.testing.assert_close(loaded(image), adapted(image))
    assert (loaded.image_channels, loaded.in_channels) == (5, 5)


def test_a_file_of_rgb_is_adapted_on_request(trained, tmp_path):
    save_network(trained, tmp_path / "rgb.safetensors", {})
    adapted = build_network(str(tmp_path / "rgb.safetensors"), 2, image_channels=8)
    assert isinstance(adapted, BandAdapter) and adapted.image_channels == 8
    assert build_network(str(tmp_path / "rgb.safetensors"), 2, image_channels=3).spec["name"] == "edsr"


def test_a_network_of_the_right_channels_is_returned_itself(trained):
    assert adapt_channels(trained, 3) is trained


def test_a_network_with_a_mask_is_refused():
    with pytest.raises(ValueError, match="inpainter takes 1 channels besides the image and cannot be adapted"):
        adapt_channels(Inpainter(channels=4, blocks=1), 5)


def test_a_published_architecture_is_adapted():
    pytest.importorskip("spandrel")
    adapted = build_network("spandrel:Compact", 4, image_channels=5, num_feat=8, num_conv=1)
    assert adapted(torch.rand(1, 5, 8, 8)).shape == (1, 5, 32, 32)
