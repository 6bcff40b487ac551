"""Multi-head self-attention on a grid of tokens, with decomposed relative positions.

The score of query ``q`` at ``(y, x)`` and key ``k`` at ``(v, u)`` is ``s q.k + q.R_h[y - v] + q.R_w[x - u]``: one table
per axis, scored against the *unscaled* query. Source: MViTv2 (arXiv:2112.01526, eq. 4), as used by ViTDet
(arXiv:2203.16527); names and results are those of detectron2's ``modeling/backbone/vit.py``.

The ``N x N`` scores of all heads are what makes attention over a whole map expensive; none of the ways below holds
them, in training neither. `attend` chooses by where it runs.

Letters in the shapes: ``B`` batch, ``M`` heads, ``H W`` grid, ``N = H W`` tokens in row-major order, ``D`` channels of
a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.tracing import traced
from ..weights.resize import resize_relative_positions
from .blocked_attention import blocked_attention, position_scores
from .linear import apply_linear

# fused kernels want heads of a multiple of this many channels
FUSED_WIDTH = 8


class Attention(nn.Module):
    """Attention between all tokens of a grid.

    Args:
        dim: channels of a token.
        num_heads: heads; divides ``dim``.
        qkv_bias: whether queries, keys and values have a bias.
        rel_pos_size: height and width, in tokens, of the grid that the tables of relative positions are made for; any
            other grid gets them linearly resized. ``None`` is without relative positions.

    State dict: ``qkv.*``, ``proj.*`` and the tables ``rel_pos_h`` (``2 height - 1, D``) and ``rel_pos_w``.

    Raises:
        ValueError: heads that do not divide the channels.
    """

    def __init__(
        self, dim: int, num_heads: int, qkv_bias: bool = True, rel_pos_size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads={num_heads} must divide the {dim} channels of a token")
        self.num_heads = num_heads
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
        batch, height, width, channels = x.shape
        qkv = apply_linear(self.qkv, x).reshape(batch, height * width, 3, self.num_heads, channels // self.num_heads)
        if self.rel_pos_h is None or self.rel_pos_w is None:
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        else:
            rows_h, rows_w = relative_rows(self.rel_pos_h, height), relative_rows(self.rel_pos_w, width)
            out = attend(qkv, rows_h.to(qkv.dtype), rows_w.to(qkv.dtype))
        return apply_linear(self.proj, out.reshape(batch, height, width, channels))


def relative_rows(table: Tensor, size: int) -> Tensor:
    """The rows of a table for each pair of positions along an axis.

    Args:
        table: ``L D``, for the distances ``-(L - 1) / 2 .. (L - 1) / 2``.
        size: cells along the axis; unless ``L = 2 size - 1`` the table is linearly resized to that.

    Returns:
        ``size size D``, for each query position and each key position.
    """
    table = resize_relative_positions(table, 2 * size - 1)
    position = torch.arange(size, device=table.device)
    return table[position[:, None] - position + size - 1]


def pooled_relative_rows(table: Tensor, q_size: int, k_size: int, finer_keys: bool) -> Tensor:
    """`relative_rows` where queries and keys are pooled by different steps.

    Distances are those of the finer grid, rounded down in single precision, as in MViTv2's official code and
    detectron2's: where rounding errors decide, they decide alike.

    Args:
        table: ``L D``, linearly resized unless ``L = 2 max(q_size, k_size) - 1``.
        q_size: queries along the axis.
        k_size: keys along the axis.
        finer_keys: whether there are at least as many keys as queries, or at most as many. It is not computed from the
            sizes, so that a trace does not depend on them.

    Returns:
        ``q_size k_size D``.
    """
    table = resize_relative_positions(table, 2 * (k_size if finer_keys else q_size) - 1)
    sizes = [torch.full((), size, dtype=torch.float64, device=table.device) for size in (q_size, k_size)]
    queries = torch.arange(q_size, device=table.device)[:, None]
    keys = torch.arange(k_size, device=table.device)
    if finer_keys:
        distance = queries * (sizes[1] / sizes[0]).float() - keys + (k_size - 1)
    else:
        step = sizes[0] / sizes[1]
        distance = queries - keys * step.float() + ((k_size - 1) * step).float()
    return table[distance.long()]


def attend(qkv: Tensor, rows_h: Tensor, rows_w: Tensor) -> Tensor:
    """``softmax(q k / sqrt(D) + relative positions) v`` without the ``B M N N`` scores in memory.

    On a CPU `blocked_attention`, which took about half of the other's time at 64 x 64 tokens; on other devices, and
    whenever the network is traced (``torch.compile``, ``torch.export``, ONNX), `fused_attention`, which is one kernel
    and no loop.

    Args:
        qkv: queries, keys and values of the tokens, ``B N 3 M D``.
        rows_h: `relative_rows` of the vertical axis, ``H H D`` with ``H W = N``, of the type of ``qkv``.
        rows_w: of the horizontal axis, ``W W D``.

    Returns:
        ``B N M D``.
    """
    if qkv.device.type == "cpu" and not traced():
        return blocked_attention(qkv, rows_h, rows_w)
    return fused_attention(qkv, rows_h, rows_w)


def reference_attention(qkv: Tensor, rows_h: Tensor, rows_w: Tensor) -> Tensor:
    """The definition, with all scores in memory: what the others are tested against. Arguments as of `attend`."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # B M N D
    bias_h, bias_w = position_scores(q, rows_h, rows_w)
    bias = (bias_h[..., :, None] + bias_w[..., None, :]).flatten(-2)
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + bias
    return (scores.softmax(-1) @ v).transpose(1, 2)


