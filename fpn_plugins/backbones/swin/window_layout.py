"""Index tables that move the tokens of maps into windows, shifted or not, and back.

Swin Transformer (arXiv:2103.14030, section 3.2). Maps are padded to whole windows, shifted cyclically and cut, so that
the last row and column of shifted windows hold tokens from opposite edges, which a mask separates. Everything here is
arithmetic on positions, which, unlike padding, rolling and reshaping, can be traced for any size.

Letters in the shapes: ``T = B H W`` tokens of all maps, ``n`` windows of all maps, ``N`` tokens of a window.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.windows import windows_along

# added to the score of two tokens to separate them, as in the official code: exp(-100) vanishes in a sum
APART = -100.0


class WindowLayout(NamedTuple):
    """Layout of maps in windows, shared by all blocks of a stage with the same shift.

    Attributes:
        tokens: token at each place of the windows, ``n*N``, counted from 1 in row-major order; 0 is padding.
        places: place of each token, ``T``.
        masks: for shifted maps, the bias of each window's scores, ``n N N``: 0 between tokens that were neighbors
            before the shift, `APART` between others.
    """

    tokens: Tensor
    places: Tensor
    masks: Tensor | None


def window_layout(batch: int, height: int, width: int, size: int, shift: int, device: torch.device) -> WindowLayout:
    """Compute the layout of maps in windows.

    Args:
        batch: number of maps.
        height: rows of a map in tokens.
        width: columns of a map in tokens.
        size: side of a window in tokens.
        shift: tokens by which the padded map is rolled up and to the left before it is cut.
        device: device of the tables.
    """
    rows, columns = windows_along(height, size), windows_along(width, size)
    window, inside = _divide(torch.arange(batch * rows * columns * size * size, device=device), size * size)
    (image, row, column), (down, across) = _grid(window, rows, columns), _divide(inside, size)
    y, x = _wrap(row * size + down + shift, rows * size), _wrap(column * size + across + shift, columns * size)
    tokens = torch.where((y < height) & (x < width), (image * height + y) * width + x + 1, 0)

    image, y, x = _grid(torch.arange(batch * height * width, device=device), height, width)
    row, down = _divide(_wrap(y + (rows * size - shift), rows * size), size)
    column, across = _divide(_wrap(x + (columns * size - shift), columns * size), size)
    places = ((image * rows + row) * columns + column) * (size * size) + down * size + across
    return WindowLayout(tokens, places, _masks(batch, rows, columns, size, shift, device) if shift else None)


def _masks(batch: int, rows: int, columns: int, size: int, shift: int, device: torch.device) -> Tensor:
    _, row, column = _grid(torch.arange(batch * rows * columns, device=device)[:, None], rows, columns)
    down, across = _divide(torch.arange(size * size, device=device), size)
    wrapped_y = (row == rows - 1) & (down >= size - shift)  # n N
    wrapped_x = (column == columns - 1) & (across >= size - shift)
    origin = 2 * wrapped_y.int() + wrapped_x.int()
    return torch.where(origin[:, :, None] == origin[:, None, :], 0.0, APART)


def _grid(x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split positions that count through all images into image, row and column."""
    rows, column = _divide(x, width)
    image, row = _divide(rows, height)
    return image, row, column


def _divide(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Compute quotient and remainder; ONNX has no remainder for a symbolic size."""
    quotient = x // size
    return quotient, x - quotient * size


def _wrap(x: Tensor, size: int) -> Tensor:
    """Wrap positions below ``2 size`` around at ``size``."""
    return torch.where(x >= size, x - size, x)
