"""Equivalent ways to compute ``softmax(scale q k + bias) v``; `attend` chooses among them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tracing import traced
from .blocked import blocked_attention

# fused kernels need a multiple of this many channels per head
FUSED_WIDTH = 8


class AxialBias(NamedTuple):
    """A bias of attention scores that is the sum of one term per axis of the keys' grid ``h w``.

    The score of query ``i`` and the key at ``(y, x)`` gets ``rows[..., i, y] + columns[..., i, x]``, as with decomposed
    relative positions (MViTv2, arXiv:2112.01526, eq. 4). It is ``h w / (h + w)`` times smaller than the scores.

    Attributes:
        rows: ``B M N h``.
        columns: ``B M N w``.
    """

    rows: Tensor
    columns: Tensor

    def dense(self) -> Tensor:
        """Compute the bias of all scores, ``B M N h*w``."""
        return (self.rows[..., :, None] + self.columns[..., None, :]).flatten(-2)


Bias = Tensor | AxialBias | None
# q, k, v, bias, scale -> B M N D; some forms take only an `AxialBias`
Form = Callable[[Tensor, Tensor, Tensor, Any, float], Tensor]


def plain(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float) -> Tensor:
    """Compute matrix products and a softmax; all scores are in memory and, in training, kept for backward."""
    scores = (q * scale) @ k.mT
    bias = _dense(bias)
    return (scores if bias is None else scores + bias).softmax(-1) @ v


def masked(q: Tensor, k: Tensor, v: Tensor, bias: Bias, scale: float) -> Tensor:
    """Call ``scaled_dot_product_attention`` with the bias as an additive mask, which is as large as the scores."""
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=_dense(bias), scale=scale)
    # an exported graph may run on another kernel, whose result has other strides
    return out.clone(memory_format=torch.contiguous_format) if traced() else out


def widened(q: Tensor, k: Tensor, v: Tensor, bias: AxialBias, scale: float) -> Tensor:
    """Call ``scaled_dot_product_attention`` without a mask: the bias is part of wider queries and keys.

    Each query carries its bias and each key the one-hot rows of its position, so that the kernel's own product adds
    them: ``[s q, b_h, b_w] . [k, e_y, e_x] = s q.k + b_h[y] + b_w[x]``. Values are zero-padded to the same width, which
    flash kernels need. No tensor is as large as the scores.
    """
    queries, keys = _widen(q, k, bias, scale)
    values = F.pad(v, (0, queries.shape[-1] - v.shape[-1]))
    return F.scaled_dot_product_attention(queries, keys, values, scale=1.0)[..., : v.shape[-1]]


def widened_narrow(q: Tensor, k: Tensor, v: Tensor, bias: AxialBias, scale: float) -> Tensor:
    """Compute `widened` with values of their own width, for the memory-efficient kernel.

    That kernel takes keys of any width, but no values whose width is not a multiple of `FUSED_WIDTH`.
    """
    queries, keys = _widen(q, k, bias, scale)
    spare = -v.shape[-1] % FUSED_WIDTH
    values = F.pad(v, (0, spare)) if spare else v
    return F.scaled_dot_product_attention(queries, keys, values, scale=1.0)[..., : v.shape[-1]]


def widened_channels(q: Tensor, bias: AxialBias) -> int:
    """Channels of a head's queries and keys in `widened`."""
    channels = q.shape[-1] + bias.rows.shape[-1] + bias.columns.shape[-1]
    return channels + -channels % FUSED_WIDTH


def blocked(q: Tensor, k: Tensor, v: Tensor, bias: AxialBias, scale: float) -> Tensor:
    """Compute one block of scores at a time; see `blocked_attention`."""
    rows, columns = (x.expand(*q.shape[:3], -1) for x in bias)
    return blocked_attention(q, k, v, rows, columns, scale)


def _dense(bias: Bias) -> Tensor | None:
    return bias.dense() if isinstance(bias, AxialBias) else bias


def _widen(q: Tensor, k: Tensor, bias: AxialBias, scale: float) -> tuple[Tensor, Tensor]:
    height, width = bias.rows.shape[-1], bias.columns.shape[-1]
    by_row = _identity(height, k)[:, None].expand(height, width, height)
    by_column = _identity(width, k).expand(height, width, width)
    positions = torch.cat([by_row, by_column], -1).flatten(0, 1)  # n h+w
    queries = torch.cat([q * scale, *(x.expand(*q.shape[:3], -1) for x in bias)], -1)
    keys = torch.cat([k, positions.expand(*k.shape[:2], -1, -1)], -1)
    spare = -queries.shape[-1] % FUSED_WIDTH
    return F.pad(queries, (0, spare)), F.pad(keys, (0, spare))


def _identity(size: int, like: Tensor) -> Tensor:
    """Build an identity matrix; unlike ``F.one_hot`` and ``torch.eye``, it can be traced with any ``size``."""
    position = torch.arange(size, device=like.device)
    return (position[:, None] == position).to(like.dtype)
