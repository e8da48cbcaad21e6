"""Memory of tensors, counted, so that tests of its growth need no clock and no large model."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of the tensors made while it is on that are still there, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def _count(self, value: Any) -> None:
        if isinstance(value, Tensor) and (storage := value.untyped_storage()) not in self._known:
            self._known.add(storage)
            size = storage.nbytes()
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_flatten((args, kwargs))[0]:
            if isinstance(value, Tensor):
                self._known.add(value.untyped_storage())  # was there before, or is counted
        result = func(*args, **(kwargs or {}))
        for value in tree_flatten(result)[0]:
            self._count(value)
        return result
