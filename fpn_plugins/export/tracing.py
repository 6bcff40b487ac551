"""Let a toolbox's own pooling be recorded for images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from ..compat import exporting
from ..ops.pooling import max_pool2d


class AnySizePooling(TorchFunctionMode):
    """Compute max pooling in the form that ``torch.export`` records once for all sizes.

    PyTorch's own form records whether a side leaves a remainder, and the program then refuses other sizes.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace max pooling without dilation; call every other function."""
        named = dict(zip(("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"), args, strict=False))
        named |= kwargs or {}
        if func in (F.max_pool2d, torch.max_pool2d) and _pair(named.get("dilation", 1)) == (1, 1):
            kernel = _pair(named["kernel_size"])
            stride = _pair(named.get("stride") or kernel)
            padding = _pair(named.get("padding", 0))
            return max_pool2d(named["input"], kernel, stride, padding, named.get("ceil_mode", False))
        return func(*args, **(kwargs or {}))


def sizes_stay_open() -> AbstractContextManager[Any]:
    """Return the context in which a network is recorded by ``torch.export``; elsewhere it does nothing."""
    return AnySizePooling() if exporting() else nullcontext()


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    return (value[0], value[-1])