def fused_attention(qkv: Tensor, rows_h: Tensor, rows_w: Tensor) -> Tensor:
    """`attend` on ``scaled_dot_product_attention``; see `fused_pooled_attention`."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # B M N D
    return fused_pooled_attention(q, k, v, rows_h, rows_w).transpose(1, 2)


def fused_pooled_attention(q: Tensor, k: Tensor, v: Tensor, rows_h: Tensor, rows_w: Tensor) -> Tensor:
    """Attention with relative positions on fused kernels, which take no such bias as an argument.

    Each query carries its scores of the relative positions, each key the one-hot rows of its position, so that the
    kernel's own product adds them: ``[q, b_h, b_w] . [k, e_v, e_u] = q.k + b_h[v] + b_w[u]``. The values are filled up
    to the same width, which the fused kernels ask for.

    Args:
        q: queries ``B M N D``, ``N = H W``.
        k: keys ``B M n D``, of the same grid or of another one, ``n = h w``.
        v: values, the same shape as ``k``.
        rows_h: rows of the vertical axis for each pair of positions, ``H h D``.
        rows_w: of the horizontal axis, ``W w D``.

    Returns:
        ``B M N D``.
    """
    height, width, channels = rows_h.shape[1], rows_w.shape[1], q.shape[-1]
    hot_h = _one_hot_rows(height, k)[:, None].expand(height, width, height)
    hot_w = _one_hot_rows(width, k).expand(height, width, width)
    hot = torch.cat([hot_h, hot_w], -1).flatten(0, 1)  # n h+w
    queries = torch.cat([q * channels**-0.5, *position_scores(q, rows_h, rows_w)], -1)
    keys = torch.cat([k, hot.expand(*k.shape[:3], height + width)], -1)
    spare = -(channels + height + width) % FUSED_WIDTH
    values = F.pad(v, (0, height + width + spare))
    out = F.scaled_dot_product_attention(F.pad(queries, (0, spare)), F.pad(keys, (0, spare)), values, scale=1.0)
    return out[..., :channels]


def _one_hot_rows(size: int, like: Tensor) -> Tensor:
    """Identity matrix; unlike ``F.one_hot`` and ``torch.eye`` it can be traced with any ``size``."""
    position = torch.arange(size, device=like.device)
    return (position[:, None] == position).to(like.dtype)
