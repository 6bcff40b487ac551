"""Record a detector as it is, for images of any size: a toolbox's own pooling, and modules compiled in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
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


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Run the modules of a model that are compiled in place uncompiled, which recording and its checks need."""
    compiled = {module: module._compiled_call_impl for module in model.modules() if module._compiled_call_impl}
    try:
        for module in compiled:
            module._compiled_call_impl = None
        yield
    finally:
        for module, call in compiled.items():
            module._compiled_call_impl = call


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    return (value[0], value[-1])
