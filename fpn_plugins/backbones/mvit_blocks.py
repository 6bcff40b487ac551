"""Blocks of MViTv2: attention on pooled queries, keys and values, within windows or over the whole map.

Source: MViTv2 (arXiv:2112.01526), sections 4.1 (decomposed relative positions, residual pooling) and 4.2 (hybrid window
attention); detectron2's ``modeling/backbone/mvit.py``, to which it is equal. Letters in the shapes: ``M`` heads, ``D``
channels of a head; ``h w`` is the grid of keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops.tracing import traced
from .attention import fused_pooled_attention, pooled_relative_rows
from .blocked_attention import blocked_window_attention
from .linear import is_plain, linear_after, linear_after_norm, linear_parts_after_norm
from .vit_blocks import MLP, DropPath, from_windows, to_windows

MLP_RATIO = 4


class BlockPlan(NamedTuple):
    """What distinguishes the blocks of one network.

    Attributes:
        in_channels: channels of the input.
        out_channels: channels of the output, and of queries, keys and values.
        num_heads: heads of the attention; divides ``out_channels``.
        stride_q: step of the queries' pooling, and so of the output.
        stride_kv: step of the keys' and values' pooling.
        window_size: side of the attention windows in cells of the input, a multiple of both steps; 0 is attention over
            the whole map.
        rel_pos_size: side of the input map, in cells, that the tables of relative positions are made for; any other
            gets them linearly resized.
    """

    in_channels: int
    out_channels: int
    num_heads: int
    stride_q: int
    stride_kv: int
    window_size: int
    rel_pos_size: int


class MultiScaleAttention(nn.Module):
    """Attention whose queries, keys and values are pooled by convolutions, with the queries added to the result.

    Args:
        plan: channels, heads, steps and windows.
        norm_eps: of the norms.

    Windows that reach over the edge are filled up with zeros behind the pooling, and these take part in the attention
    as tokens do, as in detectron2: checkpoints were trained so. For the backward pass are kept the input, queries, keys
    and values before and behind their pooling, and what the attention returns.
    """

    def __init__(self, plan: BlockPlan, norm_eps: float) -> None:
        super().__init__()
        self.num_heads = plan.num_heads
        self.finer_keys = plan.stride_kv < plan.stride_q
        self.q_window, self.kv_window = plan.window_size // plan.stride_q, plan.window_size // plan.stride_kv
        channels = plan.out_channels // plan.num_heads
        self.qkv = nn.Linear(plan.in_channels, 3 * plan.out_channels)
        self.proj = nn.Linear(plan.out_channels, plan.out_channels)
        self.pool_q, self.norm_q = _pooling(channels, plan.stride_q), nn.LayerNorm(channels, norm_eps)
        self.pool_k, self.norm_k = _pooling(channels, plan.stride_kv), nn.LayerNorm(channels, norm_eps)
        self.pool_v, self.norm_v = _pooling(channels, plan.stride_kv), nn.LayerNorm(channels, norm_eps)
        length = 2 * (plan.rel_pos_size // min(plan.stride_q, plan.stride_kv)) - 1
        self.rel_pos_h = nn.Parameter(torch.zeros(length, channels))
        self.rel_pos_w = nn.Parameter(torch.zeros(length, channels))

    def forward(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Map ``B H W C_in``, normed by ``norm`` first, to ``B ceil(H / stride_q) ceil(W / stride_q) C``."""
        channels = self.num_heads * self.rel_pos_h.shape[1]
        q, kv = linear_parts_after_norm(norm, self.qkv, x, (channels, 2 * channels))
        (q,) = self._pool(q, (self.pool_q,), (self.norm_q,))
        k, v = self._pool(kv, (self.pool_k, self.pool_v), (self.norm_k, self.norm_v))  # B h w M D
        out = self._attend(q, k, v)
        return linear_after(_sum_of_heads, self.proj, out, q)

    def _pool(self, x: Tensor, pools: Sequence[nn.Conv2d], norms: Sequence[nn.LayerNorm]) -> list[Tensor]:
        """Pool tokens ``B H W C`` of one part for each pooling, every head by the same filters, to ``B h w M D``."""
        if all(is_plain(pool, nn.Conv2d) for pool in pools):
            parts = self._pool_at_once(x, pools)
        else:
            parts = [self._pool_heads(part, pool) for part, pool in zip(x.chunk(len(pools), 3), pools, strict=True)]
        # autocast norms in single precision, and attends in half
        return [norm(part).to(part.dtype) for norm, part in zip(norms, parts, strict=True)]

    def _pool_at_once(self, x: Tensor, pools: Sequence[nn.Conv2d]) -> list[Tensor]:
        """All poolings and heads as groups of one convolution."""
        weight = torch.cat([pool.weight.repeat(self.num_heads, 1, 1, 1) for pool in pools])
        step, padding = pools[0].stride, pools[0].padding
        pooled = F.conv2d(x.permute(0, 3, 1, 2), weight, None, step, padding, groups=len(weight)).permute(0, 2, 3, 1)
        return [part.unflatten(3, (self.num_heads, -1)) for part in pooled.chunk(len(pools), 3)]

    def _pool_heads(self, x: Tensor, pool: nn.Conv2d) -> Tensor:
        """By a call of the module, heads as images."""
        maps = x.unflatten(3, (self.num_heads, -1)).permute(0, 3, 4, 1, 2)  # B M D H W
        return pool(maps.flatten(0, 1)).unflatten(0, maps.shape[:2]).permute(0, 3, 4, 1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of all tokens of ``q`` (``B H W M D``) to those of ``k``, ``v`` (``B h w M D``) in their window."""
        q_sides = (self.q_window,) * 2 if self.q_window else q.shape[1:3]
        k_sides = (self.kv_window,) * 2 if self.q_window else k.shape[1:3]
        rows_h = pooled_relative_rows(self.rel_pos_h, q_sides[0], k_sides[0], self.finer_keys).to(q.dtype)
        rows_w = pooled_relative_rows(self.rel_pos_w, q_sides[1], k_sides[1], self.finer_keys).to(q.dtype)
        if not traced() and q.device.type == "cpu":
            return blocked_window_attention(q, k, v, rows_h, rows_w)
        return self._attend_fused(q, k, v, rows_h, rows_w)

    def _attend_fused(self, q: Tensor, k: Tensor, v: Tensor, rows_h: Tensor, rows_w: Tensor) -> Tensor:
        height, width = q.shape[1:3]
        if self.q_window:
            q = to_windows(q.flatten(3), self.q_window)
            k, v = (to_windows(part.flatten(3), self.kv_window) for part in (k, v))
        queries, keys, values = (
            part.reshape(part.shape[0], -1, self.num_heads, rows_h.shape[-1]).transpose(1, 2) for part in (q, k, v)
        )  # B M N D
        out = fused_pooled_attention(queries, keys, values, rows_h, rows_w).transpose(1, 2).reshape(q.shape)
        if self.q_window:
            out = from_windows(out, height, width).unflatten(3, (self.num_heads, -1))
        return out


def _sum_of_heads(out: Tensor, q: Tensor) -> Tensor:
    """Residual pooling: the queries are added; ``B H W M D`` to ``B H W M*D``."""
    return (out + q).flatten(3)


def _pooling(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


class MultiScaleBlock(nn.Module):
    """Attention and MLP, each with its norm and shortcut; where the channels change, the shortcut is projected.

    Args:
        plan: channels, heads, steps and windows.
        drop_path: probability of leaving out a residual branch in training.
        norm_eps: of the norms.

    State dict (detectron2's names): ``norm1``, ``attn.{qkv,proj}``, ``attn.{pool,norm}_{q,k,v}``,
    ``attn.rel_pos_{h,w}``, ``norm2``, ``mlp.{fc1,fc2}``, ``proj`` where the channels change.
    """

    def __init__(self, plan: BlockPlan, drop_path: float, norm_eps: float) -> None:
        super().__init__()
        stride = plan.stride_q
        self.norm1 = nn.LayerNorm(plan.in_channels, norm_eps)
        self.attn = MultiScaleAttention(plan, norm_eps)
        self.norm2 = nn.LayerNorm(plan.out_channels, norm_eps)
        self.mlp = MLP(plan.out_channels, MLP_RATIO * plan.out_channels)
        self.drop_path = DropPath(drop_path)
        changes = plan.in_channels != plan.out_channels
        self.proj = nn.Linear(plan.in_channels, plan.out_channels) if changes else None
        self.pool_skip = nn.MaxPool2d(stride + 1, stride, stride // 2) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B H W C_in`` to ``B ceil(H / stride_q) ceil(W / stride_q) C_out``."""
        shortcut = x if self.proj is None else linear_after_norm(self.norm1, self.proj, x)
        if self.pool_skip is not None:
            shortcut = self.pool_skip(shortcut.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = shortcut + self.drop_path(self.attn(x, self.norm1))
        return x + self.drop_path(self.mlp(x, self.norm2))
