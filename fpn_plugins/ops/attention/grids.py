"""Attention over whole maps or inside windows, with queries on one grid, and keys and values on another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tracing import traced
from ..windows import from_windows, to_windows
from .choice import attend
from .forms import AxialBias


def attend_grids(q: Tensor, k: Tensor, v: Tensor, bias: AxialBias | None = None) -> Tensor:
    """Apply `attend` to all queries and all keys of a map.

    Args:
        q: queries ``B M H W D``, the shape of the result.
        k: keys ``B M h w D``.
        v: values, the same shape as ``k``.
        bias: bias of each query for rows and columns of keys, ``B M H W h`` and ``B M H W w``.
    """
    flat_q, flat_k, flat_v = (x.flatten(2, 3) for x in (q, k, v))
    flat_bias = None if bias is None else AxialBias(*(x.flatten(2, 3) for x in bias))
    return attend(flat_q, flat_k, flat_v, flat_bias).unflatten(2, q.shape[2:4])


def attend_windows(q: Tensor, k: Tensor, v: Tensor, bias: AxialBias, q_size: int, k_size: int) -> Tensor:
    """Apply `attend` to all queries of a map and the keys of their own window.

    Keys and values are zero-padded to whole windows, and the padding takes part. On a CPU, windows are computed one by
    one, which skips queries outside the map; elsewhere, and in traces, all at once. Time of MViTv2-T relative to all at
    once, inference / training, lower is better: 0.80 / 0.83 at 256 x 320, 0.96 / 0.94 at 384 x 512 (AMD EPYC with
    AVX-512, 1 thread; ``python tools/benchmarks/choices.py --threads 1``).

    Args:
        q: queries ``B M H W D``, the shape of the result.
        k: keys ``B M h w D``, cut into as many windows as the queries.
        v: values, the same shape as ``k``.
        bias: bias of each query for rows and columns of keys in its window, ``B M H W k_size`` each.
        q_size: side of the windows in queries.
        k_size: side of the windows in keys.
    """
    one_by_one = q.device.type == "cpu" and not traced()
    compute = _window_by_window if one_by_one else _all_windows
    flat_q, flat_k, flat_v, rows, columns = (x.flatten(0, 1) for x in (q, k, v, *bias))
    return compute(flat_q, flat_k, flat_v, rows, columns, q_size, k_size).view(q.shape)


def _all_windows(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, q_size: int, k_size: int) -> Tensor:
    """Attend in all windows of maps ``P H W D`` at once."""
    height, width = q.shape[1:3]
    q, rows, columns = (to_windows(x, q_size)[:, None] for x in (q, rows, columns))
    k, v = (to_windows(x, k_size)[:, None] for x in (k, v))
    return from_windows(attend_grids(q, k, v, AxialBias(rows, columns))[:, 0], height, width)


def _window_by_window(
    q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, q_size: int, k_size: int
) -> Tensor:
    """Attend in the windows of maps ``P H W D`` one after another."""
    q_sides = [[min(q_size, side - start) for start in range(0, side, q_size)] for side in q.shape[1:3]]
    k_sides = [[k_size] * len(sides) for sides in q_sides]
    below, beside = (sum(sizes) - side for sizes, side in zip(k_sides, k.shape[1:3], strict=True))
    k, v = (F.pad(x, (0, 0, 0, beside, 0, below)) for x in (k, v))
    parts = [_cut(x, q_sides) for x in (q, rows, columns)] + [_cut(x, k_sides) for x in (k, v)]
    strips = []
    for strip in zip(*parts, strict=True):
        windows = [[x[:, None] for x in window] for window in zip(*strip, strict=True)]
        attended = [attend_grids(q, k, v, AxialBias(rows, columns))[:, 0] for q, rows, columns, k, v in windows]
        strips.append(torch.cat(attended, 2))
    return torch.cat(strips, 1)


def _cut(x: Tensor, sides: list[list[int]]) -> list[tuple[Tensor, ...]]:
    """Cut maps ``P H W C`` into rows of windows ``P a b C``."""
    return [row.split(sides[1], 2) for row in x.split(sides[0], 1)]
