"""What a network needs in memory for a tile, found by running it without any."""

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
    """The most that results of operations take up at once for one image, without weights and scratch memory.

    Args:
        network: On any device; its weights stay where they are.
        height: Of the image, pixels; a multiple of the network's `size_multiple`.
        width: See there.

    Returns:
        Bytes; None where the network cannot be run without memory.
    """
    image = torch.empty(1, 3, height, width, device="meta")
    empty, live = weightless(network), _Live()
    try:
        with torch.no_grad(), live:
            empty(image)
    except Exception:  # what somebody's own network makes of tensors without content is anybody's guess
        return None
    return live.peak


def weightless(network: nn.Module) -> nn.Module:
    """A copy whose weights have shapes but no memory: it can be run on the meta device."""
    tensors = (*network.parameters(), *network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor.detach().to("meta") for tensor in tensors})


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are still in use."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                self._see(result.untyped_storage())
        return results

    def _see(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.now -= size
