"""Non-overlapping windows of a map of tokens.

Letters in the shapes: ``n`` windows of all maps, ``s`` side of a window.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .tracing import traced


def to_windows(x: Tensor, size: int) -> Tensor:
    """Cut tokens ``B H W C`` into windows ``n s s C`` of side ``size``, row by row.

    Maps are zero-padded at the bottom and on the right to whole windows.
    """
    batch, height, width, channels = x.shape
    rows, columns = windows_along(height, size), windows_along(width, size)
    below, beside = rows * size - height, columns * size - width
    # a trace must not depend on the size
    if traced() or below or beside:
        x = F.pad(x, (0, 0, 0, beside, 0, below))
    x = x.reshape(batch, rows, size, columns, size, channels)
    return _swapped(x).view(-1, size, size, channels)


def from_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Join windows ``n s s C`` to tokens ``B height width C``: the inverse of `to_windows`."""
    size, channels = windows.shape[2:]
    rows, columns = windows_along(height, size), windows_along(width, size)
    x = windows.reshape(-1, rows, columns, size, size, channels)
    x = _swapped(x).view(-1, rows * size, columns * size, channels)
    if traced():  # the strides of a slice would record whether there is something to crop
        return F.pad(x, (0, 0, 0, width - columns * size, 0, height - rows * size))
    return x[:, :height, :width]


def windows_along(side: int, size: int) -> int:
    """Count windows along a side: divide and round up, without negative numbers, which ONNX divides differently."""
    return (side + size - 1) // size


def _swapped(x: Tensor) -> Tensor:
    """Swap columns of windows and rows inside windows; always copied, as a trace must not depend on window counts."""
    return x.transpose(2, 3).clone(memory_format=torch.contiguous_format)
