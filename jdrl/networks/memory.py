"""Peak memory of a network's activations for a tile, measured on the meta device."""

from __future__ import annotations

import copy
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from torch import nn


def peak_bytes(network: nn.Module, height: int, width: int) -> int | None:
    """Peak size of the results of operations for one image, without weights and scratch memory.

    Args:
        network: On any device; it is not changed.
        height: Of the image, pixels; a multiple of the network's `size_multiple`.
        width: As `height`.

    Returns:
        Bytes; None where the network does not run on the meta device.
    """
    image = torch.empty(1, 3, height, width, device="meta")
    copied, counter = copy_without_memory(network), _MemoryCounter()
    try:
        with torch.no_grad(), counter:
            copied(image)
    except Exception:  # a custom network may raise anything on tensors without content
        return None
    return counter.peak


def copy_without_memory(network: nn.Module) -> nn.Module:
    """Copies a network to the meta device: its weights have shapes but no memory."""
    tensors = (*network.parameters(), *network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor.detach().to("meta") for tensor in tensors})


class _MemoryCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors in use, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.current = self.peak = 0
        self._counted: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                self._count(result.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._counted:
            return
        self._counted.add(storage)
        size = storage.nbytes()
        self.current += size
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self.current -= size
