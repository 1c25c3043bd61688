"""What the tests of networks share: what a graph keeps and what is seen through one, and real weights."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lossmith.engine.frozen import run
from lossmith.engine.layers import Step
from lossmith.lenses import alexnet, dists, vgg


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
