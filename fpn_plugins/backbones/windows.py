"""Cutting a map into windows: what pads, shifts, cuts, and undoes all of it.

Twice: `cut` and `join` in plain PyTorch, with sizes that trace, and `WindowLayout`, which moves each token once, by
index, and needs one row of filling only, so that the linear layers on both sides run on the map's own tokens.

Letters in the shapes: ``T = B H W`` tokens of all maps, ``n`` windows of ``N = size * size`` tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..checkpointing import traced


def windows_along(cells: int, size: int) -> int:
    """Number of windows that cover a side of a map."""
    return (cells + size - 1) // size


def fill_up(x: Tensor, height: int, width: int) -> Tensor:
    """``B H W C`` with zeros at the bottom and at the right, up to ``height`` and ``width``."""
    below, beside = height - x.shape[1], width - x.shape[2]
    # a trace must not depend on the size
    if traced() or below or beside:
        x = F.pad(x, (0, 0, 0, beside, 0, below))
    return x


def cut(x: Tensor, size: int, shift: int) -> Tensor:
    """Fill a map ``B H W C`` up to whole windows, shift it cyclically, and cut it: ``n N C``, image by image."""
    batch, height, width, channels = x.shape
    rows, columns = windows_along(height, size), windows_along(width, size)
    x = fill_up(x, rows * size, columns * size)  # comes first: the shift wraps around what is filled up
    if shift:
        x = x.roll((-shift, -shift), (1, 2))
    x = x.reshape(batch, rows, size, columns, size, channels).transpose(2, 3)
    return x.reshape(batch * rows * columns, size * size, channels)


def join(windows: Tensor, batch: int, height: int, width: int, size: int, shift: int) -> Tensor:
    """The map ``B H W C`` of `cut`."""
    rows, columns = windows_along(height, size), windows_along(width, size)
    x = windows.reshape(batch, rows, columns, size, size, -1).transpose(2, 3)
    x = x.reshape(batch, rows * size, columns * size, -1)
    if shift:
        x = x.roll((shift, shift), (1, 2))
    return x.narrow(1, 0, height).narrow(2, 0, width)


def window_kinds(batch: int, height: int, width: int, size: int, device: torch.device) -> Tensor:
    """Kind of each window of shifted maps: 0 inside, 1 in the last column, 2 in the last row, 3 in the corner."""
    rows, columns = windows_along(height, size), windows_along(width, size)
    last_row = torch.arange(rows, device=device) == rows - 1
    last_column = torch.arange(columns, device=device) == columns - 1
    kinds = 2 * last_row[:, None] + last_column[None].int()
    return kinds.expand(batch, -1, -1).reshape(batch * rows * columns)


class WindowLayout(NamedTuple):
    """Where the tokens of maps lie in their windows; the same for all blocks of a stage that shift alike.

    Attributes:
        sources: token at each place of the windows, ``n*N``; filling is token ``T``, one past the last.
        places: place of each token, ``T``.
        filling: places that hold filling.
        kinds: of shifted maps, see `window_kinds`.
    """

    sources: Tensor
    places: Tensor
    filling: Tensor
    kinds: Tensor | None


def window_layout(batch: int, height: int, width: int, size: int, shift: int, device: torch.device) -> WindowLayout:
    """The layout of ``batch`` maps of ``height x width`` tokens."""
    tokens = batch * height * width
    # tokens are numbered from 1, so that what fills up is 0
    numbers = torch.arange(1, tokens + 1, device=device).view(batch, height, width, 1)
    sources = cut(numbers, size, shift).flatten() - 1
    places = join(torch.arange(len(sources), device=device), batch, height, width, size, shift).flatten()
    filling = (sources < 0).nonzero().flatten()
    kinds = window_kinds(batch, height, width, size, device) if shift else None
    return WindowLayout(sources.where(sources >= 0, tokens), places, filling, kinds)


def into_windows(rows: Tensor, layout: WindowLayout) -> Tensor:
    """Rows ``T+1 C``, one per token and the last one for filling -> those of all windows' places, ``n*N C``."""
    return _IntoWindows.apply(rows, layout)


def out_of_windows(rows: Tensor, layout: WindowLayout) -> Tensor:
    """Rows ``n*N C`` of all windows' places -> those of tokens, ``T C``."""
    return _OutOfWindows.apply(rows, layout)


class _IntoWindows(torch.autograd.Function):
    """Backward, each row is read from its one place; PyTorch's own would add all places to rows of zeros."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, layout: WindowLayout) -> Tensor:
        ctx.layout = layout
        return rows.index_select(0, layout.sources)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        tokens = len(ctx.layout.places)
        grad_rows = grad.new_empty(tokens + 1, grad.shape[1])
        torch.index_select(grad, 0, ctx.layout.places, out=grad_rows[:tokens])
        grad_rows[tokens] = grad.index_select(0, ctx.layout.filling).sum(0)
        return grad_rows, None


class _OutOfWindows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, layout: WindowLayout) -> Tensor:
        ctx.layout = layout
        return rows.index_select(0, layout.places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        with_zeros = torch.cat([grad, grad.new_zeros(1, grad.shape[1])])
        return with_zeros.index_select(0, ctx.layout.sources), None
