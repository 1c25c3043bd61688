"""Measurement of a step's memory: the peak, and what is kept from the forward pass to the backward pass."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["MemoryMeter", "measure_memory"]


@final
class MemoryMeter(TorchDispatchMode):
    """A mode that counts the bytes of tensors created while it is active, as long as they live.

    It counts the inputs and outputs of operators, and not their internal buffers.

    Args:
        excluded: Existing tensors that do not count.
    """

    def __init__(self, excluded: Sequence[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = self.peak_bytes = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet(t.untyped_storage() for t in excluded)
        self._saved: weakref.WeakSet[_SavedTensor] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                self._add(each.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until it is freed."""
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._remove, size)

    def _remove(self, size: int) -> None:
        self.live_bytes -= size

    def track_saved_tensors(self) -> torch.autograd.graph.saved_tensors_hooks:
        """Return a context in which tensors saved for the backward pass are tracked."""

        def pack(tensor: Tensor) -> _SavedTensor:
            saved = _SavedTensor(tensor)
            self._saved.add(saved)
            return saved

        return torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor)

    def count_saved_bytes(self, excluded: Sequence[Tensor] = ()) -> int:
        """Return the bytes saved for the backward pass that are still held, without those of the excluded tensors."""
        excluded_addresses = {_address(tensor) for tensor in excluded}
        held = {_address(s.tensor): s.tensor.untyped_storage().nbytes() for s in self._saved}
        return sum(size for address, size in held.items() if address not in excluded_addresses)


class _SavedTensor:
    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _address(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata
    return address


def measure_memory(forward: Callable[[], Tensor], inputs: Sequence[Tensor]) -> tuple[int, int]:
    """Return the bytes that a step keeps between its two passes, and the peak of both passes.

    Args:
        forward: A function that returns the scalar of the backward pass.
        inputs: Existing tensors that do not count.
    """
    with MemoryMeter(inputs) as meter:
        with meter.track_saved_tensors():
            value = forward()
        saved_bytes = meter.count_saved_bytes(inputs)
        value.backward()  # type: ignore[no-untyped-call]
    return saved_bytes, meter.peak_bytes
