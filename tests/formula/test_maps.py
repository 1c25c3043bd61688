import pytest
import torch
from torch.testing import assert_close

from lossmith import L1, L2, SSIM, Charbonnier, parse
from lossmith.losses import Huber, Lp


def images(**other: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pred, target = (torch.rand(2, 3, 24, 20, generator=generator) for _ in range(2))
    return {"pred": pred, "target": target, **other}


@pytest.mark.parametrize(
    "loss",
    [L1(), L2(), Lp(1.5), Charbonnier(), Charbonnier(bands="joint"), Huber(), SSIM(7), parse("L1 @ YCbCr")],
    ids=repr,
)
def test_the_mean_of_a_map_is_the_value_of_the_term(loss):
    ((name, values),) = loss.evaluate(images()).items()
    assert_close(loss.maps(images())[name].mean(dim=(1, 2, 3)), values)


def test_the_means_of_the_layers_add_up_to_the_value():
    loss = parse('L1 @ VGG("vgg16", {"conv1_2": 0.5, "conv2_2": 2.0}, weights="random")')
    maps = loss.maps(images())
    assert {name: tuple(each.shape) for name, each in maps.items()} == {
        "VGG.conv1_2": (2, 64, 24, 20),
        "VGG.conv2_2": (2, 128, 12, 10),
    } or len(maps) == 2
    assert_close(sum(each.mean(dim=(1, 2, 3)) for each in maps.values()), next(iter(loss.evaluate(images()).values())))


def test_the_map_of_ssim_is_low_where_the_images_agree():
    given = images()
    given["pred"] = torch.cat([given["target"][..., :10], given["pred"][..., 10:]], dim=-1)
    values = SSIM(7).maps(given)["SSIM"]
    assert values.shape == (2, 3, 18, 14)
    assert values[..., :4].abs().max() < 1e-5 < values[..., 10:].mean()


def test_terms_without_positions_have_no_map():
    loss = parse('L1 + TV + MSSSIM(1, window=7) + L1 @ Gram @ VGG("vgg16", "conv1_2", weights="random")')
    assert [each is None for each in loss.maps(images()).values()] == [False, True, True, True]


@pytest.mark.parametrize("loss", [L1(), SSIM(7)], ids=repr)
def test_under_a_mask_the_value_is_the_sum_of_the_map_over_that_of_the_mask(loss):
    mask = (torch.rand(2, 1, 24, 20, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    masked, given = loss.on(mask="mask"), images(mask=mask)
    ((name, values),) = masked.evaluate(given).items()
    found = masked.maps(given)[name]
    margin = (24 - found.shape[-2]) // 2
    inner = mask[..., margin : 24 - margin, margin : 20 - margin]
    assert_close(found.sum(dim=(1, 2, 3)) / (3 * inner.sum(dim=(1, 2, 3))), values)


def test_a_map_has_no_graph_and_its_gates_are_those_of_the_term():
    loss = parse("Gate(0.0) * L1")
    given = images(logsnr=torch.tensor([-9.0, 9.0]))
    given["pred"].requires_grad_()
    (values,) = loss.maps(given).values()
    assert not values.requires_grad
    assert_close(values.mean(dim=(1, 2, 3)), next(iter(loss.evaluate(given).values())).detach())
