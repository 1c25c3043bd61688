"""What all tests share: seeded pictures, untrained networks as files, real assets where there are any."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lossmith import Loss, parse
from lossmith.engine.frozen import run
from lossmith.engine.layers import Conv, Step
from lossmith.lenses import alexnet, dists, vgg
from lossmith.lenses.network import Sequential

Pictures = Callable[..., tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test downloads weights."""

    def refuse(*args, **kwargs):
        raise OSError("no network here")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)


@pytest.fixture
def pictures() -> Pictures:
    """Two seeded batches of the same noise, the second with a little more of it."""

    def make(n: int = 2, side: int = 32, *, channels: int = 3, dtype: torch.dtype = torch.float32, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        target = torch.rand(n, channels, side, side, generator=generator, dtype=torch.float64)
        pred = (target + 0.1 * torch.randn(target.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
        return pred.to(dtype), target.to(dtype)

    return make


@pytest.fixture
def agree(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Asserts that two losses give one value and one gradient; with ``pytest -s``, prints how nearly."""

    def check(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *views: Tensor, within: float = 1e-5) -> None:
        found = []
        for loss in (ours, theirs):
            pred = views[0].clone().requires_grad_()
            value = loss(pred, *views[1:])
            (gradient,) = torch.autograd.grad(value.sum(), pred)
            found.append((value.detach().sum().double(), gradient.double()))
        (value, gradient), (wanted, direction) = found
        off = (value - wanted).abs() / wanted.abs(), (gradient - direction).norm() / direction.norm()
        print(f"\nparity {request.node.name}: value {off[0]:.1e}, gradient {off[1]:.1e}")
        assert max(off) <= within, off

    return check


@pytest.fixture
def untrained() -> Callable[[Loss], Loss]:
    """The same loss on untrained networks, for which no file is needed."""

    def make(loss: Loss) -> Loss:
        return parse(
            re.sub(
                r'(VGG|AlexNet|SqueezeNet)\(([^()]*?)(, weights="random")?\)', r'\1(\2, weights="random")', repr(loss)
            )
        )

    return make


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequential], Path]:
    """The weights of an untrained network as a file with torchvision's keys, for us and for other libraries."""
    folder = tmp_path_factory.mktemp("weights")

    def write(network: Sequential) -> Path:
        path = folder / f"{network.name}.safetensors"
        if not path.exists():
            generator = torch.Generator().manual_seed(0)
            convs = {i: step for i, step in enumerate(network.plan) if isinstance(step, Conv)}
            state = {}
            for i, step in convs.items():
                spread = (2 / step.weight[0].numel()) ** 0.5
                state[f"features.{i}.weight"] = torch.randn(step.weight.shape, generator=generator) * spread
                state[f"features.{i}.bias"] = torch.randn(step.bias.shape, generator=generator) * 0.1
            save_file(state, path)
        return path

    return write


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real weights and pictures that LOSSMITH_ASSETS names."""
    folder = Path(os.environ.get("LOSSMITH_ASSETS", ""))
    if not (folder / "weights").is_dir():
        pytest.skip("LOSSMITH_ASSETS names no folder of real weights and pictures")
    return folder


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Looks in the assets where a test asks for them; forgets what was found there."""
    if "assets" in request.fixturenames:
        monkeypatch.setenv("LOSSMITH_WEIGHTS", str(request.getfixturevalue("assets") / "weights"))
    yield
    for network in (alexnet, dists, vgg):
        network.shared.cache_clear()


@pytest.fixture
def kept() -> Callable[[Callable[[], Any], nn.Module], tuple[Any, int]]:
    """The result of a function, and how many bytes its graph keeps beside the weights of some module."""

    def count(run: Callable[[], Any], module: nn.Module) -> tuple[Any, int]:
        weights = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
        found: dict[int, int] = {}
        alive = []

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                found[storage.data_ptr()] = storage.nbytes()
                alive.append(tensor)  # so that no address is given twice
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = run()
        return result, sum(found.values())

    return count


@pytest.fixture
def looked_at() -> Callable[[Sequence[Step], Tensor], dict[str, Tensor]]:
    """The features of two convolutions, and a gradient in which no two elements weigh the same."""

    def look(steps: Sequence[Step], image: Tensor) -> dict[str, Tensor]:
        image = image.detach().requires_grad_()
        maps = run(steps, image, frozenset({"conv1", "relu2"}))
        total = sum((m * torch.linspace(-1, 1, m.numel()).view(m.shape)).sum() for m in maps.values())
        return {**maps, "gradient": torch.autograd.grad(total, image)[0]}

    return look
