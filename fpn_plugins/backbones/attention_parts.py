"""Which queries a blocked attention works on at once, and where their keys lie: images, heads, windows.

The letters are those of `blocked_attention`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Inputs(NamedTuple):
    """Arguments of `blocked_window_attention`, which says what they are."""

    q: Tensor
    k: Tensor
    v: Tensor
    rows_h: Tensor
    rows_w: Tensor


class Patch(NamedTuple):
    """A rectangle of some heads' maps of some images."""

    images: slice
    heads: slice
    rows: slice
    columns: slice

    def read(self, x: Tensor) -> Tensor:
        """Of ``B H W M D``, as matrices ``P N D``, one for each head of each image."""
        part = x[self.images, self.rows, self.columns, self.heads].permute(0, 3, 1, 2, 4)
        return part.flatten(2, 3).flatten(0, 1)

    def write(self, x: Tensor, matrices: Tensor) -> None:
        """The inverse of `read`."""
        place = x[self.images, self.rows, self.columns, self.heads]
        images, rows, columns, heads = place.shape[:4]
        place.copy_(matrices.view(images, heads, rows, columns, -1).permute(0, 2, 3, 1, 4))


class Part(NamedTuple):
    """What is worked on at once: queries, and the keys that they attend to.

    Attributes:
        queries: where the queries lie.
        keys: where the keys lie.
        grid: rows and columns of queries.
        filling: rows and columns of zeros below and beside the keys.
    """

    queries: Patch
    keys: Patch
    grid: tuple[int, int]
    filling: tuple[int, int]

    def read(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Queries ``P N D``, keys and values ``P n D``, and the rows of their positions."""
        k, v = (self._fill(self.keys.read(x)) for x in (inputs.k, inputs.v))
        return self.queries.read(inputs.q), k, v, inputs.rows_h[: self.grid[0]], inputs.rows_w[: self.grid[1]]

    def write_keys(self, x: Tensor, matrices: Tensor) -> None:
        """Write what belongs to keys, without the filling."""
        rows, columns = self._extent()
        if any(self.filling):
            matrices = matrices.unflatten(1, (rows + self.filling[0], -1))[:, :rows, :columns].flatten(1, 2)
        self.keys.write(x, matrices)

    def _fill(self, matrices: Tensor) -> Tensor:
        if not any(self.filling):
            return matrices
        below, beside = self.filling
        return F.pad(matrices.unflatten(1, self._extent()), (0, 0, 0, beside, 0, below)).flatten(1, 2)

    def _extent(self) -> tuple[int, int]:
        return _length(self.keys.rows), _length(self.keys.columns)


def parts(inputs: Inputs, scores: int) -> Iterator[Part]:
    """Window by window, as many images at once as ``scores`` allow; else one image, and as many of its heads."""
    images, height, width, heads, _ = inputs.q.shape
    (q_rows, k_rows), (q_columns, k_columns) = inputs.rows_h.shape[:2], inputs.rows_w.shape[:2]
    for top, key_top in zip(blocks(height, q_rows), blocks(inputs.k.shape[1], k_rows), strict=True):
        for left, key_left in zip(blocks(width, q_columns), blocks(inputs.k.shape[2], k_columns), strict=True):
            grid = _length(top), _length(left)
            filling = k_rows - _length(key_top), k_columns - _length(key_left)
            of_a_head = grid[0] * grid[1] * k_rows * k_columns
            for some in blocks(images, scores // (heads * of_a_head)):
                for few in blocks(heads, scores // of_a_head):
                    yield Part(Patch(some, few, top, left), Patch(some, few, key_top, key_left), grid, filling)


def blocks(total: int, size: int) -> Iterator[slice]:
    """Slices of ``size``, at least 1; the last one may be shorter."""
    for start in range(0, total, max(1, size)):
        yield slice(start, min(start + max(1, size), total))


def _length(part: slice) -> int:
    return int(part.stop) - int(part.start)
