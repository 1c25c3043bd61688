import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from lossmith.image import check_images, from_pil, pil_to_tensor, quantize, quantize_8bit, rgb_to_luma, to_pil

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def saved(image, path, **options):
    image.save(path, **options)
    return Image.open(path)


def test_rgb_keeps_the_order_of_channels_and_pixels():
    values = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert_close(from_pil(Image.fromarray(values)), torch.tensor(values).permute(2, 0, 1) / 255)


def test_grey_is_repeated():
    assert_close(from_pil(Image.fromarray(GREY)), torch.tensor(GREY).expand(3, 3, 4) / 255)


def test_a_palette_is_resolved(tmp_path):
    image = Image.new("RGB", (4, 4), (255, 128, 0)).quantize(4)
    assert_close(from_pil(saved(image, tmp_path / "p.png"))[:, 0, 0], torch.tensor([255, 128, 0]) / 255)


def test_transparent_pixels_become_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    values = (from_pil(saved(image, tmp_path / "a.png")) * 255).round()
    assert values[:, 0, 0].tolist() == [255, 255, 255]
    assert values[:, 0, 1].tolist() == [10, 20, 30]


@pytest.mark.parametrize("mode", ["LA", "PA", "P"])
def test_transparent_pixels_of_other_modes_become_white(mode, tmp_path):
    image = Image.new("LA", (4, 4), (0, 0)) if mode == "LA" else Image.new("P", (4, 4), 0)
    if mode == "PA":
        image = Image.new("RGBA", (4, 4), (9, 9, 9, 0)).convert("PA")
    if mode == "P":
        image.info["transparency"] = 0
    assert from_pil(image).min() == 1


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_are_divided_by_65535(kind, tmp_path):
    values = np.array([[0, 1, 257], [32768, 40000, 65535]], dtype=np.uint16)
    image = from_pil(saved(Image.fromarray(values), tmp_path / f"deep.{kind}"))
    assert_close(image[1], torch.tensor(values.astype(np.float64) / 65535).float())


def test_a_float_image_in_range_is_read(tmp_path):
    values = np.array([[0.0, 0.25], [0.5, 1.0]], dtype=np.float32)
    image = from_pil(saved(Image.fromarray(values), tmp_path / "float.tiff"))
    assert_close(image[0], torch.tensor(values), atol=1e-5, rtol=0)


@pytest.mark.parametrize("high", [255.0, float("nan")])
def test_a_float_image_out_of_range_raises(high):
    with pytest.raises(ValueError, match=r"mode F must have values from 0 to 1; got .*Scale the"):
        pil_to_tensor(Image.fromarray(np.array([[0.0, high]], dtype=np.float32)))


def test_the_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise
    image = saved(Image.new("RGB", (8, 4)), tmp_path / "turned.jpg", exif=exif)
    assert from_pil(image).shape == (3, 8, 4)


def test_cmyk_is_converted(tmp_path):
    assert from_pil(saved(Image.new("CMYK", (4, 4)), tmp_path / "print.jpg")).min() > 0.98


def test_8_bit_values_survive_a_round_trip_through_pil():
    image = torch.arange(256).expand(3, 1, 256) / 255
    assert torch.equal(from_pil(to_pil(image)), image)


def test_to_pil_clips_and_rounds():
    image = torch.tensor([-0.5, 0.3 / 255, 0.7 / 255, 1.5]).expand(3, 1, 4)
    assert np.array(to_pil(image))[0, :, 0].tolist() == [0, 0, 1, 255]


def test_to_pil_of_a_batch_raises():
    with pytest.raises(ValueError, match=r"one image \(3, H, W\); got \(1, 3, 2, 2\)"):
        to_pil(torch.zeros(1, 3, 2, 2))


def test_quantize_clips_and_keeps_nan():
    image = torch.tensor([-torch.inf, -0.1, 0.3, 1.2, torch.inf, torch.nan])
    expected = torch.tensor([0.0, 0.0, 0.25, 1.0, 1.0, torch.nan])
    assert_close(quantize(image, 4), expected, rtol=0, atol=0, equal_nan=True)


def test_quantize_8bit_rounds_half_up_as_matlab_does():
    assert (quantize_8bit(torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64) / 255) * 255).round().tolist() == [1, 2, 3]


def test_luma_of_pure_red_equals_matlabs():
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    assert_close(rgb_to_luma(red), torch.full((1, 1, 1, 1), (16 + 65.481) / 255))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 3, 4, 4)), "must be a tensor .*got a ndarray. Convert it with from_pil"),
        (torch.zeros(3, 4, 4), r"must have 4 dimensions.*image\[None\]"),
        (torch.zeros(1, 4, 5, 3), r"channels are last: use x.permute\(0, 3, 1, 2\)"),
        (torch.zeros(1, 1, 4, 5), r"grey: repeat the channel with x.expand"),
        (torch.zeros(1, 4, 5, 5), r"alpha channel: .*x\[:, :3\]"),
        (torch.zeros(1, 7, 5, 5), "3 channels.*Pass RGB"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), r"got uint8. Convert it with x.float\(\) / 255"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int32), "got int32. Convert it to floats"),
        (torch.zeros(0, 3, 4, 4), "at least one pixel"),
        (torch.linspace(50, 255, 48).view(1, 3, 4, 4), "from 50 to 255. Divide by 255"),
        (
            torch.linspace(-1, 1, 48).view(1, 3, 4, 4),
            r"from -1 to 1. The range looks like \[-1, 1\]: use \(x \+ 1\) / 2",
        ),
        (torch.linspace(-2.1, 2.6, 48).view(1, 3, 4, 4), "Undo the normalisation"),
        (torch.tensor([0.5, torch.nan, torch.inf]).view(1, 3, 1, 1), "2 of 3 values are NaN or infinite"),
    ],
)
def test_check_images_names_the_problem_and_the_cure(images, message):
    with pytest.raises(ValueError, match=f"^target .*{message}"):
        check_images("target", images)


def test_check_images_accepts_a_little_overshoot():
    check_images("pred", torch.linspace(-0.1, 1.1, 48).view(1, 3, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_check_images_accepts_every_float_type(dtype):
    check_images("pred", torch.rand(1, 3, 4, 4).to(dtype))


def test_check_images_names_both_batches_of_different_sizes():
    with pytest.raises(
        ValueError, match=r"pred and target must have the same shape; got \(1, 3, 4, 4\) and \(1, 3, 8, 8\)"
    ):
        check_images("pred", torch.zeros(1, 3, 4, 4), target=torch.zeros(1, 3, 8, 8))
