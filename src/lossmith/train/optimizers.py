"""Optimizers of `lossmith train` by name: those of torch, Muon for networks of convolutions, schedule-free AdamW."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, NAdam, Optimizer, RAdam, RMSprop

from lossmith.train.settings import OPTIMIZERS

__all__ = [
    "Adam",
    "AdamW",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "build_optimizer",
    "evaluation_weights",
    "has_evaluation_mode",
    "schedule_free_adamw",
    "sgd",
    "start_training_mode",
]


@final
class Muon(Optimizer):
    """Muon for the weights of convolutions and linear layers, AdamW for biases and other vectors.

    The weights of a convolution, (out, in, h, w), are a matrix with a row for each output channel, as in the authors'
    code. Updates have the root mean square of AdamW's ("match_rms_adamw"), so that both parts share the learning rate
    and the weight decay. ``torch.optim.Muon`` does the computation, which takes matrices only.

    References:
        | Muon: An optimizer for hidden layers in neural networks (Jordan et al., 2024)
        | https://kellerjordan.github.io/posts/muon
        | Muon is Scalable for LLM Training (Liu et al., 2025), for the size of the updates
        | https://arxiv.org/abs/2502.16982

    Args:
        params: The weights.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
        momentum: Momentum of the matrices' gradients.
        betas: Decay of the two moments of AdamW.

    Example:
        >>> layer = torch.nn.Conv2d(3, 4, 3)
        >>> optimizer = Muon(layer.parameters(), lr=0.01)
        >>> layer(torch.ones(1, 3, 8, 8)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        weights = list(params)
        self.weights = [weight for weight in weights if weight.ndim >= 2]
        vectors = [weight for weight in weights if weight.ndim < 2]
        super().__init__([{"params": self.weights}, {"params": vectors}], {"lr": lr, "weight_decay": weight_decay})
        self.matrices = [nn.Parameter(weight.detach().flatten(1).clone()) for weight in self.weights]
        self.parts: list[Optimizer] = [
            torch.optim.Muon(self.matrices, lr, weight_decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"),
            AdamW(vectors or [nn.Parameter(torch.zeros(0))], lr, betas, weight_decay=weight_decay),
        ]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the weights; the matrices are copies, since the memory of weights may be in channels-last order."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            matrix.copy_(weight.flatten(1))
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1).to(matrix)
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups[0]["lr"] = group["lr"]  # which a learning-rate schedule sets
            part.step()
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            weight.copy_(matrix.view(weight.shape))
        return result

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both parts."""
        return {**super().state_dict(), "parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of both parts."""
        own = dict(state_dict)
        for part, state in zip(self.parts, own.pop("parts"), strict=True):
            part.load_state_dict(state)
        super().load_state_dict(own)


def sgd(params: Iterable[nn.Parameter], lr: float = 1e-3, weight_decay: float = 0.0, **options: Any) -> Optimizer:
    """Return stochastic gradient descent with Nesterov's momentum of 0.9, unless the options say otherwise."""
    return torch.optim.SGD(params, lr, weight_decay=weight_decay, **{"momentum": 0.9, "nesterov": True, **options})


def schedule_free_adamw(
    params: Iterable[nn.Parameter], lr: float = 1e-3, weight_decay: float = 0.0, **options: Any
) -> Optimizer:
    """Return AdamW with averaged weights in place of a learning-rate schedule.

    References:
        The Road Less Scheduled (Defazio et al., 2024), https://arxiv.org/abs/2405.15682

    Raises:
        ValueError: The package schedulefree is not installed.
    """
    try:
        from schedulefree import AdamWScheduleFree
    except ImportError as error:
        raise ValueError(
            "The optimizer schedule-free-adamw needs the package schedulefree, which is not installed: "
            "pip install -e '.[optimizers]'."
        ) from error
    optimizer: Optimizer = AdamWScheduleFree(params, lr=lr, weight_decay=weight_decay, **options)
    return optimizer


def build_optimizer(
    name: str,
    params: Iterable[nn.Parameter],
    *,
    lr: float,
    weight_decay: float,
    options: Mapping[str, Any],
    allow_fused: bool = True,
) -> Optimizer:
    """Return an optimizer by its name.

    Args:
        name: A name in the entry-point group ``lossmith.optimizers``, of a function or class that is called with the
            weights, ``lr=``, ``weight_decay=`` and the options.
        params: The weights.
        lr: Learning rate.
        weight_decay: Weight decay.
        options: Further arguments, such as ``{"betas": [0.9, 0.99]}``.
        allow_fused: Whether torch's fused kernels may be used.

    Raises:
        ValueError: There is no such optimizer, its package is not installed, or it does not accept an option.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"There is no optimizer {name!r}; use {', '.join(OPTIMIZERS)}.")
    build = OPTIMIZERS[name]
    is_of_torch = getattr(build, "__module__", "").startswith("torch.optim")
    fused = {"fused": True} if allow_fused and is_of_torch and "fused" in inspect.signature(build).parameters else {}
    try:
        optimizer = build(params, **{"lr": lr, "weight_decay": weight_decay, **fused, **options})
    except TypeError as error:
        raise ValueError(f"The optimizer {name} does not accept an option: {error}.") from error
    if not isinstance(optimizer, Optimizer):
        raise ValueError(f"The optimizer {name} must be a torch.optim.Optimizer; got {type(optimizer).__name__}.")
    return optimizer


def has_evaluation_mode(optimizer: Optimizer) -> bool:
    """Return whether an optimizer trains other weights than those to use, as schedule-free ones do."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


def start_training_mode(optimizer: Optimizer) -> None:
    """Switch an optimizer that has a training mode to it."""
    if has_evaluation_mode(optimizer):
        optimizer.train()  # type: ignore[attr-defined]


@contextmanager
def evaluation_weights(optimizer: Optimizer, params: Iterable[Tensor]) -> Iterator[None]:
    """Give the weights the values to use while the body runs; then restore the trained ones bit by bit."""
    weights = list(params)
    with torch.no_grad():
        trained = [weight.clone() for weight in weights]
        optimizer.eval()  # type: ignore[attr-defined]
        try:
            yield
        finally:
            optimizer.train()  # type: ignore[attr-defined]
            for weight, value in zip(weights, trained, strict=True):
                weight.copy_(value)  # the optimizer's way back rounds
