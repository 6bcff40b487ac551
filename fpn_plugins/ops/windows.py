"""Non-overlapping windows of a map of tokens.

Letters in the shapes: ``n`` windows of all maps, ``s`` side of a window.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .tracing import traced


def to_windows(x: Tensor, size: int) -> Tensor:
    """Cut maps of tokens into windows, row by row.

    Args:
        x: tokens ``B H W C``; zero-padded at the bottom and on the right to whole windows.
        size: side ``s`` of a window.

    Returns:
        ``n s s C``.
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
    """Tokens ``B height width C`` of windows ``n s s C``: the inverse of `to_windows`."""
    size, channels = windows.shape[2:]
    rows, columns = windows_along(height, size), windows_along(width, size)
    x = windows.reshape(-1, rows, columns, size, size, channels)
    x = _swapped(x).view(-1, rows * size, columns * size, channels)
    if traced():  # the strides of a slice would fix whether there is something to crop
        return F.pad(x, (0, 0, 0, width - columns * size, 0, height - rows * size))
    return x[:, :height, :width]


def windows_along(side: int, size: int) -> int:
    """Windows along a side, rounded up, without negative numbers, which ONNX divides in another way."""
    return (side + size - 1) // size


def _swapped(x: Tensor) -> Tensor:
    """Columns of windows before rows inside of them, or back.

    It is copied in any case: whether a view would do depends on the number of windows, which a trace must not.
    """
    return x.transpose(2, 3).clone(memory_format=torch.contiguous_format)
