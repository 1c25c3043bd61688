"""What only an accelerator can show: values, gradients and precision on the device are those of the CPU.

`pytest -m device --runslow` runs these tests where there is an accelerator. LOSSMITH_TEST_DEVICE names another device;
with "cpu" the tests themselves can be tried.
"""

import os
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from lossmith import MSSSIM, SSIM, LossMonitor, parse
from lossmith._filters import gaussian_filter
from lossmith.cli import main
from lossmith.device import is_out_of_memory, resolve_device, to_double
from lossmith.engine.frozen.precision import choose_exactness, exact_conv2d, split_kernel
from lossmith.image import to_float
from lossmith.models import build_network

sys.path.insert(0, str(Path(__file__).parents[1] / "losses"))  # for its table of all losses with their inputs
from test_contract import MEMBERS, make_inputs, min_batch_size

DEVICE = resolve_device(os.environ.get("LOSSMITH_TEST_DEVICE", "auto"))
IS_CHOSEN = "LOSSMITH_TEST_DEVICE" in os.environ
pytestmark = [
    pytest.mark.device,
    pytest.mark.slow,
    pytest.mark.skipif(DEVICE.type == "cpu" and not IS_CHOSEN, reason="there is no accelerator"),
]
NAMES = {"argvalues": MEMBERS, "ids": lambda member: member.text}
DRAWS = ("SlicedWasserstein", "sliced_wasserstein", "Contextual", "contextual", "PatchNCE")
"""Losses that draw positions or directions, other ones on each device."""


@pytest.fixture(autouse=True)
def plain_float32():
    """Run float32 convolutions and products in float32, and not in TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def evaluate(loss, inputs, device, dtype=None):
    """Return the value and the gradient at the first input, on the CPU in double precision."""
    loss = loss.to(device)
    inputs = {name: each.detach().to(device) for name, each in inputs.items()}
    first = inputs[next(iter(inputs))].requires_grad_()
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        value = loss(**inputs)
    (gradient,) = torch.autograd.grad(value, first)
    return to_double(value.detach()).cpu(), to_double(gradient).cpu()


@pytest.mark.parametrize("member", **NAMES)
def test_the_value_and_the_gradient_are_those_of_the_cpu(member, with_random_weights):
    if member.text.startswith(DRAWS):
        pytest.skip("draws other positions on each device")
    loss = with_random_weights(parse(member.text))
    inputs = make_inputs(loss, member, max(2, min_batch_size(loss)))
    expected = evaluate(loss, inputs, torch.device("cpu"))
    found = evaluate(loss, inputs, DEVICE)
    assert_close(found[0], expected[0], rtol=1e-3, atol=1e-5)
    cosine = F.cosine_similarity(found[1].flatten(), expected[1].flatten(), dim=0, eps=1e-30)
    assert cosine > 0.999 or not expected[1].any()


@pytest.mark.parametrize(
    "text", ["perceptual('vgg16')", "perceptual('vgg19')", "lpips('vgg')", "lpips('alex')", "style('vgg19')"]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_gradient_on_photographs_keeps_its_direction_in_half_precision(text, dtype, photographs, isolated_weights):
    loss = parse(text)
    for target in photographs:
        blurred = gaussian_filter(target, 9, 1.5, pad=True)
        inputs = {"pred": blurred, "target": target}
        _, expected = evaluate(loss, inputs, torch.device("cpu"))
        _, found = evaluate(loss, inputs, DEVICE, dtype)
        least = 0.999 if DEVICE.type == "cuda" or dtype == torch.float16 else 0.998
        assert F.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > least


def test_the_exact_convolution_is_as_precise_as_float32():
    generator = torch.Generator().manual_seed(0)
    x, kernel = torch.randn(2, 64, 32, 32, generator=generator), torch.randn(64, 64, 3, 3, generator=generator) / 24
    expected = torch.conv2d(x.double(), kernel.double(), padding=1)
    split = split_kernel(kernel.to(DEVICE)) if choose_exactness(DEVICE) == "tf32x3" else None
    found = exact_conv2d(x.to(DEVICE), kernel.to(DEVICE), split, None, 1, 1)
    assert (found.cpu().double() - expected).abs().max() < 5e-6 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_stored_images_become_the_same_floats(dtype):
    values = torch.arange(torch.iinfo(dtype).max + 1).to(dtype)
    if DEVICE.type != "cuda":  # the loader converts them before it sends them elsewhere
        pytest.skip("stored images are sent to CUDA devices only")
    assert_close(to_float(values.to(DEVICE)).cpu(), to_float(values), rtol=0, atol=0)


@pytest.mark.parametrize("loss", [SSIM(), SSIM(7), MSSSIM(2, window=7)], ids=repr)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_ssim_agrees_with_double_precision(loss, memory_format):
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 45, 50, generator=generator)
    pred = (target + 0.1 * torch.randn(target.shape, generator=generator)).clamp(0, 1)
    inputs = {"pred": pred, "target": target}
    expected = evaluate(loss, {name: each.double() for name, each in inputs.items()}, torch.device("cpu"))
    images = {name: each.contiguous(memory_format=memory_format) for name, each in inputs.items()}
    found = evaluate(loss, images, DEVICE)
    assert_close(found[0], expected[0], rtol=1e-5, atol=1e-6)
    assert_close(found[1], expected[1], rtol=1e-3, atol=1e-4 * expected[1].abs().max().item())


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_a_training_learns(dtype):
    torch.manual_seed(0)
    model = build_network("edsr", 2, channels=8, blocks=1).to(DEVICE, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    monitor = LossMonitor(parse("L1 + 0.1*SSIM + 0.01*perceptual('vgg16', 'relu2_2', weights='random')"), optimizer)
    monitor.to(DEVICE)
    target = F.interpolate(torch.rand(4, 3, 6, 6), size=48, mode="bicubic").clamp(0, 1).to(DEVICE)
    low = F.avg_pool2d(target, 2)
    values = []
    for _ in range(30):
        with torch.autocast(DEVICE.type, dtype, enabled=dtype is not None):
            pred = model(low)
        loss = monitor(pred.float(), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        values.append(loss.item())
    assert values[-1] < 0.9 * values[0]


@pytest.mark.parametrize("words", [["explain", "L1 + 0.1*SSIM", "--size", "64"], ["doctor", "L1 + 0.1*SSIM"]])
def test_the_commands_run_on_the_device(words, capsys):
    assert main([*words, "--device", str(DEVICE)]) == 0
    assert "SSIM" in capsys.readouterr().out


@pytest.mark.skipif(DEVICE.type == "cpu", reason="a CPU swaps")
def test_too_little_memory_is_recognised():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**46, dtype=torch.uint8, device=DEVICE)
    assert is_out_of_memory(error.value)


@pytest.fixture(scope="module")
def photographs(assets):
    """Four photographs of 128 px, (1, 3, 128, 128) each."""
    from PIL import Image

    from lossmith.image import from_pil

    paths = sorted((assets / "images" / "benchmark" / "Kodak24").glob("*.webp"))[:4]
    return [from_pil(Image.open(path).convert("RGB").crop((300, 200, 428, 328)))[None] for path in paths]
