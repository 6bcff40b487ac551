"""The arithmetic of Winograd's minimal filtering F(4x4, 3x3): a convolution and its gradients, see ``winograd.py``.

Maps are taken apart into tiles of 4 x 4 outputs, whose 6 x 6 inputs overlap. In one dimension a tile's outputs ``y``
come from its inputs ``d`` and the kernel ``g`` by ``y = S A^T [(G g) * (B^T d)]``, with a product per interpolation
point, of which there are six, instead of twelve. Tiles and channels make of these products 36 matrix products. The
gradient with respect to the inputs is a convolution with the turned kernel; with respect to the kernel, each step is
transposed: ``G^T [(B^T d) * (A S dy)]``, summed over the tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .ops.memory_format import memory_format_of

TILE = 4  # outputs per side
PATCH = TILE + 2  # inputs per side
BLOCK = 1_200_000  # numbers in transformed inputs and outputs at a time: more are no faster by much, and take memory
A = 3 / 4  # the interpolation points are 0, A, -A, B, -B and infinity
B = 2 * A


def _kernel_transform(like: Tensor) -> Tensor:
    """``G`` of the paper in both dimensions, ``36 9``; A**-3 because outputs are scaled behind (``S``)."""
    rows = [(point, 2 * point**2 * (point**2 - other**2)) for point, other in ((A, B), (-A, B), (B, A), (-B, A))]
    products = [(1 / n, point / n, point**2 / n) for point, n in rows]
    one = torch.tensor(
        [(1 / (A * B) ** 2, 0.0, 0.0), *products, (0.0, 0.0, A**-3)], dtype=torch.float64, device=like.device
    )
    return torch.kron(one, one).to(like.dtype)


def _scale(x: Tensor) -> Tensor:
    """``S``, because the points are A times 0, 1, -1, 2, -2, which ``A^T`` of the paper is for: ``4 1 4 1``."""
    powers = A ** torch.arange(TILE, dtype=x.dtype, device=x.device)
    return (powers[:, None] * powers)[:, None, :, None]


def transform_kernel(weight: Tensor) -> Tensor:
    """``C_out C_in 3 3`` to ``36 C_in C_out``."""
    out_channels, in_channels, _, _ = weight.shape
    taps = weight.permute(2, 3, 1, 0).reshape(9, -1)
    return (_kernel_transform(taps) @ taps).view(PATCH**2, in_channels, out_channels)


def turned(weight: Tensor) -> Tensor:
    """The kernel of the gradient with respect to the inputs: ``C_out C_in 3 3`` to ``C_in C_out 3 3``."""
    return weight.flip(2, 3).transpose(0, 1)


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve ``B C_in H W``, padded with zeros, to ``B C_out H W`` in the memory format of ``x``.

    Args:
        x: the map, in single precision.
        kernel: what `transform_kernel` gives.
        bias: ``C_out``, or none.
    """
    batch, channels, height, width = x.shape
    down, across = tiles(x)
    out_channels, scale = kernel.shape[-1], _scale(x)
    out = x.new_empty(batch, down, TILE, across, TILE, out_channels)
    for images, rows in _blocks(batch, down, across, channels + out_channels):
        block = out[images, rows]
        _convolve_block(_inputs(x[images], rows), kernel, block)
        block = block.mul_(scale) if bias is None else torch.addcmul(bias, block, scale, out=block)
    y = out.view(batch, TILE * down, TILE * across, out_channels)[:, :height, :width]
    return y.permute(0, 3, 1, 2).contiguous(memory_format=memory_format_of(x))


def weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Gradient with respect to the kernel, ``C_out C_in 3 3``.

    Args:
        x: the map that was convolved, ``B C_in H W``.
        gradient: with respect to the result, ``B C_out H W``.
    """
    (down, across), (batch, channels, _, _) = tiles(x), x.shape
    out_channels, scale = gradient.shape[1], _scale(x)
    total = x.new_zeros(PATCH**2, channels, out_channels)
    for images, rows in _blocks(batch, down, across, channels + out_channels):
        patches = _patches(_inputs(x[images], rows)).view(PATCH**2, -1, channels)
        scaled = _whole_tiles(gradient[images], rows) * scale
        total.baddbmm_(patches.transpose(1, 2), _transform_gradients(scaled).view(PATCH**2, -1, out_channels))
    taps = _kernel_transform(x).T @ total.view(PATCH**2, -1)
    return taps.view(3, 3, channels, out_channels).permute(3, 2, 0, 1).contiguous()


def tiles(x: Tensor) -> tuple[int, int]:
    """How many tiles a map (``B C H W``) has down and across, those at the edges included."""
    return -(-x.shape[-2] // TILE), -(-x.shape[-1] // TILE)


def _blocks(batch: int, down: int, across: int, channels: int) -> Iterator[tuple[slice, slice]]:
    """Images and rows of tiles to be treated at a time: some rows of one image, or some whole images."""
    rows = min(down, max(1, BLOCK // (PATCH**2 * channels * across)))
    images = max(1, BLOCK // (PATCH**2 * channels * across * down))
    for first in range(0, batch, images):
        for top in range(0, down, rows):
            yield slice(first, min(first + images, batch)), slice(top, min(top + rows, down))


def _inputs(x: Tensor, rows: slice) -> Tensor:
    """What some rows of tiles are made of, of ``B C H W``: ``B, 4 rows + 2, 4 columns + 2, C``, zero beyond the map."""
    (_, across), (height, width) = tiles(x), x.shape[-2:]
    first, last = TILE * rows.start - 1, TILE * rows.stop + 1
    edges = (0, 0, 1, 1 + TILE * across - width, max(-first, 0), max(last - height, 0))
    return F.pad(x.permute(0, 2, 3, 1)[:, max(first, 0) : last], edges)


def _whole_tiles(y: Tensor, rows: slice) -> Tensor:
    """Some rows of tiles of ``B C H W``: ``B, rows, 4, columns, 4, C``, zero beyond the map."""
    (_, across), (batch, channels, height, width) = tiles(y), y.shape
    edges = (0, 0, 0, TILE * across - width, 0, max(TILE * rows.stop - height, 0))
    cells = F.pad(y.permute(0, 2, 3, 1)[:, TILE * rows.start : TILE * rows.stop], edges)
    return cells.view(batch, -1, TILE, across, TILE, channels)


def _patches(x: Tensor) -> Tensor:
    """Transformed inputs: ``N, 4 rows + 2, 4 columns + 2, C`` to ``6 6 N rows columns C``."""
    images, height, width, channels = x.shape
    rows, columns = height // TILE, width // TILE
    by_row = x.new_empty(PATCH, images, rows, width, channels)
    _transform_inputs(_taps(x, 1, rows), by_row)
    patches = x.new_empty(PATCH, PATCH, images, rows, columns, channels)
    _transform_inputs(_taps(by_row, 3, columns), patches.transpose(0, 1))
    return patches


def _convolve_block(x: Tensor, kernel: Tensor, out: Tensor) -> None:
    """``N, 4 rows + 2, 4 columns + 2, C_in`` into ``N, rows, 4, columns, 4, C_out``."""
    images, rows, _, columns, _, out_channels = out.shape
    products = torch.bmm(_patches(x).view(PATCH**2, images * rows * columns, -1), kernel)
    products = products.view(PATCH, PATCH, images, rows, columns, out_channels)
    by_column = x.new_empty(TILE, PATCH, images, rows, columns, out_channels)
    _transform_outputs(products, by_column)
    _transform_outputs(by_column.transpose(0, 1), out.permute(4, 2, 0, 1, 3, 5))


def _transform_gradients(gradient: Tensor) -> Tensor:
    """Gradients with respect to outputs: ``N, rows, 4, columns, 4, C_out`` to ``6 6 N rows columns C_out``."""
    images, rows, _, columns, _, channels = gradient.shape
    by_column = gradient.new_empty(PATCH, TILE, images, rows, columns, channels)
    _transform_outputs_transposed(gradient.permute(4, 2, 0, 1, 3, 5), by_column)
    products = gradient.new_empty(PATCH, PATCH, images, rows, columns, channels)
    _transform_outputs_transposed(by_column.transpose(0, 1), products)
    return products


def _taps(x: Tensor, dim: int, count: int) -> list[Tensor]:
    """The first, second, ... sixth input of each tile along a dimension."""
    whole = (slice(None),) * dim
    return [x[whole + (slice(tap, tap + TILE * (count - 1) + 1, TILE),)] for tap in range(PATCH)]


def _transform_inputs(x: Sequence[Tensor], out: Tensor) -> None:
    """Six inputs to six, ``B^T``, into ``out`` of a dimension more."""
    even, odd = torch.sub(x[4], x[2], alpha=B**2), torch.sub(x[3], x[1], alpha=B**2)
    torch.add(even, odd, alpha=A, out=out[1])
    torch.sub(even, odd, alpha=A, out=out[2])
    torch.sub(x[4], x[2], alpha=A**2, out=even)
    torch.sub(x[3], x[1], alpha=A**2, out=odd)
    torch.add(even, odd, alpha=B, out=out[3])
    torch.sub(even, odd, alpha=B, out=out[4])
    torch.sub(x[4], x[2], alpha=A**2 + B**2, out=out[0]).add_(x[0], alpha=(A * B) ** 2)
    torch.sub(x[5], x[3], alpha=A**2 + B**2, out=out[5]).add_(x[1], alpha=(A * B) ** 2)


def _transform_outputs(x: Tensor, out: Tensor) -> None:
    """Six products to four outputs, ``A^T``, into ``out``, both along the first dimension."""
    sum_1, difference_1 = x[1] + x[2], x[1] - x[2]
    sum_2, difference_2 = x[3] + x[4], x[3] - x[4]
    torch.add(difference_1, difference_2, alpha=2, out=out[1])
    torch.add(sum_1, sum_2, alpha=4, out=out[2])
    torch.add(sum_1.add_(sum_2), x[0], out=out[0])
    torch.add(difference_1.add_(difference_2, alpha=8), x[5], out=out[3])


def _transform_outputs_transposed(y: Tensor, out: Tensor) -> None:
    """Four gradients to six, ``A``, into ``out``, both along the first dimension."""
    even, odd = y[0] + y[2], y[1] + y[3]
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.add(y[0], y[2], alpha=4, out=even)
    torch.add(y[1], y[3], alpha=4, out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    out[0].copy_(y[0])
    out[5].copy_(y[3])
