"""Degradations give the same bits for a seed in a worker process, in the main process, alone and in a batch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lossmith.data import add_gaussian_noise, compress_jpeg, filter2d, gaussian_kernel
from lossmith.image import quantize_8bit
from lossmith.tasks import Deblurring, Denoising, JPEGRepair, SuperResolution
from lossmith.train.data_stream import EndlessBatchSampler, TimedLoader

TASKS = {
    "gaussian": Denoising(sigma=(5, 50)),
    "poisson": Denoising(sigma=50, noise="poisson"),
    "jpeg": JPEGRepair(),
    "motion": Deblurring(blur="motion"),
    "real-esrgan": SuperResolution(4, degradation="blind"),
}


@pytest.fixture
def file(tmp_path):
    """An image file."""
    pixels = np.random.default_rng(0).integers(0, 256, (96, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize(
    "name", [name if name == "real-esrgan" else pytest.param(name, marks=pytest.mark.slow) for name in TASKS]
)
def test_a_degraded_batch_has_the_same_bits_in_a_worker_and_in_the_main_process(name, file):
    items = TASKS[name].training_set([file], crop=48, seed=7)
    loaders = [
        TimedLoader(items, torch.device("cpu"), batch_sampler=EndlessBatchSampler(3, start=2), num_workers=count)
        for count in (0, 2)
    ]
    main, worker = (next(iter(loader)) for loader in loaders)
    alone = torch.stack([items[index]["input"] for index in (6, 7, 8)])
    torch.testing.assert_close(worker, main, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(main["input"], alone, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(40, 30), (13, 64), (97, 53)])
@pytest.mark.parametrize("side", [3, 7, 21])
def test_a_filtered_image_has_the_same_bits_alone_and_in_a_batch(size, side):
    images = torch.rand(5, 3, *size, generator=torch.Generator().manual_seed(0))
    kernels = torch.stack([gaussian_kernel(side, 1 + 0.3 * i, 2.0, angle=0.4) for i in range(5)])
    alone = [filter2d(images[i : i + 1], kernels[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(filter2d(images, kernels), torch.cat(alone), rtol=0, atol=0)


def test_a_filtered_image_has_the_values_of_one_convolution_of_the_whole_image():
    image = torch.rand(1, 1, 50, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kernel = gaussian_kernel(9, 1.0, 2.0, angle=0.3)
    padded = F.pad(image, (4,) * 4, mode="reflect")
    expected = F.conv2d(padded, kernel.double().flip(-2, -1)[None, None])
    torch.testing.assert_close(filter2d(image, kernel[None]), expected)


def test_a_compressed_image_has_the_same_bits_alone_and_in_a_batch():
    images = quantize_8bit(torch.rand(4, 3, 37, 50, generator=torch.Generator().manual_seed(0)))
    quality = torch.tensor([10.0, 30.0, 60.0, 95.0])
    alone = torch.cat([compress_jpeg(images[i : i + 1], float(quality[i])) for i in range(4)])
    torch.testing.assert_close(compress_jpeg(images, quality), alone, rtol=0, atol=0)


def test_the_device_of_the_generator_draws_the_noise(monkeypatch):
    asked, randn = [], torch.randn

    def draw(*args, **kwargs):
        asked.append(kwargs["device"])
        return randn(*args, **kwargs)

    monkeypatch.setattr(torch, "randn", draw)
    noisy = add_gaussian_noise(torch.rand(1, 3, 4, 4, device="meta"), 25.0, generator=torch.Generator())
    assert asked == [torch.device("cpu")] and noisy.device.type == "meta"
