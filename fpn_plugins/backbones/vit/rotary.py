"""Rotary positions: queries and keys are rotated by angles that grow with a token's place on the map.

Channels form pairs. A pair with the frequency ``f`` of a token at the coordinate ``t`` is rotated by the angle ``f t``,
so a product of query and key depends on the difference of their coordinates. Half of the pairs rotate with the row, the
other half with the column. Sources: RoFormer (arXiv:2104.09864), for images EVA-02 (arXiv:2303.11331), Perception
Encoder (arXiv:2504.13181) and DINOv3 (arXiv:2508.10104).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Rotary(NamedTuple):
    """Rotary positions of one network, for maps of any size.

    Attributes:
        temperature: the frequencies fall from the first to nearly ``1 / temperature`` of it.
        centered: coordinates of a map's cells rise from -1 to 1 along each axis, whatever its size (DINOv3). Otherwise,
            they count the cells.
        reference: rows and columns to which the counted cells of any map are scaled (the map of the pre-training, for
            EVA-02 and PE); ``None`` does not scale them.
        offset: added to the count of the cells.
        columns_first: whether the first pairs rotate with the column instead of the row.
        halves: whether a pair is a channel of the first half and one of the second half of the channels, instead of two
            neighbors.
    """

    temperature: float
    centered: bool = False
    reference: tuple[int, int] | None = None
    offset: float = 0.0
    columns_first: bool = False
    halves: bool = False

    def angles(self, height: int, width: int, channels: int, window_size: int, device: torch.device) -> Tensor:
        """Compute the angles of the cells of a map in row-major order, ``H*W channels/2``, in single precision.

        Networks were trained with tables of this precision; the order of the operations is theirs, too.

        Args:
            height: rows of the map.
            width: columns of the map.
            channels: channels of a head, a multiple of 4.
            window_size: side of windows, each with the coordinates of a map of its own; 0 for none.
            device: device of the result.
        """
        bands = torch.arange(channels // 4, device=device, dtype=torch.float32)
        sides = [(height, 0), (width, 1)]
        rows, columns = (self._coordinates(side, axis, window_size, device) for side, axis in sides)
        if self.centered:
            periods = self.temperature ** (2.0 * bands / (channels // 2))
            rows, columns = (2 * math.pi * t[:, None] / periods for t in (rows, columns))
        else:
            frequencies = 1.0 / self.temperature ** (bands / (channels // 4))
            rows, columns = (t[:, None] * frequencies for t in (rows, columns))
        by_row, by_column = rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)
        ordered = (by_column, by_row) if self.columns_first else (by_row, by_column)
        return torch.cat(ordered, -1).flatten(0, 1)

    def _coordinates(self, side: int, axis: int, window_size: int, device: torch.device) -> Tensor:
        """Compute the coordinates of the cells along an axis, ``side``."""
        cells, extent = torch.arange(side, device=device), side
        if window_size:
            cells, extent = cells % window_size, window_size
        count = cells.to(torch.float32)
        if self.centered:
            return 2.0 * ((count + 0.5 + self.offset) / extent) - 1.0
        count = count + self.offset
        return count if self.reference is None else count / extent * self.reference[axis]


def rotate(x: Tensor, cos: Tensor, sin: Tensor, halves: bool) -> Tensor:
    """Rotate the pairs of channels of ``... D`` by angles with these cosines and sines, which broadcast to ``... D/2``.

    Products are computed in the higher precision of ``x`` and the angles; the result has the type of ``x``.
    """
    first, second = x.chunk(2, -1) if halves else x.unflatten(-1, (-1, 2)).unbind(-1)
    turned = (first * cos - second * sin, second * cos + first * sin)
    return (torch.cat(turned, -1) if halves else torch.stack(turned, -1).flatten(-2)).to(x.dtype)
