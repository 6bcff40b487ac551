"""Moving the tokens of maps into windows and back, by index: padding, shifting and cutting in one step.

What fills up the windows at the edges is one row for all of them, so that the linear layers on both sides run on the
maps' own tokens. Everything is arithmetic on positions, which traces with any size.

Letters in the shapes: ``T = B H W`` tokens of all maps, ``n`` windows of ``N = size * size`` tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..ops.tracing import traced


class WindowLayout(NamedTuple):
    """Where the tokens of maps lie in their windows; the same for all blocks of a stage that shift alike.

    Attributes:
        sources: token at each place of the windows, ``n*N``; filling is token ``T``, one past the last.
        places: place of each token, ``T``.
        kinds: of shifted maps, the kind of each window, ``n``: 0 inside, 1 in the last column, 2 in the last row, 3 in
            the corner.
    """

    sources: Tensor
    places: Tensor
    kinds: Tensor | None


def window_layout(batch: int, height: int, width: int, size: int, shift: int, device: torch.device) -> WindowLayout:
    """The layout of ``batch`` maps of ``height x width`` tokens, filled up to whole windows, shifted, and cut."""
    rows, columns = (height + size - 1) // size, (width + size - 1) // size
    tokens, windows = batch * height * width, batch * rows * columns
    window, inside = _split(torch.arange(windows * size * size, device=device), size * size)
    (image, row), column = _grid(window, rows, columns)
    down, across = _split(inside, size)
    # padding comes before the shift, which wraps around what is filled up
    y = _wrap(row * size + down + shift, rows * size)
    x = _wrap(column * size + across + shift, columns * size)
    token = (image * height + y) * width + x
    sources = torch.where((y < height) & (x < width), token, tokens)

    (image, y), x = _grid(torch.arange(tokens, device=device), height, width)
    row, down = _split(_wrap(y + (rows * size - shift), rows * size), size)
    column, across = _split(_wrap(x + (columns * size - shift), columns * size), size)
    places = ((image * rows + row) * columns + column) * (size * size) + down * size + across

    (_, row), column = _grid(torch.arange(windows, device=device), rows, columns)
    kinds = 2 * (row == rows - 1).long() + (column == columns - 1).long()
    return WindowLayout(sources, places, kinds if shift else None)


def _split(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Quotient and remainder; ONNX has none of a symbolic size."""
    quotient = x // size
    return quotient, x - quotient * size


def _grid(x: Tensor, height: int, width: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """``(image, row), column`` of each number of a cell."""
    rows, column = _split(x, width)
    return _split(rows, height), column


def _wrap(x: Tensor, size: int) -> Tensor:
    """Positions below ``2 * size``, taken round a circle of ``size``."""
    return torch.where(x >= size, x - size, x)


def into_windows(x: Tensor, layout: WindowLayout) -> Tensor:
    """Rows ``T+1 C``, one per token and the last one for filling -> those of all windows' places, ``n*N C``."""
    if traced():
        return x.index_select(0, layout.sources)
    return _IntoWindows.apply(x, layout)


def out_of_windows(x: Tensor, layout: WindowLayout) -> Tensor:
    """Rows ``n*N C`` of all windows' places -> those of tokens, ``T C``."""
    if traced():
        return x.index_select(0, layout.places)
    return _OutOfWindows.apply(x, layout)


class _IntoWindows(torch.autograd.Function):
    """Backward, each row is read from its one place; PyTorch's own would add all places to rows of zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: WindowLayout) -> Tensor:
        ctx.layout = layout
        return x.index_select(0, layout.sources)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        sources, places, _ = ctx.layout
        tokens = len(places)
        grad_x = grad.new_empty(tokens + 1, grad.shape[1])
        torch.index_select(grad, 0, places, out=grad_x[:tokens])
        # the filling's places: the largest sources, as many as are left; to search for them would wait for the device
        filling = sources.topk(len(sources) - tokens, sorted=False).indices
        grad_x[tokens] = grad.index_select(0, filling).sum(0)
        return grad_x, None


class _OutOfWindows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: WindowLayout) -> Tensor:
        ctx.layout = layout
        return x.index_select(0, layout.places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        with_zeros = torch.cat([grad, grad.new_zeros(1, grad.shape[1])])
        return with_zeros.index_select(0, ctx.layout.sources), None
