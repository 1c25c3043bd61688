"""The bytes that a step holds: how many at once, and how many from the forward pass to the backward pass."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Meter", "measured"]


@final
class Meter(TorchDispatchMode):
    """Counts the bytes of tensors made while it is entered, as long as they live.

    It sees what operators hand to each other, and not what they need inside.

    Args:
        known: Tensors that were there before and do not count.
    """

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self.known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet(t.untyped_storage() for t in known)
        self.saved: weakref.WeakSet[_Saved] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                self.see(each.untyped_storage())
        return out

    def see(self, storage: torch.UntypedStorage) -> None:
        """Counts a storage until it is let go."""
        if storage in self.known:
            return
        self.known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.lose, size)

    def lose(self, size: int) -> None:
        """Counts a storage no more."""
        self.live -= size

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        """A context in which what is saved for the backward pass is seen."""

        def save(tensor: Tensor) -> _Saved:
            saved = _Saved(tensor)
            self.saved.add(saved)
            return saved

        return torch.autograd.graph.saved_tensors_hooks(save, lambda saved: saved.tensor)

    def kept(self, apart: Sequence[Tensor] = ()) -> int:
        """The bytes saved for the backward pass that are still held, without those of some tensors."""
        not_these = {_address(tensor) for tensor in apart}
        held = {_address(s.tensor): s.tensor.untyped_storage().nbytes() for s in self.saved}
        return sum(size for address, size in held.items() if address not in not_these)


class _Saved:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _address(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def measured(forward: Callable[[], Tensor], inputs: Sequence[Tensor]) -> tuple[int, int]:
    """The bytes that a step keeps between its passes, and the most that it holds at once.

    Args:
        forward: Gives the scalar that the backward pass begins with.
        inputs: Tensors that are there before and do not count.
    """
    with Meter(inputs) as meter:
        with meter.hooks():
            value = forward()
        kept = meter.kept(inputs)
        value.backward()  # type: ignore[no-untyped-call]
    return kept, meter.peak
