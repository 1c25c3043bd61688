"""The warning for images that are not in [0, 1], at the first call of a loss."""

import copy
import warnings

import pytest
import torch
from torch.overrides import TorchFunctionMode

from lossmith import L1, L2, SSIM, TV, Knob, parse, pinned, tiled
from lossmith.formula import input_range


@pytest.fixture(autouse=True)
def unlimited(monkeypatch):
    monkeypatch.setattr(input_range, "MAX_CHECKS", float("inf"))


def photo(channels=3, side=32, n=2):
    """Return smooth random images in [0, 1], some of their values at both ends."""
    small = torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(small * 1.4 - 0.2, (side, side), mode="bilinear").clamp(0, 1)


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def radiance():
    """Return log-normal radiance as of an HDR photograph, with highlights of more than 100."""
    return (photo() * 9 - 4).exp()


WRONG = {
    "0..255": (lambda: (photo() * 255).round(), "Divide by 255"),
    "0..255, resampled": (lambda: photo() * 270 - 8, "Divide by 255"),
    "0..255, half precision": (lambda: (photo() * 255).round().half(), "Divide by 255"),
    "0..255, grey": (lambda: (photo(1) * 255).round(), "Divide by 255"),
    "0..65535": (lambda: (photo() * 65535).round(), "divide by 65535"),
    "[-1, 1]": (lambda: photo() * 2 - 1, r"\(x \+ 1\) / 2"),
    "[-1, 1], grey": (lambda: photo(1) * 2 - 1, r"\(x \+ 1\) / 2"),
    "normalised": (lambda: (photo() - 0.45) / 0.225, "undo the normalisation"),
}
RIGHT = {
    "images": photo,
    "images that overshoot": lambda: photo() * 1.3 - 0.15,
    "black images": lambda: torch.zeros(2, 3, 32, 32),
    "radiance": radiance,
    "depth in metres": lambda: photo(1) * 80,
    "labels": lambda: (photo(1) * 18).round(),
    "latents": lambda: normal(2, 4, 32, 32),
    "latents of 16 channels in [-1, 1]": lambda: photo(16) * 2 - 1,
    "noise": lambda: normal(2, 3, 32, 32),
    "flow matching": lambda: normal(2, 3, 32, 32) - photo(),
    "NaN": lambda: torch.full((2, 3, 32, 32), torch.nan),
    "few values": lambda: normal(1, 3, 4, 4),
}


def prediction(target):
    return torch.zeros_like(target, requires_grad=True)


@pytest.mark.parametrize("name", WRONG)
def test_images_in_another_range_are_reported_with_the_cure(name):
    make, cure = WRONG[name]
    with pytest.warns(UserWarning, match=f"'target' has values from .*{cure}"):
        L1()(prediction(make()), make())


@pytest.mark.parametrize("name", RIGHT)
def test_other_values_pass_without_a_warning(name):
    target = RIGHT[name]()
    L2()(prediction(target), target)  # every warning is an error in the tests


def test_outputs_of_a_network_are_not_judged():
    target = photo()
    L1()((target * 2 - 1).requires_grad_(), target)
    with torch.no_grad():
        L1()(target * 2 - 1, target)


def test_a_diffusion_step_is_not_judged():
    target = photo() * 2 - 1
    loss = parse("Gate(1.1) * L1 + L2")
    loss(prediction(target), target, logsnr=torch.zeros(2))


@pytest.mark.parametrize("make", [lambda loss: loss, lambda loss: tiled(loss, 16)], ids=["loss", "tiled"])
def test_a_loss_warns_once(make):
    target = photo() * 255
    loss = make(L1() + Knob("lam") * SSIM())
    with pytest.warns(UserWarning, match="Divide by 255"):
        loss(prediction(target), target, lam=0.1)
    loss(prediction(target), target, lam=0.1)


def test_a_pinned_target_is_judged():
    with pytest.warns(UserWarning, match="Divide by 255"):
        pinned(L1(), target=photo() * 255)(prediction(photo()))


def test_a_loss_of_one_image_judges_it():
    with pytest.warns(UserWarning, match="'pred' has values"):
        TV()(photo() * 255)


class HostReads(TorchFunctionMode):
    """Count the copies of values to the host."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        reads = (
            torch.Tensor.tolist,
            torch.Tensor.item,
            torch.Tensor.__bool__,
            torch.Tensor.__float__,
            torch.Tensor.cpu,
        )
        self.count += func in reads
        return func(*args, **(kwargs or {}))


def test_the_check_reads_the_device_once_for_a_loss_and_all_sums_with_it():
    target, loss = photo(), L1() + 0.1 * SSIM()
    with HostReads() as reads:
        for _ in range(3):
            loss(prediction(target), target)
        loss.reweighted([1, 2])(prediction(target), target)
        copy.deepcopy(loss)(prediction(target), target)
    assert reads.count == 1


def test_losses_that_are_built_in_every_step_are_checked_a_limited_number_of_times(monkeypatch):
    monkeypatch.setattr(input_range, "MAX_CHECKS", 2)
    monkeypatch.setattr(input_range, "_checks", iter(range(9)))
    with HostReads() as reads:
        for _ in range(4):
            L1()(photo(), photo())
    assert reads.count == 2


@pytest.mark.slow
def test_nothing_is_read_under_compile_and_the_transforms_of_func():
    target = photo() * 255
    with HostReads() as reads, warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.compile(L1(), backend="eager", fullgraph=True)(photo(), target)
        torch.func.grad(lambda image: L1()(image, target))(photo())
        torch.func.vmap(lambda image, other: L1()(image[None], other[None]))(photo(), target)
    assert reads.count == 0


def test_fake_and_meta_tensors_are_not_read():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        L1()(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32))
    L1()(photo().to("meta"), photo().to("meta"))
