"""Multi-head self-attention on a grid of tokens, with decomposed relative positions.

The score of query ``q`` at ``(y, x)`` and key ``k`` at ``(v, u)`` is ``s q.k + q.R_h[y - v] + q.R_w[x - u]``, with one
table per axis and the *unscaled* query in the last two terms. Source: MViTv2 (arXiv:2112.01526, eq. 4), as used by
ViTDet (arXiv:2203.16527); names and results match Detectron2's ``modeling/backbone/vit.py``.

Letters in the shapes: ``B`` batch, ``M`` heads, ``H W`` grid, ``N = H W`` tokens in row-major order, ``D`` channels of
a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...checks import divisor
from ...ops.attention import AxialBias, attend_grids
from ...ops.tracing import traced
from ...ops.windows import from_windows, to_windows
from ...weights.resize import resize_relative_positions


class Attention(nn.Module):
    """Multi-head self-attention over all tokens of a map, or within windows.

    Args:
        dim: channels of a token.
        num_heads: number of heads; divides ``dim``.
        qkv_bias: whether queries, keys and values have a bias.
        rel_pos_size: height and width, in tokens, of the grid for the tables of relative positions, which are linearly
            resized for other grids. ``None`` omits relative positions.
        window_size: side of the windows in tokens; 0 attends over the whole map.
        zero_window_padding: pad queries, keys and values, as in ViT-Adapter (arXiv:2205.08534), instead of tokens.

    Maps are zero-padded to whole windows, and the padding takes part in the attention, as in Detectron2, because
    checkpoints were trained this way.

    State dict: ``qkv.*``, ``proj.*`` and the tables ``rel_pos_h`` (``2 height - 1, D``) and ``rel_pos_w``.

    Raises:
        ValueError: heads that do not divide the channels.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        rel_pos_size: tuple[int, int] | None = None,
        window_size: int = 0,
        zero_window_padding: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads = divisor("num_heads", num_heads, dim, "channels of a token")
        self.window_size = window_size
        self.zero_window_padding = zero_window_padding
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h: nn.Parameter | None = None
        self.rel_pos_w: nn.Parameter | None = None
        if rel_pos_size is not None:
            height, width = rel_pos_size
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * height - 1, dim // num_heads))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * width - 1, dim // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``B H W C`` to tokens of the same shape."""
        if self.window_size == 0:
            return self._attend(self.qkv(x))
        if self.zero_window_padding:
            windows = to_windows(self.qkv(x), self.window_size)
        else:
            windows = self.qkv(to_windows(x, self.window_size))
        return from_windows(self._attend(windows), *x.shape[1:3])

    def _attend(self, qkv: Tensor) -> Tensor:
        """Attend within grids of queries, keys and values ``B H W 3*C``."""
        height, width = qkv.shape[1:3]
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1))  # B H W 3 M D
        q, k, v = qkv.permute(3, 0, 4, 1, 2, 5).unbind(0)  # B M H W D
        bias = None
        if self.rel_pos_h is not None and self.rel_pos_w is not None:
            bias = relative_bias(q, relative_rows(self.rel_pos_h, height), relative_rows(self.rel_pos_w, width))
        out = attend_grids(q, k, v, bias)
        return self.proj(out.permute(0, 2, 3, 1, 4).flatten(3))


def reference_attention(q: Tensor, k: Tensor, v: Tensor, rows_h: Tensor, rows_w: Tensor) -> Tensor:
    """Compute attention with relative positions by its definition, which `attend` is tested against.

    Args:
        q: queries ``B M N D``.
        k: keys ``B M n D``.
        v: values, the same shape as ``k``.
        rows_h: embedding of each query row and each key row, ``H h D``.
        rows_w: embedding of each query column and each key column, ``W w D``.
    """
    scores = q @ k.mT / q.shape[-1] ** 0.5
    grid = q.unflatten(2, (rows_h.shape[0], rows_w.shape[0]))
    scores_h = torch.einsum("bmyxd,yvd->bmyxv", grid, rows_h)
    scores_w = torch.einsum("bmyxd,xud->bmyxu", grid, rows_w)
    positions = scores_h[..., :, None] + scores_w[..., None, :]  # B M H W h w
    return (scores + positions.flatten(4, 5).flatten(2, 3)).softmax(-1) @ v


def relative_bias(q: Tensor, rows_h: Tensor, rows_w: Tensor) -> AxialBias:
    """Score queries ``B M H W D`` against the embeddings of relative positions: ``B M H W h`` and ``B M H W w``.

    ``rows_h`` and ``rows_w`` are the arguments of `reference_attention`.
    """
    scores_h = torch.einsum("bmyxd,yvd->bmyxv", q, rows_h.to(q.dtype))
    scores_w = torch.einsum("bmyxd,xud->bmyxu", q, rows_w.to(q.dtype))
    return AxialBias(scores_h, scores_w)


def relative_rows(table: Tensor, size: int) -> Tensor:
    """Look up the embedding of each pair of positions along an axis.

    Args:
        table: ``L D``, for the distances ``-(L - 1) / 2 .. (L - 1) / 2``.
        size: cells along the axis; the table is linearly resized unless ``L = 2 size - 1``.

    Returns:
        ``size size D``, for each query position and each key position.
    """
    table = resize_relative_positions(table, 2 * size - 1)
    position = torch.arange(size, device=table.device)
    return table[position[:, None] - position + size - 1]


def pooled_relative_rows(
    table: Tensor, q_size: int, k_size: int, finer_keys: bool, queries: Tensor | None = None
) -> Tensor:
    """Look up embeddings, ``q_size k_size D``, like `relative_rows` but for queries and keys on different grids.

    Distances are measured on the finer grid and rounded down in single precision, so rounding errors are the same as in
    MViTv2's official code and detectron2.

    Args:
        table: ``L D``, linearly resized unless ``L = 2 max(q_size, k_size) - 1``.
        q_size: queries along the axis.
        k_size: keys along the axis.
        finer_keys: whether there are at least as many keys as queries; an argument, so that a trace does not depend on
            the sizes.
        queries: positions of the queries of the result; ``None`` for all in turn.
    """
    table = resize_relative_positions(table, 2 * (k_size if finer_keys else q_size) - 1)
    if queries is None:
        queries = torch.arange(q_size, device=table.device)
    keys = torch.arange(k_size, device=table.device)
    larger, smaller = (k_size, q_size) if finer_keys else (q_size, k_size)
    step = _quotient(larger, smaller, table.device)
    if finer_keys:
        distance = queries[:, None] * _single(step) - keys + (k_size - 1)
    else:
        distance = queries[:, None] - keys * _single(step) + _single((k_size - 1) * step)
    return table[distance.long()]


def _quotient(size: int, other: int, device: torch.device) -> Any:
    """Divide in double precision; in a trace, on the device, since the sizes are those of each run."""
    if not traced():
        return size / other
    return torch.full((), size, dtype=torch.float64, device=device) / torch.full(
        (), other, dtype=torch.float64, device=device
    )


def _single(x: Any) -> Any:
    """Round to single precision, as PyTorch does with numbers that are not tensors."""
    return x.float() if isinstance(x, Tensor) else x
