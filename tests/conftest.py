"""Fixtures of all tests: seeded images, losses on untrained networks, weight files, real assets where available."""

import os
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lossmith import Loss
from lossmith.backbone import clear_backbones
from lossmith.engine.frozen import run_frozen
from lossmith.engine.layers import Conv, Step
from lossmith.lenses.sequential_network import SequentialNetwork

ImagePair = Callable[..., tuple[Tensor, Tensor]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option --runslow."""
    parser.addoption("--runslow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests marked slow unless --runslow is given."""
    if not config.getoption("--runslow"):
        skip = pytest.mark.skip(reason="slow: give --runslow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch):
    """Let every download of weights fail."""

    def refuse(*args, **kwargs):
        raise OSError("no network here")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)


@pytest.fixture(autouse=True, scope="session")
def own_image_cache(tmp_path_factory):
    """Store decoded images in a folder of the tests, in the processes that they start too."""
    os.environ["LOSSMITH_CACHE"] = str(tmp_path_factory.mktemp("image_cache"))


@pytest.fixture(autouse=True)
def no_range_checks(monkeypatch):
    """Let no loss judge the range of its inputs, of which only the first calls in a process would be judged."""
    monkeypatch.setattr("lossmith.formula.input_range.MAX_CHECKS", 0)


@pytest.fixture
def free_port() -> int:
    """Return a port below those that systems give to other programs, which would take it before its server starts."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as server, suppress(OSError):
            server.bind(("127.0.0.1", port))
            return port
    raise AssertionError("none of 100 ports is free")


@pytest.fixture
def image_pair() -> ImagePair:
    """Return a function that makes a seeded pair (pred, target) of uniform noise, pred with added Gaussian noise."""

    def make(n: int = 2, side: int = 32, *, channels: int = 3, dtype: torch.dtype = torch.float32, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        target = torch.rand(n, channels, side, side, generator=generator, dtype=torch.float64)
        pred = (target + 0.1 * torch.randn(target.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
        return pred.to(dtype), target.to(dtype)

    return make


@pytest.fixture
def assert_parity(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that asserts equal values and gradients of two losses; ``pytest -s`` prints the errors."""

    def check(
        ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *inputs: Tensor, within: float = 1e-5
    ) -> None:
        results = []
        for loss in (ours, theirs):
            pred = inputs[0].clone().requires_grad_()
            value = loss(pred, *inputs[1:])
            (gradient,) = torch.autograd.grad(value.sum(), pred)
            results.append((value.detach().sum().double(), gradient.double()))
        (value, gradient), (expected_value, expected_gradient) = results
        errors = (
            (value - expected_value).abs() / expected_value.abs(),
            (gradient - expected_gradient).norm() / expected_gradient.norm(),
        )
        print(f"\nparity {request.node.name}: value {errors[0]:.1e}, gradient {errors[1]:.1e}")
        assert max(errors) <= within, errors

    return check


@pytest.fixture
def with_random_weights() -> Callable[[Loss], Loss]:
    """Return a function that puts a loss on untrained networks, which need no file."""
    return lambda loss: loss.with_network_weights("random")


@pytest.fixture(scope="session")
def weight_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[SequentialNetwork], Path]:
    """Return a function that writes random weights of a network with torchvision's keys, for other libraries too."""
    folder = tmp_path_factory.mktemp("weights")

    def write(network: SequentialNetwork) -> Path:
        path = folder / f"{network.name}.safetensors"
        if not path.exists():
            generator = torch.Generator().manual_seed(0)
            convs = {i: step for i, step in enumerate(network.architecture) if isinstance(step, Conv)}
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
    """Return the folder of real weights and images in LOSSMITH_ASSETS."""
    folder = Path(os.environ.get("LOSSMITH_ASSETS", ""))
    if not (folder / "weights").is_dir():
        pytest.skip("LOSSMITH_ASSETS is no folder of real weights and images")
    return folder


@pytest.fixture
def isolated_weights(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Find weights in the assets if the test requests them; forget all loaded networks afterwards."""
    if "assets" in request.fixturenames:
        monkeypatch.setenv("LOSSMITH_WEIGHTS", str(request.getfixturevalue("assets") / "weights"))
    yield
    clear_backbones()


@pytest.fixture
def measure_kept_bytes() -> Callable[[Callable[[], Any], nn.Module], tuple[Any, int]]:
    """Return a function that runs a function, and counts the bytes that its graph keeps besides a module's weights."""

    def count(run: Callable[[], Any], module: nn.Module) -> tuple[Any, int]:
        weights = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
        kept: dict[int, int] = {}
        alive = []

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
                alive.append(tensor)  # so that no address is reused
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = run()
        return result, sum(kept.values())

    return count


@pytest.fixture
def features_and_gradient() -> Callable[[Sequence[Step], Tensor], dict[str, Tensor]]:
    """Return a function that runs two convolutions, and adds a gradient in which each element has another weight."""

    def run(steps: Sequence[Step], image: Tensor) -> dict[str, Tensor]:
        image = image.detach().requires_grad_()
        maps = run_frozen(steps, image, frozenset({"conv1", "relu2"}))
        total = sum((m * torch.linspace(-1, 1, m.numel()).view(m.shape)).sum() for m in maps.values())
        return {**maps, "gradient": torch.autograd.grad(total, image)[0]}

    return run
